"""Guided flow steps against autograd: traced, in ONNX Runtime, and built by TensorRT."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto
from torch import Tensor, nn

from tests.toy_policy import ACTION
from tests.vla_export.graph.conftest import FLOW_STEPS, random_policy, route
from tests.vla_export.graph.conftest import random_samples as pi0_samples
from tests.vla_export.models.tiny_families import FAMILIES, random_samples, relative_error
from vla_export.adapters.adapter import Branch
from vla_export.adapters.gating import ExpertGating
from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.adapters.static_linear import replace
from vla_export.graph.goldens import make_goldens
from vla_export.graph.guided_step import STEP, trace_guided
from vla_export.graph.onnx_export import export_graphs
from vla_export.graph.precision import half
from vla_export.models.flow_model import FlowModel
from vla_export.prune.surgery import keep_memory
from vla_export.prune.width import keep_units
from vla_export.sample import Sample
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.golden import read_golden, write_golden
from vla_runtime.bundle.manifest import Camera, Graphs, Manifest, Precision, Provenance, Tokenizer
from vla_runtime.bundle.parity import compare
from vla_runtime.bundle.writing import BundleWriter
from vla_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vla_runtime.engines.tensorrt import available, build
from vla_runtime.engines.torch import TorchEngine

BOTH: tuple[Precision, Precision] = ("fp32", "fp16")
BETA = 5.0
TIMES = (1.0, 0.5, 0.1)


def cut_smolvla() -> FlowModel:
    """A SmolVLA after everything at once: layers that are memory, uneven groups of heads, a mixture of experts."""
    model = FAMILIES["smolvla"]()
    generator = torch.Generator().manual_seed(0)
    for path in ("expert.layers.0.attention.q_proj", "expert.layers.2.mlp.down_proj"):
        linear = model.get_submodule(path)
        assert isinstance(linear, nn.Linear)
        A, router = (torch.randn(rows, linear.in_features, generator=generator) * 0.2 for rows in (6, 3))
        B = torch.randn(linear.out_features, 6, generator=generator) * 0.1
        replace(model, path, RoutedLinear(linear, Branch(A, B, router, ExpertGating([1, 2, 3], 2))))
    keep_memory(model, "language", {1})
    keep_units(model, "expert.heads", [[0, 1, 2, 4], [0, 3, 4], [0, 3, 4, 5], [0, 1, 2, 3, 4, 5]])
    keep_units(model, "expert.mlp", [list(range(0, 256, 3)), list(range(40)), list(range(7)), list(range(256))])
    return model


@dataclass(frozen=True)
class Policy:
    """A policy by what makes it, and samples for it."""

    make: Callable[[], FlowModel]
    samples: Callable[[int], list[Sample]]


POLICIES = {
    "pi0 with LoRA-SP": Policy(lambda: route(random_policy()), pi0_samples),
    "pi05": Policy(FAMILIES["pi05"], lambda count: random_samples("pi05", count)),
    "smolvla, cut": Policy(cut_smolvla, lambda count: random_samples("smolvla", count)),
}


@dataclass(frozen=True)
class Exported:
    model: FlowModel
    samples: list[Sample]
    bundle: Bundle


@pytest.fixture(scope="module", params=POLICIES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A bundle with guided graphs in both precisions, traced on one sample and judged on others."""
    policy = POLICIES[request.param]
    traced_on, *samples = policy.samples(3)
    with BundleWriter(tmp_path_factory.mktemp("guided") / "bundle") as writer:
        graphs = {p: export_graphs(policy.make(), traced_on, writer.root, p, guided=True) for p in BOTH}
        write_golden(writer.root / "golden.safetensors", make_goldens(policy.make(), samples, FLOW_STEPS, guided=True))
        (writer.root / "tokenizer.json").write_text("{}")
        bundle = writer.finish(lambda files: manifest(traced_on, graphs, files))
    return Exported(policy.make(), samples, bundle)


def manifest(sample: Sample, graphs: dict[Precision, Graphs], files: dict[str, str]) -> Manifest:
    count, _, height, width = sample.observed["images"].shape
    _, horizon, action = sample.noise.shape
    in_text = "state" not in sample.observed
    return Manifest(
        family="test",
        cameras=tuple(Camera(name=f"camera{n}", height=height, width=width) for n in range(count)),
        state=ACTION.model_copy(update={"padded_to": 10 if in_text else sample.observed["state"].shape[1]}),
        action=ACTION.model_copy(update={"padded_to": action}),
        horizon=horizon,
        rate=10.0,
        flow_steps=FLOW_STEPS,
        tokenizer=Tokenizer(
            file="tokenizer.json",
            template="{task} {state}" if in_text else "{task}",
            max_length=sample.observed["tokens"].shape[1],
            pad_id=0,
            state_bins=256 if in_text else None,
        ),
        graphs=graphs,
        provenance=Provenance(exporter="test", checkpoint="test", checkpoint_sha256="0" * 64),
        files=files,
    )


@dataclass(frozen=True)
class Step:
    """Inputs of a guided step beside the prefix, autograd's answer and the unguided step."""

    inputs: dict[str, Tensor]
    guided: Tensor
    free: Tensor


def by_autograd(model: FlowModel, sample: Sample, prefix: Mapping[str, Tensor], time: float) -> Step:
    """The paper's formula with torch.autograd.grad, apart from the model's own `guided`."""
    generator = torch.Generator().manual_seed(round(time * 10))
    previous = torch.randn(sample.noise.shape, generator=generator)
    horizon = sample.noise.shape[1]
    weights = torch.linspace(1, 0, horizon)[None, :, None]
    t, tau, dt = time, 1 - time, -0.1
    x = sample.noise.clone().requires_grad_()
    velocity = model.velocity(x, torch.tensor([t]), prefix)
    clean = x - t * velocity
    (gradient,) = torch.autograd.grad(clean, x, weights * (previous - clean.detach()))
    strength = BETA if tau == 0 else min(BETA, (1 - tau) / (tau * ((1 - tau) ** 2 / ((1 - tau) ** 2 + tau**2))))
    assert relative_error(gradient, weights * (previous - clean.detach())) > 1e-3, "the Jacobian is not the identity"
    inputs = {
        "chunk": sample.noise,
        "time": torch.tensor([t]),
        "next_time": torch.tensor([t + dt]),
        "previous": previous,
        "weights": weights,
        "beta": torch.tensor([BETA]),
    }
    assert tuple(inputs) == STEP
    free = (x + dt * velocity).detach()
    return Step(inputs, free - dt * strength * gradient, free)


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("family", ["pi0", *FAMILIES])
def test_traced_it_is_autograds(family: str, time: float) -> None:
    model = random_policy() if family == "pi0" else FAMILIES[family]()
    (sample,) = pi0_samples(1) if family == "pi0" else random_samples(family, 1)
    with torch.no_grad():
        prefix = model.encode(sample.observed)
    step = by_autograd(model, sample, prefix, time)
    with torch.no_grad():
        traced = trace_guided(model, step.inputs | prefix)
        found = traced(*step.inputs.values(), *prefix.values())
    assert relative_error(found - step.free, step.guided - step.free) < 1e-5
    assert {name for name, _ in traced.named_parameters()} <= {f"model.{name}" for name, _ in model.named_parameters()}


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("fp16", 1e-2)])
def test_onnx_runtime_computes_what_autograd_does(
    exported: Exported, precision: Precision, tolerance: float, time: float
) -> None:
    """The tolerance is of the pull, which is a part of the step."""
    engine = OnnxRuntimeEngine(exported.bundle, precision, threads=1)
    for sample in exported.samples:
        with torch.no_grad():
            prefix = exported.model.encode(sample.observed)
        step = by_autograd(exported.model, sample, prefix, time)
        found = guided(engine, sample, step)
        assert relative_error(found, step.guided) <= tolerance
        assert 0 < relative_error(found - step.free, step.guided - step.free) <= tolerance
        assert relative_error(step.free, step.guided) > 0.03, "a pull of nothing tells nothing"


@pytest.mark.parametrize("time", TIMES)
def test_the_torch_engine_is_the_reference(exported: Exported, time: float) -> None:
    engine, sample = TorchEngine(exported.model), exported.samples[0]
    with torch.no_grad():
        prefix = exported.model.encode(sample.observed)
    step = by_autograd(exported.model, sample, prefix, time)
    assert engine.can_guide
    assert relative_error(guided(engine, sample, step), step.guided) < 1e-5


def guided(engine: OnnxRuntimeEngine | TorchEngine, sample: Sample, step: Step) -> Tensor:
    prefix = engine.encode({name: tensor.numpy() for name, tensor in sample.observed.items()})
    chunk, time, next_time, previous, weights, beta = (tensor.numpy() for tensor in step.inputs.values())
    times = float(time[0]), float(next_time[0])
    return torch.from_numpy(engine.guided(chunk, *times, prefix, previous, weights, float(beta[0])))


@pytest.mark.parametrize("precision", BOTH)
def test_parity_holds_it_to_the_gate_of_its_precision(exported: Exported, precision: Precision) -> None:
    goldens = read_golden(exported.bundle.path("golden.safetensors"))
    parity = compare(OnnxRuntimeEngine(exported.bundle, precision, threads=1), goldens, FLOW_STEPS)
    assert parity.passes(precision)
    assert parity.guided is not None
    assert 0 < parity.guided < {"fp32": 1e-5, "fp16": 1e-2}[precision]


@pytest.mark.parametrize("precision", BOTH)
def test_no_weight_is_stored_again(exported: Exported, precision: Precision) -> None:
    held = {part: weights(exported.bundle, graph) for part, graph in parts(exported, precision).items()}
    large = {name: where for name, where in held["guided"].items() if where is not None}
    assert {name: where for name, where in held["denoise"].items() if where is not None} == large
    assert not [name for name in exported.bundle.manifest.files if name.endswith("guided.onnx.data")]


def weights(bundle: Bundle, graph: str) -> dict[str, tuple[str, str] | None]:
    """Where each weight of a graph lies; None inside its own file."""
    found = {}
    for tensor in onnx.load(bundle.path(graph), load_external_data=False).graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        found[tensor.name] = (entries["location"], entries["offset"]) if entries else None
    return found


def parts(exported: Exported, precision: Precision) -> dict[str, str]:
    return {**exported.bundle.manifest.graphs[precision].parts()}


@pytest.mark.parametrize("precision", BOTH)
def test_gradients_need_no_scatter_and_no_float64(exported: Exported, precision: Precision) -> None:
    graph = onnx.load(exported.bundle.path(parts(exported, precision)["guided"])).graph
    operators = {node.op_type for node in graph.node}
    assert not [operator for operator in operators if operator.startswith("Scatter")]
    assert {node.domain for node in graph.node} == {""}
    types = {tensor.data_type for tensor in graph.initializer}
    types |= {a.i for node in graph.node if node.op_type == "Cast" for a in node.attribute if a.name == "to"}
    assert TensorProto.DOUBLE not in types
    names = [node.name for node in graph.node]
    assert len(set(names)) == len(names)


def test_half_products_by_weights_carry_the_name_of_their_module(exported: Exported) -> None:
    """By their names, an engine knows which products are float32 by design."""
    graph = onnx.load(exported.bundle.path(parts(exported, "fp16")["guided"]), load_external_data=False).graph
    held = {tensor.name: tensor.data_type for tensor in graph.initializer}
    edges = 0
    for node in graph.node:
        weight = next((name for name in node.input if ".weight" in name and name in held), None)
        if node.op_type in ("MatMul", "Gemm") and weight is not None:
            assert node.name.startswith(weight.rpartition(".weight")[0])
            edge = node.name.startswith(("action_", "time_"))
            edges += edge
            assert held[weight] == (TensorProto.FLOAT if edge else TensorProto.FLOAT16), node.name
    assert edges >= 6


@pytest.mark.skipif(available() is not None, reason=str(available()))
@pytest.mark.parametrize("precision", BOTH)
def test_tensorrt_builds_it(
    exported: Exported, precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    plans = build(exported.bundle, precision)
    assert [plan.name.split(".")[0] for plan in plans] == ["encode", "denoise", "guided"]
    assert all(plan.stat().st_size > 10_000 for plan in plans)


@torch.no_grad()
def test_goldens_of_half_weights_are_float32_arithmetic() -> None:
    """The steered step of a policy whose weights are stored in half precision, which a large one's are."""
    samples = pi0_samples(1)
    halved, widened = random_policy(), random_policy()
    half(halved)
    for one, other in zip(widened.parameters(), halved.parameters(), strict=True):
        one.copy_(other)
    (found,), (expected,) = (make_goldens(model, samples, FLOW_STEPS, guided=True) for model in (halved, widened))
    assert found.guided is not None
    assert expected.guided is not None
    for name, tensor in vars(expected.guided).items():
        torch.testing.assert_close(torch.from_numpy(vars(found.guided)[name]), torch.from_numpy(tensor))


@torch.no_grad()
def test_without_weights_it_is_the_free_step() -> None:
    model, (sample,) = random_policy(), pi0_samples(1)
    prefix = model.encode(sample.observed)
    times = torch.tensor([0.5]), torch.tensor([0.4])
    nothing = torch.zeros(1, sample.noise.shape[1], 1)
    found = model.guided(sample.noise, *times, prefix, torch.ones_like(sample.noise), nothing, torch.tensor([BETA]))
    torch.testing.assert_close(found, model.denoise(sample.noise, *times, prefix))


def test_an_export_without_it_has_none(tmp_path: Path) -> None:
    (sample,) = pi0_samples(1)
    graphs = export_graphs(random_policy(), sample, tmp_path)
    assert graphs.guided is None
    assert not list(tmp_path.rglob("guided*"))
