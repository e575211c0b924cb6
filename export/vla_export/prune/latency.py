"""How much faster pruning made a policy: before and after, run in turns by ONNX Runtime on the machine that prunes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

import numpy as np
import onnxruntime as ort
from pydantic import BaseModel, ConfigDict

from vla_export.graph.onnx_export import export_graphs
from vla_export.graph.precision import is_large
from vla_export.models.flow_model import FlowModel
from vla_export.progress import Advance
from vla_export.sample import Sample
from vla_runtime.bundle.manifest import Precision
from vla_runtime.engines.onnxruntime import OnnxRuntimeGraphs
from vla_runtime.errors import BadInput
from vla_runtime.policy.sampling import euler_steps
from vla_runtime.profiling.spans import Spans

LEAST_ROUNDS, MOST_ROUNDS = 3, 15
SECONDS = 10.0  # for all rounds but the least


class LatencyReport(BaseModel):
    """What one chunk took before and after pruning, in [ms]: a round is one chunk of each, one after the other.

    precision: of the graphs. ratio: the median of the rounds' own
    before / after, in which what slowed the machine during a whole round cancels. ratio_quartiles: of the same, each
    the measured ratio next to it on the outer side, so that of three rounds they are the smallest and the largest.
    """

    model_config = ConfigDict(frozen=True)

    engine: str
    precision: Precision
    rounds: int
    before_ms: tuple[float, ...]
    after_ms: tuple[float, ...]
    ratio: float
    ratio_quartiles: tuple[float, float]

    @classmethod
    def of(
        cls, engine: str, precision: Precision, before_ms: Sequence[float], after_ms: Sequence[float]
    ) -> LatencyReport:
        """Of rounds' times in [ms], one of each per round; raises ValueError where there are not as many or none."""
        ratios = [before / after for before, after in zip(before_ms, after_ms, strict=True)]
        if not ratios:
            raise ValueError("no rounds to summarise")
        quartiles = (
            float(np.quantile(ratios, 0.25, method="lower")),
            float(np.quantile(ratios, 0.75, method="higher")),
        )
        return cls(
            engine=engine,
            precision=precision,
            rounds=len(ratios),
            before_ms=tuple(before_ms),
            after_ms=tuple(after_ms),
            ratio=statistics.median(ratios),
            ratio_quartiles=quartiles,
        )

    def in_words(self) -> str:
        """For people. No difference is one whose quartiles, as printed, lie on both sides of 1 or on it."""
        low, high = (round(quartile, 2) for quartile in self.ratio_quartiles)
        times = f"{self.ratio:.2f} times as fast"
        spread = f"quartiles {low:.2f} to {high:.2f}, {self.rounds} rounds in turns"
        if low <= 1 <= high:
            return f"no difference could be told in ONNX Runtime ({times}, {spread})"
        return f"{times} in ONNX Runtime ({spread})"


class Stopwatch:
    """Compares a policy with what pruning makes of it.

        with Stopwatch(model, sample, flow_steps, "fp32", output.parent) as stopwatch:
            ...  # prune, export
            report = stopwatch.compare(encode, denoise)

    The policy's graphs as it was lie in a temporary directory until the block ends, however it ends; they take as much
    of the disk as a bundle of them, those of the pruned policy come beside them while they are compared. Chunks run as
    a bundle's do on this machine: on all cores but one, with threads that never spin. Graphs of a policy of over a
    billion parameters run as they lie on disk, without ONNX Runtime's optimiser: the weights of both are mapped at once
    and the kernel may drop them, while the optimiser would hold copies of both beside the policy itself. What is slow
    without it, such as turning weights to float32 each time, is then in the times of both.
    """

    def __init__(
        self,
        model: FlowModel,
        sample: Sample,
        flow_steps: int,
        precision: Precision,
        directory: Path,
        progress: Advance | None = None,
    ) -> None:
        """Export the graphs of ``model`` as it is; its weights and their types stay as they are.

        sample: what every chunk is made from, with its own noise. precision: fp32 or fp16; weights that are stored in
        half precision have fp16 graphs alone. directory: one that exists, where the temporary one is made. progress:
        called after each of the two graphs.

        Raises `BadInput` where nothing can be written in the directory and `WorkFailed` for a policy that cannot be
        exported; then nothing is left behind.
        """
        self._sample, self._flow_steps = sample, flow_steps
        self.precision: Precision = precision
        self._large = is_large(model)
        with ExitStack() as entered:
            try:
                temporary = TemporaryDirectory(prefix=".before-pruning-", dir=directory)
            except OSError as error:
                raise BadInput(f"cannot write in {directory}: {error.strerror}; choose another place") from error
            self._root = Path(entered.enter_context(temporary))
            self._before = self._export(model, self._root, progress)
            self._entered = entered.pop_all()

    def __enter__(self) -> Stopwatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._entered.close()

    @property
    def steps(self) -> int:
        """How often `compare` calls its ``progress``, at most."""
        return 1 + (LEAST_ROUNDS if self._large else MOST_ROUNDS)

    def compare(self, encode: Path, denoise: Path, progress: Advance | None = None) -> LatencyReport:
        """Run chunks of the policy before pruning, and of these graphs of what is left of it, in turns.

        After one warm-up of each come 3 rounds, and more until they took 10 s, at most 15; 3 for a policy that has over
        a billion parameters unpruned. ``progress`` is called after the warm-up and each round. Raises `WorkFailed` for
        graphs that cannot be run.
        """
        after, before = self._open((encode, denoise)), self._open(self._before)
        before_ms, after_ms = take_turns(
            lambda: self._chunk(before),
            lambda: self._chunk(after),
            LEAST_ROUNDS if self._large else MOST_ROUNDS,
            progress,
        )
        engine = f"ONNX Runtime {ort.__version__}, {after.device.upper()}"
        return LatencyReport.of(engine, self.precision, before_ms, after_ms)

    def compare_model(self, model: FlowModel, progress: Advance | None = None) -> LatencyReport:
        """As `compare`, with graphs of ``model`` that are exported for it alone; ``model`` stays as it is.

        Raises `WorkFailed` for a policy that cannot be exported or run; then nothing of it is left behind.
        """
        with TemporaryDirectory(prefix="after-", dir=self._root) as name:
            return self.compare(*self._export(model, Path(name), None), progress)

    def _export(self, model: FlowModel, directory: Path, progress: Advance | None) -> tuple[Path, Path]:
        with _weights_kept(model):
            graphs = export_graphs(model, self._sample, directory, self.precision, progress)
        return directory / graphs.encode, directory / graphs.denoise

    def _open(self, graphs: tuple[Path, Path]) -> OnnxRuntimeGraphs:
        return OnnxRuntimeGraphs(*graphs, self.precision, optimise=not self._large)

    def _chunk(self, graphs: OnnxRuntimeGraphs) -> None:
        prefix = graphs.encode({name: tensor.numpy() for name, tensor in self._sample.observed.items()})
        list(euler_steps(graphs, prefix, self._sample.noise.numpy(), self._flow_steps, Spans()))


def take_turns(
    before: Callable[[], object],
    after: Callable[[], object],
    most: int = MOST_ROUNDS,
    progress: Advance | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[list[float], list[float]]:
    """Run two things alternately, after one warm-up of each; returns what each of them took, round by round, in [ms].

    There are 3 rounds, then more until all of them took 10 s, ``most`` at most. ``progress`` is called after the
    warm-up and each round. clock: a monotonic time in [s].
    """

    def milliseconds(run: Callable[[], object]) -> float:
        started = clock()
        run()
        return (clock() - started) * 1e3

    before()
    after()
    before_ms: list[float] = []
    after_ms: list[float] = []
    if progress is not None:
        progress()
    while len(before_ms) < LEAST_ROUNDS or (len(before_ms) < most and sum(before_ms) + sum(after_ms) < SECONDS * 1e3):
        before_ms.append(milliseconds(before))
        after_ms.append(milliseconds(after))
        if progress is not None:
            progress()
    return before_ms, after_ms


@contextmanager
def _weights_kept(model: FlowModel) -> Iterator[None]:
    """Afterwards every weight is what it was: exporting in fp16 rounds, in place, those that are not float16 yet."""
    held = [(parameter, parameter.data) for parameter in model.parameters()]
    try:
        yield
    finally:
        for parameter, value in held:
            parameter.data = value
