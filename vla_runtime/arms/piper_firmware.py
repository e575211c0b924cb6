"""Which PiPER firmware there is, and what a driver has to know about each.

Differences that touch MIT mode alone (firmware before S-V1.7-3 turns joints 1, 2, 4 and 6 the other way; the torque
encoding changed with S-V1.8-3 and S-V1.8-8) are no concern here: nothing in this project commands MIT mode.
"""

from __future__ import annotations

import re

from vla_runtime.errors import WorkFailed

_VERSION = re.compile(r"S-V(\d)\.(\d)-(\d)")
_LENGTH = 8  # fixed in the controller's identity text; what follows is its date, in digits too

_OLDEST = (1, 5, 2)  # piper_sdk: older firmware speaks the protocol of its versions 0.0.x
_NEWEST_KNOWN = (1, 9, 0)
_ZEROS_MOVED = (1, 6, 3)
_STUCK_IN_MIT = (1, 8, 5)  # piper_sdk issue 83: up to here, a position mode does not follow MIT mode


def version_in(identity: bytes) -> str | None:
    """The version in the text that the controller answers an identity query with; None while it is not in it."""
    start = identity.find(b"S-V")
    if start < 0 or len(identity) < start + _LENGTH:
        return None
    return identity[start : start + _LENGTH].decode("ascii", errors="replace")


def notes(version: str) -> tuple[str, ...]:
    """What an operator should know about this firmware, in words; empty for most.

    Raises `WorkFailed` for one that cannot be driven safely, because it is not a version or speaks another protocol.
    """
    number = _number(version)
    if number < _OLDEST:
        raise WorkFailed(
            f"firmware {version} speaks another protocol than S-V1.5-2 and later: update it with the manufacturer's "
            "tool"
        )
    found = []
    if number < _ZEROS_MOVED:
        found.append(
            f"firmware {version} has the zeros of joints 2 and 3 two degrees away from those of S-V1.6-3 and later: "
            "poses are computed for it, but joint positions recorded on newer firmware mean another posture"
        )
    if number > _NEWEST_KNOWN:
        found.append(f"firmware {version} is newer than S-V1.9-0, the newest known here: watch its first motions")
    return tuple(found)


def stuck_in_mit_mode(version: str) -> bool:
    """Whether this firmware, once in MIT mode, ignores joint targets until it is powered off and on."""
    return _number(version) <= _STUCK_IN_MIT


def _number(version: str) -> tuple[int, ...]:
    found = _VERSION.fullmatch(version)
    if found is None:
        raise WorkFailed(
            f"firmware {version!r} is not a version such as 'S-V1.8-2': its protocol and the zeros of its joints are "
            "not known, so it is not driven"
        )
    return tuple(int(part) for part in found.groups())
