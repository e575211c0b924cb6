"""Recognising a pickle, whatever it is called: loading one runs its author's code, so a bundle never holds one."""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path

_SUFFIXES = frozenset({".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib"})
_IMPORTS = frozenset({"GLOBAL", "INST", "STACK_GLOBAL"})
_HEAD_BYTES = 1 << 20


def is_pickle(path: Path) -> bool:
    """Whether a file is a pickle or a ``torch.save`` archive, by its name or by its content.

    The content is read as pickle opcodes, not compared with two magic bytes: raw weights may begin with any bytes,
    but do not read on as a program.
    """
    return path.suffix.lower() in _SUFFIXES or _is_torch_archive(path) or _reads_as_pickle(path)


def _is_torch_archive(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _reads_as_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        opcodes = _leading_opcodes(file.read(_HEAD_BYTES))
    has_protocol = opcodes[:1] == ["PROTO"]
    imports = not _IMPORTS.isdisjoint(opcodes)
    if opcodes[-1:] == ["STOP"]:
        return has_protocol or imports
    return has_protocol and (imports or "FRAME" in opcodes)  # longer than the head


def _leading_opcodes(head: bytes) -> list[str]:
    opcodes = []
    try:
        for opcode, _, _ in pickletools.genops(head):
            opcodes.append(opcode.name)
    except ValueError:  # the bytes stop being a pickle here
        pass
    return opcodes
