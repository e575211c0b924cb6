"""The mark that replayed data carries, so that what answers it never moves an arm."""

from __future__ import annotations

_MARK = "replay"


def mark(frame: str) -> str:
    """``frame``, the frame_id of a header, with the mark."""
    return f"{_MARK}/{frame}" if frame else _MARK


def marked(frame: str) -> bool:
    """Whether the frame_id of a header has the mark."""
    return frame == _MARK or frame.startswith(f"{_MARK}/")
