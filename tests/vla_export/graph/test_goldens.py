"""Goldens are the float32 model's own answers."""

from __future__ import annotations

import numpy as np
import torch

from tests.vla_export.graph.conftest import FLOW_STEPS, random_policy, random_samples
from vla_export.graph.goldens import make_goldens
from vla_export.sample import sample_actions


def test_goldens_are_the_models_answers():
    model, samples = random_policy(), random_samples(2)
    goldens = make_goldens(model, samples, FLOW_STEPS)
    assert len(goldens) == 2
    for golden, sample in zip(goldens, samples, strict=True):
        assert np.array_equal(golden.chunk, sample_actions(model, sample, FLOW_STEPS).numpy())
        prefix = {name: torch.from_numpy(tensor) for name, tensor in golden.prefix.items()}
        chunk = torch.from_numpy(golden.noise)
        for step in range(FLOW_STEPS):
            times = torch.tensor([1 - step / FLOW_STEPS]), torch.tensor([1 - (step + 1) / FLOW_STEPS])
            chunk = model.denoise(chunk, *times, prefix)
            if step == 0:
                np.testing.assert_allclose(golden.step, chunk.numpy(), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(golden.chunk, chunk.numpy(), rtol=1e-5, atol=1e-5)
        assert {name: tensor.dtype for name, tensor in golden.inputs.items()} == {
            "images": np.float32,
            "tokens": np.int32,
            "token_mask": np.bool_,
            "state": np.float32,
        }
