"""A torch model behind the engine protocol."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import vjp

from vla_runtime.engines.torch import TorchEngine
from vla_runtime.policy.sampling import euler_steps
from vla_runtime.profiling.spans import Spans


class Line(nn.Module):
    """A straight flow whose end is the state, repeated: velocity = (x - state) / t."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones((), dtype=dtype))

    def encode(self, observed: dict[str, Tensor]) -> dict[str, Tensor]:
        assert observed["tokens"].dtype == torch.int32
        return {"prefix_mask": observed["token_mask"], "key_00": observed["state"] * self.gain}

    def denoise(self, chunk: Tensor, time: Tensor, next_time: Tensor, prefix: dict[str, Tensor]) -> Tensor:
        return chunk + (next_time - time) * (chunk - prefix["key_00"].float()) / time

    def guided(
        self,
        chunk: Tensor,
        time: Tensor,
        next_time: Tensor,
        prefix: dict[str, Tensor],
        previous: Tensor,
        weights: Tensor,
        beta: Tensor,
    ) -> Tensor:
        def clean(x: Tensor) -> Tensor:
            return x * prefix["key_00"]

        _, pull = vjp(clean, chunk)
        return chunk + beta * weights * pull(previous)[0] * (time - next_time)


INPUTS = {
    "images": np.zeros((1, 3, 2, 2), np.float32),
    "tokens": np.zeros((1, 4), np.int32),
    "token_mask": np.array([[True, True, False, False]]),
    "state": np.array([[1.0, -2.0]], np.float32),
}


def test_numpy_in_numpy_out() -> None:
    engine = TorchEngine(Line())
    prefix = engine.encode(INPUTS)
    *_, chunk = euler_steps(engine, prefix, np.ones((1, 3, 2), np.float32), 4, Spans())
    assert chunk.dtype == np.float32
    np.testing.assert_allclose(chunk, np.broadcast_to([1.0, -2.0], (1, 3, 2)), atol=1e-6)
    arrays = engine.prefix_arrays(prefix)
    np.testing.assert_array_equal(arrays["prefix_mask"], INPUTS["token_mask"])
    np.testing.assert_array_equal(arrays["key_00"], INPUTS["state"])


def test_the_name_tells_the_precision_and_bfloat16_can_be_compared() -> None:
    engine = TorchEngine(Line(torch.bfloat16))
    assert engine.name == "torch CPU bf16"
    assert engine.prefix_arrays(engine.encode(INPUTS))["key_00"].dtype == np.float32
    assert TorchEngine(Line()).name == "torch CPU fp32"


def test_a_gradient_flows_by_a_prefix_that_was_encoded_before() -> None:
    engine = TorchEngine(Line())
    assert engine.can_guide
    chunk, previous = np.zeros((1, 3, 2), np.float32), np.full((1, 3, 2), 0.5, np.float32)
    weights = np.array([1.0, 0.5, 0.0], np.float32)[None, :, None]
    found = engine.guided(chunk, 0.5, 0.25, engine.encode(INPUTS), previous, weights, 4.0)
    np.testing.assert_allclose(found, 4 * weights * (0.5 * np.array([1.0, -2.0])) * 0.25, atol=1e-6)
