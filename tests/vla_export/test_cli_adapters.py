"""Every released form of an adapter, from its files through vla-export to the actions of the bundle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.unmerged import Update, beside, experts_update, lora_sp_update, low_rank_update, mixture_update
from vla_calibration.dataset import CalibrationSet, StateDimension, write
from vla_export import cli
from vla_export.checkpoints.checkpoint import Checkpoint
from vla_export.checkpoints.reading import read
from vla_runtime.bundle.bundle import Bundle, sha256
from vla_runtime.bundle.golden import read_golden
from vla_runtime.bundle.parity import answer
from vla_runtime.engines.choice import open_engine
from vla_runtime.policy.units import si_unit

PLAIN = Path(__file__).parents[1] / "oracles" / "goldens" / "pi0"
ADAPTED = ("language.layers.1.attention.q_proj", "language.layers.2.mlp.down_proj", "expert.layers.0.mlp.gate_proj")
LORA_SP = {"method": "lora_sp", "r": 2, "alpha": 4.0, "num_experts": 3, "threshold": 0.6}
MIXTURE = {"method": "lora_moe", "r": 2, "alpha": 4.0, "num_experts": 3, "routing": "top2"}
RUN = {"trainer": {"gse": {"top_k": 2, "num_experts": 4, "num_generalized_experts": 1}}}
BANK = 6


@dataclass(frozen=True)
class Form:
    """An adapter on disk: the command line that applies it, and what it adds to its linears.

    tensors: of the adapter by ``sources``, the start of the names of each linear's tensors → its path in our model.
    """

    arguments: list[str]
    sources: Mapping[str, str]
    tensors: Mapping[str, Tensor]
    update: Update


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PLAIN, tmp_path / "checkpoint"))


def linears(policy: Checkpoint) -> dict[str, nn.Linear]:
    """By their oldest names, the adapted linears."""
    oldest = {path: theirs for theirs, path in policy.modules.items()}
    found = {oldest[path]: policy.model.get_submodule(path) for path in ADAPTED}
    return {theirs: linear for theirs, linear in found.items() if isinstance(linear, nn.Linear)}


def draw(policy: Checkpoint, seed: int = 0, size: float = 0.1) -> dict[str, Tensor]:
    """A LoRA-SP bank for each."""
    generator, tensors = torch.Generator().manual_seed(seed), {}
    for name, linear in linears(policy).items():
        wide, narrow = linear.in_features, linear.out_features
        tensors[f"{name}.A"] = torch.randn(BANK, wide, generator=generator) * wide**-0.5
        tensors[f"{name}.B"] = torch.randn(narrow, BANK, generator=generator) * size
        tensors[f"{name}.router.weight"] = torch.randn(BANK, wide, generator=generator) * wide**-0.5
    return tensors


def lora_sp(checkpoint: Path) -> Form:
    policy = read(checkpoint)
    tensors = draw(policy)
    save_file(tensors, checkpoint / "adapters.safetensors")
    (checkpoint / "adapters.json").write_text(json.dumps(LORA_SP), encoding="utf-8")
    return Form([], policy.modules, tensors, partial(lora_sp_update, scale=2.0, threshold=0.6))


def mixture(checkpoint: Path) -> Form:
    """In a place of its own, and its configuration in another."""
    policy = read(checkpoint)
    tensors = {}
    for name, tensor in draw(policy).items():
        if name.endswith(".A"):
            tensors[name] = tensor.reshape(3, 2, -1)
        elif name.endswith(".B"):
            tensors[name] = tensor.reshape(-1, 3, 2).permute(1, 0, 2).contiguous()
        else:
            tensors[name] = tensor[:3].contiguous()
    file, config = checkpoint.parent / "best.safetensors", checkpoint.parent / "how.yaml"
    save_file(tensors, file)
    config.write_text(yaml.safe_dump(MIXTURE), encoding="utf-8")
    arguments = ["--adapter", str(file), "--adapter-config", str(config)]
    return Form(arguments, policy.modules, tensors, partial(mixture_update, scale=2.0))


def wrapped(checkpoint: Path) -> Form:
    """The policy's own file has the adapter in it, with what training keeps beside it."""
    policy = read(checkpoint)
    tensors, stored = draw(policy), load_file(checkpoint / "model.safetensors")
    for name in linears(policy):
        own = policy.weights.names[f"{policy.modules[name]}.weight"].removesuffix(".weight")
        stored[f"{name}.base.weight"] = stored.pop(f"{own}.weight")
        stored[f"{name}.router_logit_ma"] = torch.zeros(BANK)
    save_file({**stored, **tensors}, checkpoint / "model.safetensors")
    (checkpoint / "adapters.json").write_text(json.dumps(LORA_SP), encoding="utf-8")
    return Form([], policy.modules, tensors, partial(lora_sp_update, scale=2.0, threshold=0.6))


def vla_gse(checkpoint: Path) -> Form:
    """A whole policy in a pickled state dict; the checkpoint has no weights of its own."""
    policy = read(checkpoint)
    generator = torch.Generator().manual_seed(0)
    stored = dict(load_file(checkpoint / "model.safetensors"))
    tensors: dict[str, Tensor] = {}
    for name, linear in linears(policy).items():
        own = policy.weights.names[f"{policy.modules[name]}.weight"].removesuffix(".weight")
        stored[f"{own}.base_layer.weight"] = stored.pop(f"{own}.weight")
        gate = torch.randn(3, linear.in_features, generator=generator)
        parts = {"lora_gating.default.weight": gate, "moe_layer.default.gate.weight": gate}
        for n in range(4):
            A = torch.randn(2, linear.in_features, generator=generator) * linear.in_features**-0.5
            B = torch.randn(linear.out_features, 2, generator=generator) * 0.1
            copy = f"moe_layer.default.{f'specialized_experts.{n - 1}' if n else 'generalized_experts.0'}"
            parts |= {f"lora_A.default.{n}.weight": A, f"lora_B.default.{n}.weight": B}
            parts |= {f"{copy}.lora_A.weight": A, f"{copy}.lora_B.weight": B, f"{copy}.scaling": torch.tensor(0.5 + n)}
        tensors |= {f"{own}.{part}": tensor for part, tensor in parts.items()}
    run = checkpoint.parent / "run"
    (run / "checkpoints").mkdir(parents=True)
    file = run / "checkpoints" / "steps_100_pytorch_model.pt"
    torch.save({**stored, **tensors}, file)
    (run / "config.yaml").write_text(yaml.safe_dump(RUN), encoding="utf-8")
    centre, half = (np.array(getattr(policy.interface.action.normalisation, part)) for part in ("offset", "scale"))
    action = {"q01": (centre - half).tolist(), "q99": (centre + half).tolist()}
    (run / "dataset_statistics.json").write_text(json.dumps({"robot": {"action": action}}), encoding="utf-8")
    (checkpoint / "model.safetensors").unlink()
    return Form(["--adapter", str(file)], policy.modules, tensors, partial(experts_update, top_k=2))


def peft(checkpoint: Path) -> Form:
    policy = read(checkpoint)
    generator, tensors = torch.Generator().manual_seed(0), {}
    for name, linear in linears(policy).items():
        tensors[f"{name}.lora_A.weight"] = torch.randn(3, linear.in_features, generator=generator)
        tensors[f"{name}.lora_B.weight"] = torch.randn(linear.out_features, 3, generator=generator) * 0.05
    directory = checkpoint.parent / "peft"
    directory.mkdir()
    save_file({f"base_model.model.{n}": t for n, t in tensors.items()}, directory / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 3, "lora_alpha": 6.0}
    (directory / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return Form(["--adapter", str(directory)], policy.modules, tensors, partial(low_rank_update, scale=2.0))


def unmerged(form: Form, inputs: Mapping[str, Tensor], noise: Tensor, flow_steps: int) -> Tensor:
    """The plain policy with the adapter beside it, in PyTorch."""
    model = read(PLAIN).model
    present = {name: path for name, path in form.sources.items() if any(t.startswith(f"{name}.") for t in form.tensors)}
    with torch.no_grad(), beside(model, present, form.tensors, form.update):
        return model.sample(model.encode(inputs), noise, flow_steps)


def compared(bundle: Bundle, form: Form) -> float:
    """Relative error of ONNX Runtime's chunks for the bundle's golden samples."""
    engine, _ = open_engine(bundle, "onnxruntime", "fp32")
    found, expected = [], []
    for golden in read_golden(bundle.path(bundle.manifest.golden)):
        found.append(torch.from_numpy(answer(engine, golden.inputs, golden.noise, bundle.manifest.flow_steps).chunk))
        inputs = {name: torch.from_numpy(array) for name, array in golden.inputs.items()}
        expected.append(unmerged(form, inputs, torch.from_numpy(golden.noise), bundle.manifest.flow_steps))
    return float((torch.cat(found) - torch.cat(expected)).norm() / torch.cat(expected).norm())


def capture(checkpoint: Path, count: int = 12) -> Path:
    """Pictures and states of no real robot, recorded as if they were."""
    interface = read(PLAIN).interface
    generator = np.random.default_rng(1)
    offset, scale = (np.array(getattr(interface.state.normalisation, part)) for part in ("offset", "scale"))
    write(
        CalibrationSet(
            images={c.name: generator.integers(0, 256, (count, 48, 64, 3), dtype=np.uint8) for c in interface.cameras},
            state=(offset + scale * generator.normal(size=(count, 7))).astype(np.float32),
            stamps=np.arange(count, dtype=np.float64),
            dimensions=tuple(StateDimension(name=d.name, unit=si_unit(d.unit)) for d in interface.state.dimensions),
            task="pick up the red cube",
        ),
        checkpoint.parent / "capture",
    )
    return checkpoint.parent / "capture"


@pytest.mark.parametrize("write_form", [lora_sp, mixture, wrapped, vla_gse, peft])
def test_exact_actions_are_those_of_the_policy_with_its_adapter_beside_it(
    checkpoint: Path, private_state: Path, capsys: pytest.CaptureFixture[str], write_form: Callable[[Path], Form]
) -> None:
    form = write_form(checkpoint)
    output = checkpoint.parent / "bundle"
    assert cli.main([str(checkpoint), "--merge", "exact", *form.arguments, "-o", str(output), "--json"]) == 0
    bundle = Bundle.open(output)
    assert compared(bundle, form) <= 1e-5
    figures = json.loads((output / "report" / "report.json").read_text(encoding="utf-8"))["merge"]
    assert figures["exact"]["effect"]["relative_error"] > 1e-2  # so that leaving it out would show
    facts = json.loads(capsys.readouterr().out)["merge"]
    assert facts["linears"] == {"folded" if write_form is peft else "exact": len(ADAPTED)}
    assert set(facts["errors"].values()) == {0.0}
    provenance = bundle.manifest.provenance
    assert provenance.stages[0].name == "merge"
    assert provenance.stages[0].measured["worst_action_error"] == 0.0
    if write_form is vla_gse:
        pickled = checkpoint.parent / "run" / "checkpoints" / "steps_100_pytorch_model.pt"
        assert provenance.checkpoint_sha256 == provenance.adapter_sha256 == sha256(pickled)


def test_auto_merges_what_real_observations_allow(
    checkpoint: Path, private_state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    form = lora_sp(checkpoint)
    recording = str(capture(checkpoint))
    words = [str(checkpoint), "--merge", "--calibration", recording, "--error-budget", "0.05", "--json"]
    assert cli.main(words) == 0
    facts = json.loads(capsys.readouterr().out)["merge"]
    assert facts["linears"].get("static", 0) > 0
    assert 0 < max(facts["errors"].values()) <= facts["error_budget"] == 0.05
    bundle = Bundle.open(checkpoint / "bundle")
    assert 1e-5 < compared(bundle, form) < 0.1
    figures = json.loads((bundle.root / "report" / "report.json").read_text(encoding="utf-8"))["merge"]
    assert {error["name"]: error["rms"] for error in figures["errors"]} == facts["errors"]
    page = (bundle.root / "report" / "index.html").read_text(encoding="utf-8")
    for picture in ("residual", "active_rank", "rank_histogram"):
        assert f"pictures/{picture}.png" in page
        assert (bundle.root / "report" / "pictures" / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
    for path in ADAPTED:
        assert path in page


def test_static_beyond_the_budget_is_refused_and_forced(
    checkpoint: Path, private_state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lora_sp(checkpoint)
    before = sorted(path.name for path in checkpoint.iterdir())
    words = [str(checkpoint), "--merge", "static", "--calibration", str(capture(checkpoint)), "--error-budget", "1e-6"]
    assert cli.main([*words, "--json"]) == 1
    printed = capsys.readouterr()
    assert "--merge static moves" in printed.err
    assert "no bundle was written" in printed.err
    assert printed.err.count("\n") == 1
    assert sorted(path.name for path in checkpoint.iterdir()) == before

    assert cli.main([*words, "--force"]) == 0
    said = "Beyond the error budget, and written because --force was given."
    assert said in " ".join(capsys.readouterr().out.split())
    report = checkpoint / "bundle" / "report"
    assert said in (report / "index.html").read_text(encoding="utf-8")
    figures = json.loads((report / "report.json").read_text(encoding="utf-8"))["merge"]
    assert {layer["decision"] for layer in figures["static"]["layers"]} == {"static"}


def test_static_needs_no_observations_where_nothing_depends_on_them(checkpoint: Path, private_state: Path) -> None:
    form = peft(checkpoint)
    assert cli.main([str(checkpoint), "--merge", "static", *form.arguments, "--json"]) == 0
    assert compared(Bundle.open(checkpoint / "bundle"), form) <= 1e-5


def test_auto_without_observations_says_what_they_would_allow(
    checkpoint: Path, private_state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lora_sp(checkpoint)
    assert cli.main([str(checkpoint), "--merge"]) == 0
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "3 exact" in printed
    assert "give --calibration" in printed


def test_a_bank_that_tensorrt_cannot_sort_is_refused(
    checkpoint: Path, private_state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vla_export.adapters.tensorrt_limit.LARGEST_TOP_K", BANK - 1)
    lora_sp(checkpoint)
    assert cli.main([str(checkpoint), "--merge", "exact", "--trt", "fp32", "--json"]) == 2
    assert f"sorts {BANK} scores" in capsys.readouterr().err
    assert not (checkpoint / "bundle").exists()
