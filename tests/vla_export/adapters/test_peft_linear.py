"""One linear at a time against peft on a whole policy: what it loads again from its own files and merges."""

from __future__ import annotations

import json
import socket
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vla_export.adapters.folding import fold
from vla_export.adapters.peft_directory import CONFIG, FILE, read_peft
from vla_export.adapters.peft_linear import PeftLinear
from vla_runtime.errors import BadInput, WorkFailed

NAMES = ("layers.0.q_proj", "layers.0.down_proj", "layers.1.q_proj", "layers.1.down_proj", "action_in_proj")
PLAIN: dict[str, Any] = {
    "r": 2,
    "lora_alpha": 3.0,
    "use_rslora": False,
    "use_dora": False,
    "rank_pattern": {},
    "alpha_pattern": {},
    "init_lora_weights": True,
}


class Layer(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(width, inner)
        self.down_proj = nn.Linear(inner, width, bias=False)


class Policy(nn.Module):
    def __init__(self, width: int, inner: int, seed: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer(width, inner), Layer(width, inner)])
        self.action_in_proj = nn.Linear(3, width)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            parameter.data.normal_(0.0, 0.3, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        x = self.action_in_proj(x)
        for layer in self.layers:
            x = layer.down_proj(layer.q_proj(x))
        return x


def trained(policy: nn.Module, directory: Path, seed: int, **options: Any) -> nn.Module:
    """The policy with an adapter that peft saved in ``directory`` after a step from where training begins."""
    model = peft.get_peft_model(policy, peft.LoraConfig(**options))
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(directory)
    return model.eval()


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """All forms, together as peft allows, ranks beyond a linear's smaller side included."""
    options = {
        "r": draw(st.integers(1, 6)),
        "lora_alpha": draw(st.integers(1, 32)),
        "use_rslora": draw(st.booleans()),
        "use_dora": draw(st.booleans()),
        "init_lora_weights": draw(st.sampled_from([True, "pissa", "olora", "gaussian"])),
        "target_modules": draw(st.sampled_from([list(NAMES), ["q_proj", "action_in_proj"], r".*\.1\.\w+"])),
    }
    for name, values in (("rank_pattern", st.integers(1, 5)), ("alpha_pattern", st.integers(1, 9))):
        keys = st.sampled_from(["q_proj", "layers.0.down_proj", r"^layers\.\d.q_proj", "proj", r"layers\.1\..*"])
        # save_pretrained sorts patterns and the first that matches counts: another order is another adapter once loaded
        options[name] = dict(sorted(draw(st.dictionaries(keys, values, max_size=2)).items()))
    return options


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("peft")


@pytest.mark.filterwarnings("ignore::RuntimeWarning:peft", "ignore::UserWarning:peft")  # of its own whole model
@settings(max_examples=40, deadline=None)
@given(options=configurations(), width=st.integers(4, 9), inner=st.integers(2, 9), seed=st.integers(0, 99))
def test_every_weight_is_what_peft_merges_of_the_whole_policy(
    scratch: Path, options: dict[str, Any], width: int, inner: int, seed: int
) -> None:
    base = Policy(width, inner, seed)
    model = trained(deepcopy(base), scratch, seed + 1, **options)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed + 2))
    before = model(x).detach()
    expected = peft.PeftModel.from_pretrained(deepcopy(base), scratch).merge_and_unload()

    adapter = read_peft(scratch)
    found = deepcopy(base)
    adapted = {
        name for name, _ in expected.named_modules() if f"base_model.model.{name}.lora_A.weight" in stored(scratch)
    }
    assert adapter.updates.keys() == adapted
    for name, update in adapter.updates.items():
        linear = found.get_submodule(name)
        assert update.shape == linear.weight.shape
        original = linear.weight.detach().clone()
        folded = fold(linear.weight.detach(), update)
        assert torch.equal(linear.weight, original)
        assert not folded.requires_grad
        linear.weight.data = folded
    for name, parameter in expected.named_parameters():
        torch.testing.assert_close(found.get_parameter(name), parameter, rtol=1e-6, atol=1e-6, msg=f"{name}: {options}")
    torch.testing.assert_close(found(x), before, rtol=1e-3, atol=1e-4)  # nor has saving and loading changed anything


def stored(directory: Path) -> dict[str, Tensor]:
    return load_file(directory / FILE)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"init_lora_weights": "pissa"}])
def test_adapters_saved_in_half_precision_are_merged_in_float32(
    tmp_path: Path, options: dict[str, Any], dtype: torch.dtype
) -> None:
    base = Policy(7, 5, seed=0)
    trained(deepcopy(base), tmp_path, 1, r=3, target_modules=list(NAMES), **options)
    save_file({name: tensor.to(dtype) for name, tensor in stored(tmp_path).items()}, tmp_path / FILE)
    expected = peft.PeftModel.from_pretrained(deepcopy(base), tmp_path).merge_and_unload()
    for name, update in read_peft(tmp_path).updates.items():
        folded = fold(base.get_submodule(name).weight.detach(), update)
        torch.testing.assert_close(folded, expected.get_parameter(f"{name}.weight"), rtol=1e-6, atol=1e-6)


def test_a_linear_of_any_name_is_found() -> None:
    """A single component, and components that peft itself gives names to."""
    weight = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    tensors = {"lora_A.weight": torch.ones(2, 4), "lora_B.weight": torch.ones(3, 2)}
    for name in ("fc", "vision+text.0.q_proj", "base_model.model.default", "a.weight.bias"):
        linear = PeftLinear(Path("adapter"), name, PLAIN, (3, 4))
        assert linear.saved_shapes() == {part: tensor.shape for part, tensor in tensors.items()}
        torch.testing.assert_close(
            linear.merged(tensors, weight), weight + 3.0
        )  # two directions of ones, alpha / r 1.5


def test_what_overflows_is_refused() -> None:
    linear = PeftLinear(Path("adapter"), "fc", PLAIN, (3, 4))
    tensors = {"lora_A.weight": torch.full((2, 4), 1e30), "lora_B.weight": torch.full((3, 2), 1e30)}
    with pytest.raises(BadInput, match="adapter adapter: peft merges fc to numbers that are not finite"):
        linear.merged(tensors, torch.zeros(3, 4))


def test_a_row_without_a_direction_cannot_be_given_a_norm() -> None:
    linear = PeftLinear(Path("adapter"), "fc", PLAIN | {"use_dora": True}, (3, 4))
    tensors = {
        "lora_A.weight": torch.ones(2, 4),
        "lora_B.weight": torch.zeros(3, 2),
        "lora_magnitude_vector": torch.ones(3),
    }
    with pytest.raises(BadInput, match="not finite"):
        linear.merged(tensors, torch.zeros(3, 4))


@pytest.mark.parametrize("name", ["lora_C.weight", "lora_A.weight"])
def test_a_tensor_that_peft_leaves_out_is_no_merge(name: str) -> None:
    linear = PeftLinear(Path("adapter"), "fc", PLAIN, (3, 4))
    tensors = {"lora_A.weight": torch.ones(2, 4), "lora_B.weight": torch.ones(3, 2)}
    tensors = tensors | {name: torch.ones(1)} if name not in tensors else {"lora_B.weight": torch.ones(3, 2)}
    with pytest.raises(WorkFailed, match="does not load fc"):
        linear.merged(tensors, torch.zeros(3, 4))


def test_without_peft_the_adapter_is_refused_when_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    golden = Path("tests/oracles/goldens/peft/lora")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(BadInput) as caught:
        read_peft(golden)
    assert str(golden / FILE) in str(caught.value)
    assert 'pip install "vla-deploy[peft]"' in str(caught.value)


def test_nothing_is_asked_of_the_network_and_nothing_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder, tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("reached for the network")

    for function in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, function, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    golden = Path("tests/oracles/goldens/peft/patterns")
    content = json.loads((golden / CONFIG).read_text(encoding="utf-8"))
    # A base that could be looked up by name, and patterns and an initialisation that peft has something to say about.
    content |= {"base_model_name_or_path": "lerobot/pi0", "use_rslora": True, "init_lora_weights": "pissa"}
    (tmp_path / CONFIG).write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / FILE).write_bytes((golden / FILE).read_bytes())
    for update in read_peft(tmp_path).updates.values():
        assert fold(torch.ones(update.shape), update).isfinite().all()
    assert not [str(warning.message) for warning in recwarn]
