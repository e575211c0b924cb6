"""SmolVLA and π0.5 through everything an export does to a model: batches, half precision, ONNX, TensorRT, pruning."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.toy_policy import ACTION
from tests.vla_export.models.tiny_families import FAMILIES, FLOW_STEPS, random_samples, relative_error
from vla_export.graph.goldens import make_goldens
from vla_export.graph.onnx_export import export_graphs
from vla_export.graph.precision import half, half_parameters
from vla_export.prune.depth import prune_depth
from vla_export.prune.spec import CkaDepth
from vla_export.prune.structure import Structure
from vla_export.sample import Sample, sample_actions
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.golden import read_golden, write_golden
from vla_runtime.bundle.manifest import Camera, Manifest, Precision, Provenance, Space, Tokenizer
from vla_runtime.bundle.parity import compare
from vla_runtime.bundle.writing import BundleWriter
from vla_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vla_runtime.engines.tensorrt import available, build

BOTH: tuple[Precision, Precision] = ("fp32", "fp16")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def bundle(family: str, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Graphs in both precisions, traced on one sample and judged on others."""
    traced_on, *samples = random_samples(family, 4)
    with BundleWriter(tmp_path_factory.mktemp(family) / "bundle") as writer:
        goldens = make_goldens(FAMILIES[family](), samples, FLOW_STEPS)
        graphs = {precision: export_graphs(FAMILIES[family](), traced_on, writer.root, precision) for precision in BOTH}
        write_golden(writer.root / "golden.safetensors", goldens)
        (writer.root / "tokenizer.json").write_text("{}")
        in_text = "state" not in traced_on.observed
        return writer.finish(
            lambda files: Manifest(
                family=family,
                cameras=_cameras(traced_on),
                state=_space(10),
                action=_space(9),
                horizon=11,
                rate=10.0,
                flow_steps=FLOW_STEPS,
                tokenizer=Tokenizer(
                    file="tokenizer.json",
                    template="{task} {state}" if in_text else "{task}",
                    max_length=traced_on.observed["tokens"].shape[1],
                    pad_id=0,
                    state_bins=256 if in_text else None,
                ),
                graphs=graphs,
                provenance=Provenance(exporter="test", checkpoint="test", checkpoint_sha256="0" * 64),
                files=files,
            )
        )


def _cameras(sample: Sample) -> tuple[Camera, ...]:
    count, _, height, width = sample.observed["images"].shape
    return tuple(Camera(name=f"camera{n}", height=height, width=width) for n in range(count))


def _space(padded_to: int) -> Space:
    return ACTION.model_copy(update={"padded_to": padded_to})


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("fp16", 1e-2)])
def test_onnx_runtime_computes_what_pytorch_computes(bundle: Bundle, precision: Precision, tolerance: float) -> None:
    goldens = read_golden(bundle.path("golden.safetensors"))
    found = compare(OnnxRuntimeEngine(bundle, precision, threads=1), goldens, bundle.manifest.flow_steps)
    assert max(found.prefix, found.step, found.chunk) <= tolerance, found
    assert found.prefix > 0, "an engine that is compared with itself cannot fail"


@pytest.mark.skipif(available() is not None, reason=str(available()))
@pytest.mark.parametrize("precision", BOTH)
def test_tensorrt_builds_both_graphs(
    bundle: Bundle, precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert all(plan.stat().st_size > 10_000 for plan in build(bundle, precision))


@torch.no_grad()
def test_a_batch_is_its_samples(family: str) -> None:
    model, samples = FAMILIES[family](), random_samples(family, 3)
    prefix = model.encode({name: torch.cat([s.observed[name] for s in samples]) for name in samples[0].observed})
    noise, times = torch.cat([s.noise for s in samples]), torch.tensor([0.2, 0.5, 0.9])
    together = model.velocity(noise, times, prefix)
    for n, sample in enumerate(samples):
        alone = model.velocity(sample.noise, times[n : n + 1], model.encode(sample.observed))
        torch.testing.assert_close(together[n : n + 1], alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_half_precision_stays_close_and_leaves_the_edges_alone(family: str) -> None:
    model = FAMILIES[family]()
    samples = random_samples(family, 3)
    exact = [sample_actions(model, sample, FLOW_STEPS) - sample.noise for sample in samples]
    edges = {name for name, _ in model.named_parameters() if name.startswith(("state_", "action_", "time_"))}
    assert len(edges) >= 8
    assert half_parameters(model).isdisjoint(edges)
    half(model)
    for sample, reference in zip(samples, exact, strict=True):
        assert relative_error(sample_actions(model, sample, FLOW_STEPS) - sample.noise, reference) < 1e-2


def test_half_of_the_layers_can_be_removed(family: str) -> None:
    model, samples = FAMILIES[family](), random_samples(family, 2)
    kinds = [layer.kind for layer in model.stacks()["expert"]]
    model, _, report = prune_depth(model, Structure.of(model), CkaDepth(0.5), samples, 2, 9)
    (group,) = report.groups
    assert [stack.stack for stack in group.stacks] == ["language", "expert"]
    assert [layer.kind for layer in model.stacks()["expert"]] == [kinds[n] for n in group.kept]
    assert len(model.stacks()["language"]) == 2
