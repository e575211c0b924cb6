"""Reading bags of ROS 2, in MCAP or SQLite3."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vla_runtime.errors import BadInput

if TYPE_CHECKING:
    from rosbags.rosbag2 import Reader


class Recorded(NamedTuple):
    """A message as it lies in a bag. time: when it was received, in [ns]. data: CDR, as it came over the wire."""

    topic: str
    time: int
    kind: str
    data: bytes


@contextmanager
def opened(root: Path) -> Iterator[Reader]:
    """The bag in the directory ``root``; whatever goes wrong while it is read is a `BadInput`."""
    try:
        import apsw
        from rosbags.rosbag2 import Reader, ReaderError
        from rosbags.serde import SerdeError
    except ImportError as error:
        raise BadInput(f"reading a bag needs rosbags ({error}): pip install 'vla-deploy[bags]'") from error

    try:
        with Reader(root) as reader:
            yield reader
    except (ReaderError, SerdeError, apsw.Error, OSError, OverflowError, UnicodeDecodeError, struct.error) as error:
        raise BadInput(f"{root} cannot be read as a bag ({error}): copy it again, or try ros2 bag reindex") from error


def topics(reader: Reader) -> dict[str, str]:
    """What the bag holds: topic → type."""
    return {connection.topic: connection.msgtype for connection in reader.connections}


def recorded(reader: Reader, chosen: Iterable[str]) -> Iterator[Recorded]:
    """Every message on the topics ``chosen``, in the order of their receipt."""
    wanted = set(chosen)
    connections = [connection for connection in reader.connections if connection.topic in wanted]
    if not connections:  # to the reader, none means all
        return
    for connection, time, data in reader.messages(connections):
        yield Recorded(connection.topic, time, connection.msgtype, data)
