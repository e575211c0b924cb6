"""Which CAN bus an arm is on, in one word: ``can0``, ``virtual:NAME`` or ``udp:NAME``."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vla_runtime.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    import can

BITRATE = 1_000_000  # [bit/s], fixed by the PiPER's controller

_FORMS = "a SocketCAN interface such as 'can0', 'virtual:NAME' (one process) or 'udp:NAME' (several processes)"
_IPV6_MULTICAST_ALL = 29  # linux/in6.h; Python's socket module does not name it


@dataclass(frozen=True)
class CanSpec:
    """A bus as python-can names it: its interface and the channel on it."""

    interface: str
    channel: str


def parse_spec(spec: str) -> CanSpec:
    """Read a bus specification; raises `BadInput` that names the allowed forms."""
    kind, colon, name = spec.partition(":")
    if not colon and re.fullmatch(r"[A-Za-z][\w.-]{0,14}", spec):
        return CanSpec("socketcan", spec)
    if kind in ("virtual", "udp") and re.fullmatch(r"[\w.-]{1,64}", name):
        return CanSpec("virtual", name) if kind == "virtual" else CanSpec("udp_multicast", _group(name))
    raise BadInput(f"CAN bus '{spec}' is not one I know: give {_FORMS}")


def open_bus(spec: str) -> can.BusABC:
    """Open the bus ``spec`` names. Raises `BadInput` for a bad specification, `WorkFailed` when it cannot be opened."""
    import can

    parsed = parse_spec(spec)
    try:
        bus = can.Bus(interface=parsed.interface, channel=parsed.channel, bitrate=BITRATE)
    except (can.CanError, OSError) as error:
        raise WorkFailed(f"CAN bus '{spec}' did not open ({error}): {remedy(parsed)}") from error
    isolate(bus, parsed)
    return bus


def isolate(bus: can.BusABC, spec: CanSpec) -> None:
    """Make a udp bus hear its own group only; other interfaces are isolated by themselves.

    Linux delivers a datagram for any group that any process has joined to every socket on that port, so without this
    one simulated arm would obey the commands meant for another.
    """
    if spec.interface != "udp_multicast":
        return
    with socket.socket(fileno=os.dup(bus.fileno())) as same_socket:
        same_socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)


def remedy(spec: CanSpec) -> str:
    """What to check when the bus ``spec`` does not open or stays silent."""
    if spec.interface == "socketcan":
        return (
            f"check the adapter and `ip -details link show {spec.channel}`, "
            f"then `sudo ip link set {spec.channel} up type can bitrate {BITRATE}`"
        )
    if spec.interface == "udp_multicast":
        return "check that the simulated arm is running and that some interface has IPv6 (`ip -6 route show table all`)"
    return "check that the simulated arm is running in this process"


def _group(name: str) -> str:
    """An IPv6 multicast group of interface-local scope (RFC 4291, 2.7), which no router or interface passes on."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    return "ff11:" + ":".join(digest[start : start + 4] for start in range(0, 28, 4))
