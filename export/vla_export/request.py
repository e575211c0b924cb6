"""What the user asked of an export, checked before any work begins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from vla_export.adapters.adapter import Adapter
from vla_export.adapters.lora_sp import read_lora_sp
from vla_export.adapters.merge import MergeMode
from vla_export.prune.spec import PruneStep, parse_prune
from vla_runtime.bundle.manifest import Precision
from vla_runtime.errors import BadInput

ADAPTER_FILE = "adapters.safetensors"
TRT: tuple[Precision, ...] = ("fp32", "fp16")  # int8 graphs are ONNX Runtime's alone


@dataclass(frozen=True)
class ExportRequest:
    """One export.

    precisions: which graphs the bundle is to hold, None for what suits the policy's size. trt: the precision an engine
    is wanted in, whose graphs the bundle holds too; None builds none.
    """

    checkpoint: Path
    output: Path
    adapter: Adapter | None
    merge: MergeMode
    prune: tuple[PruneStep, ...]
    calibration: Path | None
    task: str | None
    precisions: tuple[Precision, ...] | None
    trt: Precision | None

    @property
    def half(self) -> bool | None:
        """Whether no stage needs float32 weights; None where the policy's size decides."""
        if any(precision != "fp16" for precision in (*(self.precisions or ()), self.trt) if precision is not None):
            return False
        return None if self.precisions is None else True

    def wanted(self, large: bool) -> tuple[Precision, ...]:
        """Which graphs to export, in this order: those in fp16 last, which leave no float32 weights behind.

        Without a wish, those of a ``large`` policy are fp16: no CPU runs it usefully in fp32, and the robot's engine
        is half anyway.
        """
        chosen = set(self.precisions or (("fp16",) if large else ("fp32",))) | {self.trt}
        return tuple(precision for precision in ("fp32", "int8", "fp16") if precision in chosen)


def parse_request(
    checkpoint: Path,
    *,
    output: Path | None = None,
    adapter: Path | None = None,
    merge: str | None = None,
    prune: tuple[str, ...] = (),
    calibration: Path | None = None,
    task: str | None = None,
    precision: str | None = None,
    trt: str | None = None,
) -> ExportRequest:
    """Words from the command line → a request; raises `BadInput` for what cannot be meant.

    The adapter beside the checkpoint is taken by default. One that lies there but was not asked for is an error too:
    a bundle without its adapter would be another policy.
    """
    if merge is not None and merge not in get_args(MergeMode):
        raise BadInput(f"--merge {merge}: expected exact, static or auto (put CHECKPOINT before --merge)")
    if calibration is not None and not calibration.is_dir():
        raise BadInput(
            f"--calibration {calibration}: no such directory; it takes a capture, a LeRobot dataset or a rosbag"
        )
    if task is not None and not task.strip():
        raise BadInput("--task is empty: give the text that the policy is to read")
    return ExportRequest(
        checkpoint=checkpoint,
        output=checkpoint / "bundle" if output is None else output,
        adapter=_adapter(checkpoint, adapter, merge),
        merge=_merge_mode(merge),
        prune=tuple(parse_prune(",".join(prune))) if prune else (),
        calibration=calibration,
        task=task,
        precisions=None if precision is None else tuple(_precisions(precision)),
        trt=None if trt is None else _trt(trt),
    )


def _adapter(checkpoint: Path, adapter: Path | None, merge: str | None) -> Adapter | None:
    beside = checkpoint / ADAPTER_FILE
    if merge is None:
        if adapter is not None:
            raise BadInput(f"--adapter {adapter}: add --merge to apply it")
        if beside.exists():
            raise BadInput(f"{beside} lies beside the checkpoint: add --merge to apply it, or move it away")
        return None
    if adapter is not None and adapter.is_dir():
        adapter = adapter / ADAPTER_FILE
    if adapter is None and not beside.exists():
        raise BadInput(f"--merge: no {ADAPTER_FILE} in {checkpoint.resolve()}; name the adapter with --adapter PATH")
    return read_lora_sp(beside if adapter is None else adapter)


def _merge_mode(merge: str | None) -> MergeMode:
    return next((mode for mode in get_args(MergeMode) if mode == merge), "auto")


def _precisions(words: str) -> Iterator[Precision]:
    for word in words.split(","):
        found = next((precision for precision in get_args(Precision) if precision == word.strip()), None)
        if found is None:
            raise BadInput(f"--precision {words}: {word!r} is none; expected some of {', '.join(get_args(Precision))}")
        yield found


def _trt(word: str) -> Precision:
    found = next((precision for precision in TRT if precision == word), None)
    if found is None:
        raise BadInput(f"--trt {word}: expected {' or '.join(TRT)}")
    return found
