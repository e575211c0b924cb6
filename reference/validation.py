"""How well a policy in training does on held-out episodes, without running one."""

from __future__ import annotations

import torch
from torch import Tensor

from reference.demonstration_data import Frames, ask
from reference.grounding import positions
from reference.learner import FlowLearner, Learner

FRAMES = 96  # of each kind
FLOW_STEPS = 5


@torch.no_grad()
def validate_grounding(learner: Learner, frames: Frames) -> dict[str, float]:
    """``ground_cm``: mean distance [cm] between where each named cube is and where its word says it is."""
    chosen, device = _some(frames), _device(learner)
    batch = ask(chosen, chosen.named).to(device)
    true, found = positions(learner.head, learner.model.read(batch.images, batch.tokens, batch.token_mask), batch)
    return {"ground_cm": round(100 * float((true - found).norm(dim=1).mean()), 3)}


def validate_policy(learner: Learner, frames: Frames) -> dict[str, float]:
    """What `validate_chunks` and `validate_grounding` find."""
    return validate_chunks(learner, frames) | validate_grounding(learner, frames)


@torch.no_grad()
def validate_chunks(learner: FlowLearner, frames: Frames) -> dict[str, float]:
    """Of sampled chunks: mean absolute error of the joints [rad], and how often the words are obeyed.

    own_rad: asked for what the demonstration did. other_rad: asked for another cube (swapped instruction).
    first_rad: asked for another cube at an episode's first frame, before any motion tells which. obeyed: of the chunks
    for another cube, the share nearer to that cube's than to the demonstrated one's; obeyed_first: at first frames.
    """
    open_ = frames.choose(_other(frames) >= 0)
    first = open_.choose(open_.step == 0)
    found = {"own_rad": _error(_sampled(learner, _some(frames), None))}
    for name, kind in (("other", open_), ("first", first)):
        if len(kind):
            chosen = _some(kind)
            sampled, asked, shown = _sampled(learner, chosen, _other(chosen))
            nearer = (sampled - asked).abs().sum((1, 2)) < (sampled - shown).abs().sum((1, 2))
            found[f"{name}_rad"] = _error((sampled, asked, shown))
            found["obeyed" if name == "other" else "obeyed_first"] = round(float(nearer.float().mean()), 4)
    return found


def _sampled(learner: FlowLearner, frames: Frames, asked: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Chunks that the policy samples, those it was asked for, and those that were demonstrated; (N, H, 7) each."""
    device = _device(learner)
    batch = ask(frames, frames.named if asked is None else asked).to(device)
    shown = ask(frames, frames.named).chunk.to(device)
    reading = learner.model.read(batch.images, batch.tokens, batch.token_mask)
    prefix = learner.model.add_state(reading, learner.normal_state(batch.state))
    noise = torch.randn(batch.chunk.shape, generator=torch.Generator().manual_seed(0)).to(device)
    return learner.chunk(learner.model.sample(prefix, noise, FLOW_STEPS)), batch.chunk, shown


def _error(chunks: tuple[Tensor, Tensor, Tensor]) -> float:
    sampled, asked, _ = chunks
    return round(float((sampled - asked)[..., :6].abs().mean()), 5)


def _other(frames: Frames) -> Tensor:
    """For each frame, a cube that the expert would go for as well, though it was not named; -1 where there is none."""
    others = frames.valid.clone()
    others[torch.arange(len(frames)), frames.named] = False
    return torch.where(others.any(1), others.int().argmax(1), -1)


def _some(frames: Frames) -> Frames:
    """The same evenly spread frames every time."""
    return frames.choose(torch.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).long())


def _device(learner: FlowLearner) -> torch.device:
    return next(learner.parameters()).device
