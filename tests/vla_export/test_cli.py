"""What a user types, and what comes of it: the whole export once, and every way to ask for something impossible."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vla_export import cli
from vla_export.checkpoints.reading import read
from vla_export.models.blocks import Stack
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.default import default_bundle
from vla_runtime.bundle.golden import read_golden
from vla_runtime.engines import tensorrt_build
from vla_runtime.engines.choice import open_engine
from vla_runtime.policy.policy import Observation, Policy
from vla_runtime.policy.units import to_si

TINY = Path(__file__).parents[1] / "oracles" / "goldens" / "pi0"
MODEL = "model.safetensors"


@pytest.fixture(scope="module")
def exported(
    reference_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, int, dict[str, object]]:
    """The README's own command, in a copy of the checkpoint: (checkpoint, engine cache, exit code, JSON)."""
    home = tmp_path_factory.mktemp("home")
    checkpoint = home / "checkpoint"
    shutil.copytree(reference_checkpoint, checkpoint)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(home / "state"))
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        patch.chdir(checkpoint)
        printed: list[str] = []
        patch.setattr("builtins.print", lambda text, **_: printed.append(text))
        code = cli.main(["--merge", "--prune", "cka:0.5", "--trt", "fp16", "--json"])
        assert default_bundle() == checkpoint / "bundle"
    return checkpoint, home / "cache", code, json.loads(printed[-1])


def test_the_readme_command_makes_a_verified_bundle(
    exported: tuple[Path, Path, int, dict[str, object]],
) -> None:
    checkpoint, cache, code, outcome = exported
    bundle = Bundle.open(checkpoint / "bundle")
    manifest = bundle.manifest
    assert set(manifest.graphs) == {"fp32", "fp16"}
    assert [stage.name for stage in manifest.provenance.stages] == ["merge", "prune", "parity fp32", "parity fp16"]
    assert manifest.provenance.adapter == "adapters.safetensors"
    assert manifest.provenance.stages[2].measured["chunk"] < 1e-5
    assert not [path for path in checkpoint.iterdir() if path.name.startswith(".")]

    if tensorrt_build.available() is None:
        assert code == 0
        plans = [Path(plan) for plan in outcome["engine"]["plans"]]  # type: ignore[index]
        assert len(plans) == 2
        assert all(cache in plan.parents and plan.stat().st_size > 0 for plan in plans)
    else:
        assert code == 3


def test_the_report_tells_what_each_stage_did(exported: tuple[Path, Path, int, dict[str, object]]) -> None:
    checkpoint, *_ = exported
    report = checkpoint / "bundle" / "report"
    figures = json.loads((report / "report.json").read_text(encoding="utf-8"))
    depth = figures["prune"]["depth"]["groups"][0]
    before = {name: len(stack) for name, stack in read(checkpoint).model.stacks().items()}
    assert len(depth["removed"]) == before["language"] // 2
    assert sorted(depth["removed"] + depth["kept"]) == list(range(before["language"]))
    assert figures["overall"]["relative_error"] > figures["parity"][1]["effect"]["relative_error"] > 0
    page = (report / "index.html").read_text(encoding="utf-8")
    assert "synthetic" in page
    assert "finetun" in page
    assert figures["merge"]["requested"] == "auto"
    assert "give --calibration" in figures["merge"]["reason"]
    for picture in ("overall", "active_rank", "rank_histogram", "cka_0", "similarity_0"):
        assert f"pictures/{picture}.png" in page
        assert (report / "pictures" / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
    for path in report.rglob("*.[hj]*"):
        assert str(checkpoint.parent) not in path.read_text(encoding="utf-8")


def test_the_bundle_answers_what_the_pruned_model_with_its_adapter_answers(
    exported: tuple[Path, Path, int, dict[str, object]],
) -> None:
    """Through the robot's code against the workstation's: preprocessing, graphs, flow and units together."""
    checkpoint, *_ = exported
    bundle = Bundle.open(checkpoint / "bundle")
    model, interface = _prepared(checkpoint, bundle)
    generator = np.random.default_rng(3)
    observation = Observation(
        images={c.name: generator.integers(0, 256, (60, 80, 3), dtype=np.uint8) for c in interface.cameras},
        state=to_si(np.asarray(interface.state.normalisation.offset), interface.state),
    )
    noise = generator.standard_normal((1, interface.horizon, interface.action.padded_to)).astype(np.float32)

    engine, _ = open_engine(bundle, "onnxruntime", "fp32")
    found = Policy(bundle, engine)
    found.set_task("pick up the red cube")
    expected = Policy(bundle, model)
    expected.set_task("pick up the red cube")
    np.testing.assert_allclose(found.infer(observation, noise), expected.infer(observation, noise), rtol=0, atol=1e-5)


def _prepared(checkpoint: Path, bundle: Bundle) -> tuple[object, object]:
    from vla_export.adapters.apply import apply_exact
    from vla_export.adapters.lora_sp import read_lora_sp
    from vla_export.prune.surgery import remove_layers
    from vla_runtime.engines.torch import TorchEngine

    read_checkpoint = read(checkpoint)
    apply_exact(read_checkpoint.model, read_lora_sp(checkpoint / "adapters.safetensors"), read_checkpoint.modules)
    report = json.loads((bundle.root / "report" / "report.json").read_text(encoding="utf-8"))
    removed = report["prune"]["depth"]["groups"][0]["removed"]
    remove_layers(read_checkpoint.model, {"language": removed, "expert": removed})
    return TorchEngine(read_checkpoint.model), read_checkpoint.interface


Spoil = Callable[[Path], None]


def _nothing(_: Path) -> None:
    pass


def _no_checkpoint(directory: Path) -> None:
    (directory / "config.json").unlink()


def _unknown_family(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    (directory / "config.json").write_text(json.dumps(config | {"type": "rt2"}), encoding="utf-8")


def _stray_adapter_tensor(directory: Path) -> None:
    tensors = load_file(directory / "adapters.safetensors")
    bank, width = next(tensor.shape for name, tensor in tensors.items() if name.endswith(".A"))
    stray = "model.some.other.q_proj"
    tensors |= {f"{stray}.A": torch.ones(bank, width), f"{stray}.B": torch.ones(width, bank)}
    tensors |= {f"{stray}.router.weight": torch.ones(bank, width)}
    save_file(tensors, directory / "adapters.safetensors")


def _no_adapter_configuration(directory: Path) -> None:
    (directory / "adapters.json").unlink()


def _incomplete_adapter_configuration(directory: Path) -> None:
    (directory / "adapters.json").write_text('{"method": "lora_sp", "r": 8, "num_experts": 4}', encoding="utf-8")


def _no_adapter(directory: Path) -> None:
    (directory / "adapters.safetensors").unlink()


def _wrapped(directory: Path) -> None:
    """The adapter in the policy's own file, as training saves it."""
    adapter, policy = (load_file(directory / file) for file in ("adapters.safetensors", "model.safetensors"))
    names = {name.removesuffix(".A") for name in adapter if name.endswith(".A")}
    (directory / "adapters.safetensors").unlink()
    name = min(names)
    source = next(key for key in policy if key.endswith(name.partition("layers.")[2] + ".weight"))
    policy[f"{name}.base.weight"] = policy.pop(source)
    save_file({**policy, **{key: t for key, t in adapter.items() if key.startswith(f"{name}.")}}, directory / MODEL)


def _missing_tensor(directory: Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    del tensors["model.action_out_proj.bias"]
    save_file(tensors, directory / "model.safetensors")


@pytest.mark.parametrize(
    ("spoil", "arguments", "message"),
    [
        (_no_checkpoint, ["--merge"], "half a checkpoint in"),
        (_unknown_family, ["--merge"], "unknown family 'rt2'"),
        (_missing_tensor, ["--merge"], "action_out_proj.bias"),
        (_stray_adapter_tensor, ["--merge"], "model.some.other.q_proj matches no linear"),
        (_no_adapter_configuration, ["--merge"], "the adapter's configuration is missing"),
        (_incomplete_adapter_configuration, ["--merge"], "alpha"),
        (_no_adapter, ["--merge"], "no adapter in"),
        (_no_adapter, ["--merge", "--adapter", "nowhere"], "adapter nowhere: no such file"),
        (_nothing, ["--merge", "--adapter-config", "nowhere.json"], "nowhere.json: no such file"),
        (_wrapped, [], "holds an adapter too: add --merge to apply it"),
        (_nothing, [], "add --merge to apply it"),
        (_nothing, ["--adapter", "a.safetensors"], "add --merge to apply it"),
        (_nothing, ["--adapter-config", "adapters.json"], "add --merge to apply it"),
        (_nothing, ["--error-budget", "0.1"], "add one of them, or leave"),
        (_nothing, ["--force"], "add one of them, or leave"),
        (_nothing, ["--merge", "--error-budget", "0"], "expected a share above 0"),
        (_nothing, ["--merge", "--error-budget", "nan"], "expected a share above 0"),
        (_nothing, ["--merge", "--error-budget", "much"], "invalid float value: 'much'; see vla-export --help"),
        (_nothing, ["--merge", "static"], "needs real observations: give --calibration"),
        (_nothing, ["--merge", "average"], "expected exact, static or auto"),
        (_nothing, ["--merge", "--prune", "cka:1.5"], "out of range"),
        (_nothing, ["--merge", "--prune", "cka:x"], "not a number"),
        (_nothing, ["--merge", "--prune", "foo:1"], "unknown method"),
        (_nothing, ["--merge", "--trt", "int3"], "expected fp32 or fp16"),
        (_nothing, ["--merge", "--precision", "fp32,int3"], "'int3' is none; expected some of fp32, fp16, int8"),
        (_nothing, ["--merge", "--calibration", "nowhere"], "no such directory"),
        (_nothing, ["--merge", "--frobnicate"], "unrecognized arguments"),
    ],
)
def test_bad_input_gives_one_line_and_leaves_nothing(
    reference_checkpoint: Path,
    tmp_path: Path,
    private_state: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spoil: Spoil,
    arguments: list[str],
    message: str,
) -> None:
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(reference_checkpoint, checkpoint)
    spoil(checkpoint)
    before = sorted(path.name for path in checkpoint.iterdir())
    monkeypatch.chdir(checkpoint)

    assert cli.main([*arguments, "--json"]) == 2

    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert message in printed.err
    assert printed.out == ""
    assert sorted(path.name for path in checkpoint.iterdir()) == before
    assert not (private_state / "state").exists()


def test_a_bundle_that_fails_parity_is_not_written(
    reference_checkpoint: Path,
    tmp_path: Path,
    private_state: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """PyTorch and ONNX Runtime are made to disagree by an exporter that loses a layer on the way."""
    from vla_export import bundling

    true_export = bundling.export_graphs

    def forgetful(model: torch.nn.Module, *rest: object, **named: object) -> object:
        stack = model.expert
        assert isinstance(stack, Stack)
        weight = stack.layers[0].mlp.down_proj.weight
        kept = weight.detach().clone()
        with torch.no_grad():
            weight.zero_()
        try:
            return true_export(model, *rest, **named)  # type: ignore[arg-type]
        finally:
            with torch.no_grad():
                weight.copy_(kept)

    monkeypatch.setattr(bundling, "export_graphs", forgetful)
    (tmp_path / "out").mkdir()
    adapter_free = tmp_path / "checkpoint"
    shutil.copytree(reference_checkpoint, adapter_free, ignore=shutil.ignore_patterns("adapters.*"))

    assert cli.main([str(adapter_free), "-o", str(tmp_path / "out" / "bundle"), "--json"]) == 1

    assert "does not compute what PyTorch did" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_without_tensorrt_the_bundle_is_complete_and_the_step_is_named(
    reference_checkpoint: Path,
    tmp_path: Path,
    private_state: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tensorrt_build, "find_library", lambda: "neither TensorRT nor TensorRT-RTX is installed")
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(reference_checkpoint, checkpoint, ignore=shutil.ignore_patterns("adapters.*"))

    assert cli.main([str(checkpoint), "--trt", "fp32", "-o", str(tmp_path / "bundle")]) == 3

    printed = " ".join(capsys.readouterr().out.split())
    assert "neither TensorRT nor TensorRT-RTX is installed" in printed
    assert "vla-bundle build" in printed
    assert Bundle.open(tmp_path / "bundle").manifest.family == "pi0"


def test_half_graphs_alone(tmp_path: Path, private_state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The weights never exist in float32, the reference still is: what rounding them did shows in the effect."""
    assert cli.main([str(TINY), "--precision", "fp16", "-o", str(tmp_path / "bundle"), "--json"]) == 0

    outcome = json.loads(capsys.readouterr().out)
    bundle = Bundle.open(tmp_path / "bundle")
    assert set(bundle.manifest.graphs) == {"fp16"}
    assert not list(bundle.root.glob("*.onnx"))
    assert [parity["precision"] for parity in outcome["parity"]] == ["fp16"]
    assert 0 < outcome["overall"]["relative_error"] < 1e-2

    sample = read_golden(bundle.path(bundle.manifest.golden))[0]
    model = read(TINY).model
    with torch.no_grad():
        prefix = model.encode({name: torch.from_numpy(array) for name, array in sample.inputs.items()})
        exact = model.sample(prefix, torch.from_numpy(sample.noise), bundle.manifest.flow_steps).numpy()
    error = np.linalg.norm(sample.chunk - exact) / np.linalg.norm(exact)
    assert 0 < error < 1e-2


def test_int8_graphs_alone(tmp_path: Path, private_state: Path) -> None:
    """The fp32 graphs that they are made of do not stay."""
    assert cli.main([str(TINY), "--precision", "int8", "-o", str(tmp_path / "bundle"), "--json"]) == 0
    bundle = Bundle.open(tmp_path / "bundle")
    assert set(bundle.manifest.graphs) == {"int8"}
    assert {Path(name).parent.name for name in bundle.manifest.files if ".onnx" in name} == {"int8"}
