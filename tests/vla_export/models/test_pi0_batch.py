"""Several samples at once, as training passes them, are each what they are alone."""

from __future__ import annotations

import torch

from tests.toy_policy import toy_policy, toy_samples


@torch.no_grad()
def test_a_batch_is_its_samples() -> None:
    model, samples = toy_policy(), toy_samples(3)
    assert len({int(s.observed["token_mask"].sum()) for s in samples}) > 1, (
        "padding must differ, or positions could be shared"
    )
    prefix = model.encode({name: torch.cat([s.observed[name] for s in samples]) for name in samples[0].observed})
    noise = torch.cat([s.noise for s in samples])
    times = torch.tensor([0.2, 0.5, 0.9])
    velocity, chunks = model.velocity(noise, times, prefix), model.sample(prefix, noise, 3)
    for n, sample in enumerate(samples):
        alone = model.encode(sample.observed)
        for name, tensor in alone.items():
            torch.testing.assert_close(prefix[name][n : n + 1], tensor, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            velocity[n : n + 1], model.velocity(sample.noise, times[n : n + 1], alone), rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(chunks[n : n + 1], model.sample(alone, sample.noise, 3), rtol=1e-4, atol=1e-5)
