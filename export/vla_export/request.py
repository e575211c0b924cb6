"""What the user asked of an export, checked before any work begins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import get_args

from vla_export.adapters.adapter import Adapter
from vla_export.adapters.merge import MergeMode
from vla_export.adapters.reading import FORMS, find_adapter, read_adapter
from vla_export.error_budget import DEFAULT_BUDGET
from vla_export.prune.spec import AutoPrune, DivergenceWidth, PruneStep, parse_prune
from vla_runtime.bundle.manifest import Precision
from vla_runtime.errors import BadInput

TRT: tuple[Precision, ...] = ("fp32", "fp16")  # int8 graphs are ONNX Runtime's alone


@dataclass(frozen=True)
class ExportRequest:
    """One export.

    budget: how far a merge may move each number of the action, RMS, as a share of its scale; prune_budget: the same for
    pruning, which may move them any distance where it is None. With ``force`` both may move them further. base: the
    model that the policy was trained from. save_pruned: where the pruned policy goes as a checkpoint. precisions: which
    graphs the bundle is to hold, None for what suits the policy's size. trt: the precision an engine is wanted in,
    whose graphs the bundle holds too; None builds none. guided: whether it holds the graphs of guided real-time
    chunking.
    """

    checkpoint: Path
    output: Path
    adapter: Adapter | None
    merge: MergeMode
    budget: float
    prune_budget: float | None
    force: bool
    prune: tuple[PruneStep, ...]
    base: Path | None
    save_pruned: Path | None
    calibration: Path | None
    task: str | None
    precisions: tuple[Precision, ...] | None
    trt: Precision | None
    guided: bool = False

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
    adapter_config: Path | None = None,
    merge: str | None = None,
    error_budget: float | None = None,
    force: bool = False,
    prune: tuple[str, ...] = (),
    base: Path | None = None,
    save_pruned: Path | None = None,
    calibration: Path | None = None,
    task: str | None = None,
    precision: str | None = None,
    trt: str | None = None,
    rtc: str | None = None,
) -> ExportRequest:
    """Words from the command line → a request; raises `BadInput` for what cannot be meant.

    The adapter in the checkpoint's directory is taken by default. One that is there but was not asked for is an error
    too: a bundle without its adapter would be another policy.
    """
    if merge is not None and merge not in get_args(MergeMode):
        raise BadInput(f"--merge {merge}: expected exact, static or auto (put CHECKPOINT before --merge)")
    if calibration is not None and not calibration.is_dir():
        raise BadInput(
            f"--calibration {calibration}: no such directory; it takes a capture, a LeRobot dataset or a rosbag"
        )
    if task is not None and not task.strip():
        raise BadInput("--task is empty: give the text that the policy is to read")
    if merge is None:
        for flag, file in (("--adapter", adapter), ("--adapter-config", adapter_config)):
            if file is not None:
                raise BadInput(f"{flag} is about merging an adapter: add --merge to apply it, or leave {flag} out")
    if merge is None and not prune:
        for flag, given in (("--error-budget", error_budget is not None), ("--force", force)):
            if given:
                raise BadInput(f"{flag} is about what --merge and --prune change: add one of them, or leave {flag} out")
    if error_budget is not None and not 0 < error_budget < inf:
        raise BadInput(f"--error-budget {error_budget:g}: expected a share above 0, such as 0.01 for a hundredth")
    found = _adapter(checkpoint, adapter, adapter_config, merge)
    mode = _merge_mode(merge)
    if found is not None and mode == "static" and calibration is None and not force:
        _check_folds(found)
    return ExportRequest(
        checkpoint=checkpoint,
        output=checkpoint / "bundle" if output is None else output,
        adapter=found,
        merge=mode,
        budget=DEFAULT_BUDGET if error_budget is None else error_budget,
        prune_budget=error_budget,
        force=force,
        prune=_prune(prune, base, save_pruned),
        base=base,
        save_pruned=save_pruned,
        calibration=calibration,
        task=task,
        precisions=None if precision is None else tuple(_precisions(precision)),
        trt=None if trt is None else _trt(trt),
        guided=rtc is not None and _guided(rtc, precision),
    )


def _adapter(checkpoint: Path, adapter: Path | None, config: Path | None, merge: str | None) -> Adapter | None:
    beside = find_adapter(checkpoint)
    if merge is None:
        if beside is not None:
            if beside == checkpoint:
                raise BadInput(f"{checkpoint.resolve()} holds an adapter too: add --merge to apply it")
            raise BadInput(f"{beside} lies beside the checkpoint: add --merge to apply it, or move it away")
        return None
    found = beside if adapter is None else adapter
    if found is None:
        raise BadInput(f"--merge: no adapter in {checkpoint.resolve()}; name it with --adapter PATH: {FORMS}")
    return read_adapter(found, config)


def _check_folds(adapter: Adapter) -> None:
    """Raises `BadInput` where merging needs to know what the adapter sees on the robot."""
    routed = sum(update.branch is not None for update in adapter.updates.values())
    if routed:
        raise BadInput(
            f"--merge static: what {routed} linears add depends on their inputs, so merging them needs real "
            "observations: give --calibration, keep them with --merge exact, or add --force to merge on made-up ones"
        )


def _prune(specs: tuple[str, ...], base: Path | None, save_pruned: Path | None) -> tuple[PruneStep, ...]:
    steps = tuple(parse_prune(*specs)) if specs else ()
    depths = [step for step in steps if not isinstance(step, DivergenceWidth)]
    if len(depths) > 1:
        raise BadInput(f"--prune {depths[0]},{depths[1]}: layers are chosen once; give one of the two")
    compared = [step for step in steps if isinstance(step, DivergenceWidth | AutoPrune)]
    for step in compared:
        if base is None and isinstance(step, DivergenceWidth):
            raise BadInput(
                f"--prune {step} compares the policy with the vision-language model that it was trained from: give its "
                "directory with --base"
            )
    if base is not None and not compared:
        raise BadInput(
            "--base is about removing channels and heads: add --prune divergence:… or auto:…, or leave it out"
        )
    if save_pruned is not None and not steps:
        raise BadInput("--save-pruned is about what --prune leaves: add --prune, or leave it out")
    return steps


def _merge_mode(merge: str | None) -> MergeMode:
    return next((mode for mode in get_args(MergeMode) if mode == merge), "auto")


def _precisions(words: str) -> Iterator[Precision]:
    for word in words.split(","):
        found = next((precision for precision in get_args(Precision) if precision == word.strip()), None)
        if found is None:
            raise BadInput(f"--precision {words}: {word!r} is none; expected some of {', '.join(get_args(Precision))}")
        yield found


def _guided(word: str, precisions: str | None) -> bool:
    if word != "guided":
        raise BadInput(
            f"--rtc {word}: expected guided (put CHECKPOINT before --rtc); the forms hard and identity need nothing of "
            "the bundle"
        )
    if precisions is not None and "int8" in _precisions(precisions):
        raise BadInput(
            f"--rtc guided: no gradient flows through int8 graphs: leave int8 out of --precision {precisions}"
        )
    return True


def _trt(word: str) -> Precision:
    found = next((precision for precision in TRT if precision == word), None)
    if found is None:
        raise BadInput(f"--trt {word}: expected {' or '.join(TRT)}")
    return found
