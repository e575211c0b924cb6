"""Before and after in turns: what is run, what is computed from the times, and what is left of it afterwards."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import cycle
from math import inf
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.toy_policy import DEPTH, FLOW_STEPS, toy_policy, toy_samples
from vla_export.graph.precision import half, half_parameters
from vla_export.models.flow_model import FlowModel
from vla_export.prune import latency
from vla_export.prune.latency import LatencyReport, Stopwatch, take_turns
from vla_export.prune.surgery import remove_layers
from vla_export.sample import sample_actions
from vla_runtime.bundle.manifest import Precision
from vla_runtime.engines.onnxruntime import OnnxRuntimeGraphs
from vla_runtime.errors import BadInput, WorkFailed

MILLISECONDS = st.floats(0.1, 1e4)
ODD = "language.layers.1.mlp.up_proj.weight"
ROUNDS = st.lists(st.tuples(MILLISECONDS, MILLISECONDS), min_size=3, max_size=15)


def report(before_ms: list[float], after_ms: list[float]) -> LatencyReport:
    return LatencyReport.of("ONNX Runtime, CPU", "fp32", before_ms, after_ms)


def test_a_ratio_is_that_of_one_round() -> None:
    """A machine that is ten times slower in one round changes that round's times and not its ratio."""
    found = report([15.0, 140.0, 16.0], [10.0, 100.0, 10.0])
    assert found.rounds == 3
    assert found.ratio == 1.5
    assert found.ratio_quartiles == (1.4, 1.6)


def test_quartiles_leave_a_quarter_of_the_rounds_on_either_side() -> None:
    found = report([9.0, 1.0, 3.0, 2.0, 4.0, 6.0, 5.0, 8.0, 7.0], [1.0] * 9)
    assert (found.ratio, found.ratio_quartiles) == (5.0, (3.0, 7.0))


@given(ROUNDS)
def test_turned_around_every_ratio_is_the_inverse(rounds: list[tuple[float, float]]) -> None:
    before, after = map(list, zip(*rounds, strict=True))
    low, high = report(before, after).ratio_quartiles
    assert report(after, before).ratio_quartiles == pytest.approx((1 / high, 1 / low))


@given(ROUNDS)
def test_quartiles_are_measured_ratios_around_the_median(rounds: list[tuple[float, float]]) -> None:
    found = report(*map(list, zip(*rounds, strict=True)))
    assert set(found.ratio_quartiles) <= {before / after for before, after in rounds}
    assert found.ratio_quartiles[0] <= found.ratio <= found.ratio_quartiles[1]
    assert LatencyReport.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(("before", "after"), [([], []), ([1.0], [1.0, 1.0])])
def test_a_round_is_one_time_of_each(before: list[float], after: list[float]) -> None:
    with pytest.raises(ValueError, match=r"no rounds|zip"):
        report(before, after)


@pytest.mark.parametrize(
    ("ratios", "words"),
    [
        ([1.41, 1.47, 1.52], "1.47 times as fast in ONNX Runtime (quartiles 1.41 to 1.52, 3 rounds in turns)"),
        ([0.7, 0.8, 0.9], "0.80 times as fast in ONNX Runtime (quartiles 0.70 to 0.90, 3 rounds in turns)"),
        (
            [0.97, 1.02, 1.05],
            "no difference could be told in ONNX Runtime "
            "(1.02 times as fast, quartiles 0.97 to 1.05, 3 rounds in turns)",
        ),
        (
            [1.001, 1.02, 1.05],
            "no difference could be told in ONNX Runtime "
            "(1.02 times as fast, quartiles 1.00 to 1.05, 3 rounds in turns)",
        ),
    ],
)
def test_in_words(ratios: list[float], words: str) -> None:
    assert report(ratios, [1.0] * len(ratios)).in_words() == words


class Turns:
    """Runs that take given seconds on a clock of their own."""

    def __init__(self, before: list[float], after: list[float]) -> None:
        self.now, self.order = 0.0, ""
        self._seconds = {"b": cycle(before), "a": cycle(after)}

    def run(self, which: str) -> None:
        self.order += which
        self.now += next(self._seconds[which])

    def take(self, **options: Any) -> tuple[list[float], list[float]]:
        return take_turns(lambda: self.run("b"), lambda: self.run("a"), clock=lambda: self.now, **options)


def test_one_warm_up_of_each_and_then_alternately() -> None:
    """Powers of two, so that the clock's sums are exact."""
    turns = Turns([1024.0, 4.0, 8.0, 16.0], [512.0, 2.0, 1.0, 0.5])
    assert turns.take() == ([4000.0, 8000.0, 16000.0], [2000.0, 1000.0, 500.0])
    assert turns.order == "ba" + "ba" * 3


@pytest.mark.parametrize(
    ("before", "after", "options", "rounds"),
    [
        (500.0, 400.0, {}, 3),  # never fewer
        (2.0, 0.5, {}, 4),  # until 10 s are spent
        (1.5, 1.25, {}, 4),
        (0.125, 0.25, {}, 15),  # never more
        (0.125, 0.25, {"most": 3}, 3),
    ],
)
def test_how_many_rounds(before: float, after: float, options: dict[str, int], rounds: int) -> None:
    steps: list[None] = []
    found = Turns([before], [after]).take(progress=lambda: steps.append(None), **options)
    assert found == ([before * 1e3] * rounds, [after * 1e3] * rounds)
    assert len(steps) == 1 + rounds


class Recorded(OnnxRuntimeGraphs):
    """Remembers the chunk after every step of every session, and how many tensors each prefix had."""

    opened: ClassVar[list[Recorded]] = []

    def __init__(self, encode: Path, denoise: Path, precision: Precision, optimise: bool) -> None:
        super().__init__(encode, denoise, precision, optimise=optimise)
        self.optimise, self.threads = optimise, self._encode.get_session_options().intra_op_num_threads
        self.prefixes: list[int] = []
        self.chunks: list[NDArray[np.float32]] = []
        self.opened.append(self)

    def encode(self, inputs: Mapping[str, NDArray[Any]]) -> Any:
        prefix = super().encode(inputs)
        self.prefixes.append(len(prefix))
        return prefix

    def denoise(self, chunk: NDArray[np.float32], time: float, next_time: float, prefix: Any) -> NDArray[np.float32]:
        self.chunks.append(super().denoise(chunk, time, next_time, prefix))
        return self.chunks[-1]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> type[Recorded]:
    monkeypatch.setattr(latency, "SECONDS", inf)  # as many rounds as may be, however slow the machine
    monkeypatch.setattr(latency, "OnnxRuntimeGraphs", Recorded)
    monkeypatch.setattr(Recorded, "opened", [])
    return Recorded


def policy(precision: Precision = "fp32") -> FlowModel:
    """Two layers of the toy are enough, and are exported sooner. In fp16, one weight was left in float32."""
    model = toy_policy()
    remove_layers(model, {name: range(2, DEPTH) for name in ("language", "expert")})
    if precision == "fp16":
        half(model)
        odd = model.get_parameter(ODD)
        odd.data = odd.data.float() * (1 + 1e-6)
    return model


def pruned(model: FlowModel) -> FlowModel:
    model = copy.deepcopy(model)
    remove_layers(model, {"language": {0}, "expert": {0}})
    return model


def held(model: FlowModel) -> dict[str, tuple[int, torch.dtype, bytes]]:
    """Where each weight lies, its type and its bits."""
    return {
        name: (tensor.data_ptr(), tensor.dtype, tensor.numpy().tobytes()) for name, tensor in model.state_dict().items()
    }


def stored_types(root: Path) -> set[int]:
    """The ONNX types of all weights of attention and MLP in the graphs under a directory."""
    graphs = [onnx.load(path, load_external_data=False).graph for path in root.rglob("*.onnx")]
    weights = [weight for graph in graphs for weight in graph.initializer]
    return {weight.data_type for weight in weights if ".layers." in weight.name and "_proj.weight" in weight.name}


@pytest.mark.parametrize(
    ("precision", "stored"), [("fp32", onnx.TensorProto.FLOAT), ("fp16", onnx.TensorProto.FLOAT16)]
)
def test_each_policy_answers_from_its_own_prefix_and_stays_as_it_is(
    precision: Precision, stored: int, tmp_path: Path, recorded: type[Recorded]
) -> None:
    whole, (sample,) = policy(precision), toy_samples(1)
    part = pruned(whole)
    were = held(whole), held(part)
    with Stopwatch(whole, sample, FLOW_STEPS, precision, tmp_path) as stopwatch:
        files = sorted(tmp_path.rglob("*"))
        assert stored_types(tmp_path) == {stored}
        found = stopwatch.compare_model(part)
        assert sorted(tmp_path.rglob("*")) == files
    assert not list(tmp_path.iterdir())

    assert (found.precision, found.rounds) == (precision, 15)
    assert found.engine.startswith("ONNX Runtime 1.")
    assert found.engine.endswith(", CPU")
    assert min(found.before_ms + found.after_ms) > 0
    for graphs, model, layers in zip(recorded.opened, (part, whole), (1, 2), strict=True):
        assert graphs.optimise
        assert graphs.prefixes == [1 + 2 * layers] * (1 + 15)
        assert len(graphs.chunks) == FLOW_STEPS * (1 + 15)
        expected = sample_actions(model, sample, FLOW_STEPS)
        error = torch.from_numpy(graphs.chunks[-1]) - expected
        assert error.norm() < {"fp32": 1e-5, "fp16": 1e-2}[precision] * expected.norm()
    assert (held(whole), held(part)) == were
    halved = {name for name, parameter in whole.named_parameters() if parameter.dtype is torch.float16}
    assert halved == (half_parameters(whole) - {ODD} if precision == "fp16" else set())


def test_a_large_policy_runs_three_rounds_without_the_optimiser_on_a_bundles_threads(
    tmp_path: Path, recorded: type[Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "is_large", lambda model: True)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(4)))
    model, (sample,) = policy("fp16"), toy_samples(1)
    steps: list[None] = []
    with Stopwatch(model, sample, FLOW_STEPS, "fp16", tmp_path) as stopwatch:
        found = stopwatch.compare_model(pruned(model), lambda: steps.append(None))
        assert len(steps) == stopwatch.steps == 1 + 3
    assert (found.rounds, found.precision) == (3, "fp16")
    assert [graphs.optimise for graphs in recorded.opened] == [False, False]
    assert [graphs.threads for graphs in recorded.opened] == [3, 3]


class Branching(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if float(x.sum()) > 0 else x


def unexportable() -> FlowModel:
    """What it computes depends on a number that no graph knows."""
    model = policy()
    model.get_submodule("projector").register_forward_hook(lambda module, inputs, output: Branching()(output))
    return model


def test_nothing_is_left_after_an_error(tmp_path: Path) -> None:
    stopwatch = Stopwatch(policy(), toy_samples(1)[0], FLOW_STEPS, "fp32", tmp_path)
    files = sorted(tmp_path.rglob("*"))
    with pytest.raises(WorkFailed, match="encode cannot be exported"):
        stopwatch.compare_model(unexportable())
    assert sorted(tmp_path.rglob("*")) == files
    with pytest.raises(WorkFailed, match="encode cannot be exported"), stopwatch:
        stopwatch.compare_model(unexportable())
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_of_a_policy_that_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(WorkFailed, match="encode cannot be exported"):
        Stopwatch(unexportable(), toy_samples(1)[0], FLOW_STEPS, "fp32", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_directory_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"cannot write in .*file: Not a directory; choose another place"):
        Stopwatch(policy(), toy_samples(1)[0], FLOW_STEPS, "fp32", tmp_path / "file")
