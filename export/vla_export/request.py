"""What the user asked of an export, checked before any work begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from vla_export.adapters.lora_sp import LoRASPAdapter, read_lora_sp
from vla_export.adapters.merge import MergeMode
from vla_export.prune.spec import PruneStep, parse_prune
from vla_runtime.bundle.manifest import Precision
from vla_runtime.errors import BadInput

ADAPTER_FILE = "adapters.safetensors"


@dataclass(frozen=True)
class ExportRequest:
    """One export. ``trt`` is the precision an engine is wanted in; None builds none."""

    checkpoint: Path
    output: Path
    adapter: LoRASPAdapter | None
    merge: MergeMode
    prune: tuple[PruneStep, ...]
    calibration: Path | None
    trt: Precision | None


def parse_request(
    checkpoint: Path,
    *,
    output: Path | None = None,
    adapter: Path | None = None,
    merge: str | None = None,
    prune: tuple[str, ...] = (),
    calibration: Path | None = None,
    trt: str | None = None,
) -> ExportRequest:
    """Words from the command line → a request; raises `BadInput` for what cannot be meant.

    The adapter beside the checkpoint is taken by default. One that lies there but was not asked for is an error too:
    a bundle without its adapter would be another policy.
    """
    if merge is not None and merge not in get_args(MergeMode):
        raise BadInput(f"--merge {merge}: expected exact, static or auto (put CHECKPOINT before --merge)")
    if trt is not None and trt not in get_args(Precision):
        raise BadInput(f"--trt {trt}: expected {' or '.join(get_args(Precision))}")
    if calibration is not None and not calibration.is_dir():
        raise BadInput(f"--calibration {calibration}: no such directory; make one with vla-calibrate capture")
    return ExportRequest(
        checkpoint=checkpoint,
        output=checkpoint / "bundle" if output is None else output,
        adapter=_adapter(checkpoint, adapter, merge),
        merge=_merge_mode(merge),
        prune=tuple(parse_prune(",".join(prune))) if prune else (),
        calibration=calibration,
        trt=_precision(trt),
    )


def _adapter(checkpoint: Path, adapter: Path | None, merge: str | None) -> LoRASPAdapter | None:
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


def _precision(trt: str | None) -> Precision | None:
    return next((precision for precision in get_args(Precision) if precision == trt), None)
