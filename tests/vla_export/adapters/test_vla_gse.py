"""VLA-GSE's checkpoints: their experts, their scales, their copies and their base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.naive_adapters import gse, times
from vla_export.adapters.adapter import Adapter
from vla_export.adapters.apply import apply_exact
from vla_export.adapters.pickled_tensors import PickledTensors
from vla_export.adapters.vla_gse import is_vla_gse, read_vla_gse
from vla_runtime.errors import BadInput

LINEAR = "vlm.model.layers.0.q_proj"
WIDE, NARROW = 7, 5


class Experts:
    """The tensors of one adapted linear, small whole numbers so that ties of the router are common."""

    def __init__(self, ranks: list[int], generalised: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> None:
        generator = torch.Generator().manual_seed(seed)

        def whole(*shape: int) -> Tensor:
            return torch.randint(-2, 3, shape, generator=generator).to(dtype)

        self.generalised = generalised
        self.weight, self.bias = whole(NARROW, WIDE), whole(NARROW)
        self.A, self.B = [whole(r, WIDE) for r in ranks], [whole(NARROW, r) for r in ranks]
        self.B[0][0, 0], self.A[0][0, 0] = 1, 1
        self.scales = [0.5 + 0.25 * n for n in range(len(ranks))]
        self.router = whole(len(ranks) - generalised, WIDE)

    def tensors(self, module: str = LINEAR) -> dict[str, Tensor]:
        found = {
            "base_layer.weight": self.weight,
            "base_layer.bias": self.bias,
            "lora_gating.default.weight": self.router,
            "moe_layer.default.gate.weight": self.router,
        }
        for n, (A, B, scale) in enumerate(zip(self.A, self.B, self.scales, strict=True)):
            special = n - self.generalised
            kind = f"generalized_experts.{n}" if special < 0 else f"specialized_experts.{special}"
            found |= {
                f"lora_A.default.{n}.weight": A,
                f"lora_B.default.{n}.weight": B,
                f"moe_layer.default.{kind}.lora_A.weight": A,
                f"moe_layer.default.{kind}.lora_B.weight": B,
                f"moe_layer.default.{kind}.scaling": torch.tensor(scale),
            }
        return {f"{module}.{part}": tensor for part, tensor in found.items()}


def write(run: Path, tensors: dict[str, Tensor], top_k: int = 2, **method: Any) -> Path:
    path = run / "checkpoints" / "steps_100_pytorch_model.pt"
    path.parent.mkdir(exist_ok=True)
    torch.save(tensors, path)
    content = {"framework": {"name": "QwenGR00T"}, "trainer": {"gse": {"r": 16, "top_k": top_k, **method}}}
    (run / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    (run / "dataset_statistics.json").write_text("{}", encoding="utf-8")
    return path


def read(path: Path) -> Adapter:
    return read_vla_gse(PickledTensors.in_pickle(path))


def refused(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ranks=st.lists(st.integers(1, 3), min_size=1, max_size=6),
    generalised=st.integers(0, 3),
    top_k=st.integers(1, 7),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 2**16),
)
def test_equals_the_loops_over_tokens_and_experts(
    tmp_path: Path, ranks: list[int], generalised: int, top_k: int, dtype: torch.dtype, seed: int
) -> None:
    generalised = min(generalised, len(ranks) - 1)
    experts = Experts(ranks, generalised, seed, dtype)
    adapter = read(write(tmp_path, experts.tensors(), top_k))
    policy = nn.Module()
    policy.proj = nn.Linear(WIDE, NARROW).requires_grad_(False)
    assert adapter.policy is not None
    policy.proj.load_state_dict({name: adapter.policy.read(f"{LINEAR}.{name}") for name in ("weight", "bias")})
    apply_exact(policy, adapter, {LINEAR: "proj"})  # type: ignore[arg-type]  # any module has linears

    x = torch.randint(-2, 3, (5, WIDE), generator=torch.Generator().manual_seed(seed + 1)).float()
    A, B = ([m.tolist() for m in matrices] for matrices in (experts.A, experts.B))
    expected = []
    for token in x.tolist():
        base = times(experts.weight.tolist(), token)
        update = gse(token, A, B, experts.scales, experts.router.tolist(), generalised, top_k)
        expected.append([w + b + u for w, b, u in zip(base, experts.bias.tolist(), update, strict=True)])
    torch.testing.assert_close(policy.proj(x), torch.tensor(expected), rtol=1e-5, atol=1e-4)


def test_the_whole_policy_is_there_under_its_plain_names(tmp_path: Path) -> None:
    experts = Experts([2, 1, 1], 1)
    others = {"vlm.norm.weight": torch.ones(3), "action_model.head.weight": torch.ones(2, 2)}
    adapter = read(write(tmp_path, {**experts.tensors(), **others}))
    assert adapter.policy is not None
    assert set(adapter.policy) == {f"{LINEAR}.weight", f"{LINEAR}.bias", *others}
    assert torch.equal(adapter.policy.read(f"{LINEAR}.weight"), experts.weight)
    assert adapter.policy["action_model.head.weight"].shape == (2, 2)
    assert adapter.statistics == tmp_path / "dataset_statistics.json"
    assert (adapter.form, adapter.settings["top_k"], adapter.ignored) == ("VLA-GSE", "2", {})


def test_pefts_prefix_is_taken_off(tmp_path: Path) -> None:
    tensors = {
        f"vlm.base_model.model.{name}": tensor for name, tensor in Experts([1, 1], 1).tensors("layers.0.q").items()
    }
    adapter = read(write(tmp_path, {**tensors, "vlm.base_model.model.norm.weight": torch.ones(2)}))
    assert set(adapter.updates) == {"vlm.layers.0.q"}
    assert adapter.policy is not None
    assert set(adapter.policy) == {"vlm.layers.0.q.weight", "vlm.layers.0.q.bias", "vlm.norm.weight"}


def test_only_a_policy_with_experts_is_one() -> None:
    assert is_vla_gse(Experts([1, 1], 1).tensors())
    assert not is_vla_gse(["a.base_layer.weight", "a.lora_A.default.weight"])


@pytest.mark.parametrize(
    "part",
    [
        "base_layer.weight",
        "lora_A.default.1.weight",
        "lora_B.default.0.weight",
        "lora_gating.default.weight",
        "moe_layer.default.gate.weight",
        "moe_layer.default.generalized_experts.0.lora_A.weight",
        "moe_layer.default.specialized_experts.1.scaling",
    ],
)
def test_a_missing_part_is_named(tmp_path: Path, part: str) -> None:
    tensors = Experts([2, 1, 1], 1).tensors()
    del tensors[f"{LINEAR}.{part}"]
    assert f"{LINEAR}.{part} is missing" in refused(write(tmp_path, tensors))


@pytest.mark.parametrize(
    "part",
    [
        "moe_layer.default.gate.weight",
        "moe_layer.default.generalized_experts.0.lora_B.weight",
        "moe_layer.default.specialized_experts.1.lora_A.weight",
    ],
)
def test_copies_that_differ_are_named(tmp_path: Path, part: str) -> None:
    tensors = Experts([2, 1, 1], 1).tensors()
    tensors[f"{LINEAR}.{part}"] = tensors[f"{LINEAR}.{part}"] + 1
    assert f"its copy {part} differ" in refused(write(tmp_path, tensors))


@pytest.mark.parametrize(
    ("part", "shape"),
    [
        ("base_layer.weight", (5,)),
        ("lora_A.default.0.weight", (2, WIDE + 1)),
        ("lora_B.default.2.weight", (NARROW, 3)),
        ("lora_gating.default.weight", (3, WIDE)),
        ("moe_layer.default.specialized_experts.0.scaling", (1,)),
    ],
)
def test_a_misshapen_tensor_is_named(tmp_path: Path, part: str, shape: tuple[int, ...]) -> None:
    tensors = {**Experts([2, 1, 1], 1).tensors(), f"{LINEAR}.{part}": torch.ones(shape)}
    assert f"{LINEAR}.{part} has shape {shape}" in refused(write(tmp_path, tensors))


@pytest.mark.parametrize("part", ["lora_embedding_A.default", "moe_layer.other.gate.weight", "base_layer.scale"])
def test_an_unknown_tensor_is_named(tmp_path: Path, part: str) -> None:
    tensors = {**Experts([2, 1, 1], 1).tensors(), f"{LINEAR}.{part}": torch.ones(2)}
    assert f"unknown tensor {LINEAR}.{part}" in refused(write(tmp_path, tensors))


def test_an_expert_too_many_is_named(tmp_path: Path) -> None:
    tensors = {**Experts([2, 1, 1], 1).tensors(), f"{LINEAR}.lora_A.default.3.weight": torch.ones(1, WIDE)}
    assert f"{LINEAR}.lora_A.default.3.weight belongs to no expert" in refused(write(tmp_path, tensors))


def test_another_runs_configuration_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, Experts([2, 1, 1], 1).tensors(), num_experts=8)
    assert "has 3 experts where config.yaml's trainer.gse.num_experts says 8" in refused(path)


def test_a_configuration_without_top_k_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, Experts([2, 1, 1], 1).tensors())
    (tmp_path / "config.yaml").write_text("trainer: {gse: {r: 16}}\n", encoding="utf-8")
    assert "trainer.gse.top_k: Field required" in refused(path)


@pytest.mark.parametrize("name", ["config.yaml", "dataset_statistics.json"])
def test_a_missing_file_of_the_run_is_named(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, Experts([2, 1, 1], 1).tensors())
    (tmp_path / name).unlink()
    assert f"{name} is missing" in refused(path)


def test_experts_that_do_nothing_are_refused(tmp_path: Path) -> None:
    experts = Experts([2, 1, 1], 1)
    experts.scales = [0.0, 0.0, 0.0]
    assert "changes nothing" in refused(write(tmp_path, experts.tensors()))


def test_a_linear_without_specialised_experts_is_refused(tmp_path: Path) -> None:
    tensors = {name: t for name, t in Experts([2, 1], 1).tensors().items() if "specialized" not in name}
    assert "has no specialised experts" in refused(write(tmp_path, tensors))


def test_the_public_weights_are_refused(tmp_path: Path) -> None:
    """Training took its first experts out of them: ten per cent of the largest singular values."""
    experts = Experts([2, 1, 1], 1)
    policy = nn.Module()
    policy.proj = nn.Linear(WIDE, NARROW).requires_grad_(False)
    policy.proj.weight.copy_(experts.weight + 0.02 * experts.weight.norm() * torch.eye(NARROW, WIDE))
    adapter = read(write(tmp_path, experts.tensors()))
    with pytest.raises(BadInput, match=r"not the weight the adapter was trained on, it is 4\.5% off"):
        apply_exact(policy, adapter, {LINEAR: "proj"})  # type: ignore[arg-type]
