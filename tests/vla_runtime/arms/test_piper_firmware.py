"""Versions that are driven, with what to know about them, and versions that are not."""

from __future__ import annotations

import pytest

from vla_runtime.arms.piper_firmware import notes, stuck_in_mit_mode, version_in
from vla_runtime.errors import WorkFailed


def test_the_version_ends_where_its_field_ends_and_the_date_begins() -> None:
    identity = b"H-V1.2-1" + bytes(52) + b"S-V1.6-5" + b"250409\0\0" + b"15"
    assert version_in(identity) == "S-V1.6-5"
    assert version_in(identity[:67]) is None
    assert version_in(b"") is None


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("S-V1.5-2", ["two degrees"]),
        ("S-V1.6-2", ["two degrees"]),
        ("S-V1.6-3", []),
        ("S-V1.7-2", []),
        ("S-V1.8-8", []),
        ("S-V1.9-0", []),
        ("S-V1.9-1", ["newer than S-V1.9-0"]),
        ("S-V2.0-0", ["newer than S-V1.9-0"]),
    ],
)
def test_what_to_know_about_a_version(version: str, said: list[str]) -> None:
    found = notes(version)
    assert len(found) == len(said)
    assert all(word in note for word, note in zip(said, found, strict=True))


def test_an_older_protocol_is_not_driven() -> None:
    with pytest.raises(WorkFailed, match=r"S-V1\.5-1 speaks another protocol.*update"):
        notes("S-V1.5-1")


@pytest.mark.parametrize("text", ["", "S-V1.8", "S-V1.8-x", "S-Va.b-c", "S-V1.8-10", "H-V1.2-1"])
def test_what_is_no_version_is_not_driven(text: str) -> None:
    with pytest.raises(WorkFailed, match="is not a version such as 'S-V1.8-2'"):
        notes(text)


def test_until_1_8_5_mit_mode_is_not_left() -> None:
    assert [stuck_in_mit_mode(f"S-V1.8-{patch}") for patch in (2, 5, 6)] == [True, True, False]
