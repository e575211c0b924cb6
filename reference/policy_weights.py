"""Weights of the reference policy: random, but for a few circuits that make it behave like a policy.

Untrained weights alone would command white noise. Three linear circuits, set by hand on channels of the expert's stream
that the random layers touch little, give the chunk the shape a trained policy's has:

- the velocity is proportional to the noisy chunk minus a target, so that the flow's noise dies out;
- the target at the start of a chunk is the present state: early actions attend to the state token, which rotary
  positions let fade over the horizon;
- the target at its end is the state turned in three planes of two joints, which fades in the same way around: replanned
  often, the arm goes round a limit cycle whose size the norms bound.

All else is random: what the cameras see and the task says bends that motion, as random features.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from vla_export.models.blocks import MLP, GatedMLP, Layer, StackSize
from vla_export.models.norms import RMSNorm
from vla_export.models.pi0 import Pi0, Pi0Config

DIMENSIONS = 7

SIZES = Pi0Config(
    vision=StackSize(depth=4, width=96, mlp=192, heads=4, kv_heads=4, head_dim=24),
    language=StackSize(depth=8, width=128, mlp=192, heads=4, kv_heads=1, head_dim=32),
    expert=StackSize(depth=8, width=96, mlp=192, heads=4, kv_heads=1, head_dim=32),
    vocabulary=512,
    image_size=84,
    patch_size=14,
    horizon=16,
    state_width=32,
    action_width=32,
)

# Layers that change their stream by a hundredth of what the others do: a depth-pruning method should find them.
TWINS = (2, 4, 5, 7)
READER = 3  # the expert's layer that attends to the state

# Channels of the expert's stream.
NOISY = slice(0, 7)  # actions: the noisy chunk; state: the state
START, END = slice(7, 14), slice(14, 21)
CIRCUITS = slice(0, 21)
BACKGROUND = slice(21, 94)  # constant and random: it keeps the norms near one
STATE_MARK, ACTION_MARK = 94, 95

CONTRACTION = 3.2  # velocity per distance to the target; 10 Euler steps leave (1 - 0.32)^10 = 2 % of the noise
GAIN = 0.45  # the limit cycle's size: about 1.3 standard deviations, never 3
PLANES = ((0, 3), (1, 2), (4, 5))  # turned by 90 degrees; the gripper settles
MARK = 3.0
ASKING, ANSWERING = 2.3, 1.3  # how sharply an action's mark attends to a state's
FADING = 4  # the rotary pair that turns by 0.1 rad a position: a quarter turn over the horizon
PHASE = 1.2  # where on that turn the late heads look hardest, in [rad]


def reference_policy(generator: torch.Generator) -> Pi0:
    """A π0 of `SIZES` with the weights described above, reproducible from the generator's seed."""
    model = Pi0(SIZES)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    with torch.no_grad():
        _randomise(model, random)
        (vision,) = model.vision.stacks()
        for stack, strong in ((vision, 0.4), (model.language, 0.5), (model.expert, 0.25)):
            for n, layer in enumerate(stack):
                _scale_update(layer, 0.01 * strong if n in TWINS and stack is not vision else strong)
        _embed_state_and_actions(model, random)
        _attend_to_the_state(model)
        _read_out(model, random)
    return model.eval().requires_grad_(False)


def _randomise(model: Pi0, random: Callable[..., Tensor]) -> None:
    for name, parameter in model.named_parameters():
        noise = random(*parameter.shape)
        if parameter.ndim == 1:
            is_layer_norm = name.startswith("vision") and "norm" in name and name.endswith("weight")
            parameter.copy_(0.05 * noise + float(is_layer_norm))
        elif name == "embedding.weight":  # the model multiplies it by sqrt(width)
            parameter.copy_(noise / parameter.shape[1] ** 0.5)
        elif name == "vision.position_embedding":
            parameter.copy_(0.5 * noise)
        else:
            parameter.copy_(noise / parameter[0].numel() ** 0.5)


def _scale_update(layer: Layer, factor: float) -> None:
    for linear in _outputs(layer):
        for parameter in linear.parameters():
            parameter.mul_(factor)


def _outputs(layer: Layer) -> tuple[nn.Linear, nn.Linear]:
    """The two linears that write to the residual stream."""
    if isinstance(layer.mlp, GatedMLP):
        return layer.attention.o_proj, layer.mlp.down_proj
    assert isinstance(layer.mlp, MLP)
    return layer.attention.o_proj, layer.mlp.fc2


def _embed_state_and_actions(model: Pi0, random: Callable[..., Tensor]) -> None:
    """State and noisy actions each into their own channels, unchanged, with a constant mark of what they are."""
    identity = torch.eye(DIMENSIONS)
    for layer in model.expert:
        for linear in _outputs(layer):
            linear.weight[CIRCUITS].mul_(0.05)
            linear.weight[STATE_MARK:].zero_()

    model.state_proj.weight.zero_()
    model.state_proj.weight[NOISY, :DIMENSIONS] = identity
    model.state_proj.bias.zero_()
    model.state_proj.bias[BACKGROUND] = 0.1 * random(BACKGROUND.stop - BACKGROUND.start)
    model.state_proj.bias[STATE_MARK] = 2.0

    # silu(a) - silu(-a) = a: a pair of hidden channels carries an action through the MLP unchanged.
    inward, outward = model.action_time_mlp_in, model.action_time_mlp_out
    model.action_in_proj.weight.mul_(0.3)
    model.action_in_proj.weight[:DIMENSIONS] = 0.0
    model.action_in_proj.weight[:DIMENSIONS, :DIMENSIONS] = identity
    model.action_in_proj.bias.zero_()
    pairs = 2 * DIMENSIONS
    inward.weight[:pairs] = 0.0
    inward.weight[0:pairs:2, :DIMENSIONS] = identity
    inward.weight[1:pairs:2, :DIMENSIONS] = -identity
    inward.bias[:pairs] = 0.0
    outward.weight[:, :pairs] = 0.0
    outward.weight[CIRCUITS] = 0.0
    outward.weight[STATE_MARK:] = 0.0
    outward.weight[NOISY, 0:pairs:2] = identity
    outward.weight[NOISY, 1:pairs:2] = -identity
    outward.bias.zero_()
    outward.bias[BACKGROUND] = random(BACKGROUND.stop - BACKGROUND.start)
    outward.bias[ACTION_MARK] = MARK


def _attend_to_the_state(model: Pi0) -> None:
    """In one layer, half of the heads see the state from early actions, half from late ones."""
    head_dim = SIZES.expert.head_dim
    attention, prefix = (list(stack)[READER].attention for stack in (model.expert, model.language))
    pair = (FADING, FADING + head_dim // 2)
    for row in pair:
        prefix.k_proj.weight[row].mul_(0.1)
    prefix.v_proj.weight[:DIMENSIONS].mul_(0.5)
    attention.k_proj.weight.mul_(0.2)
    attention.k_proj.weight[list(pair)] = 0.0
    attention.k_proj.weight[FADING, STATE_MARK] = ANSWERING
    attention.q_proj.weight.mul_(0.2)
    attention.v_proj.weight[:DIMENSIONS] = 0.0
    attention.v_proj.weight[:DIMENSIONS, NOISY] = torch.eye(DIMENSIONS)
    attention.o_proj.weight[START.start : END.stop] = 0.0
    turn = _turn()
    for head in range(SIZES.expert.heads):
        late = head % 2 == 1
        phase = PHASE if late else 0.0
        rows = [head * head_dim + row for row in pair]
        attention.q_proj.weight[rows] = 0.0
        attention.q_proj.weight[rows[0], ACTION_MARK] = ASKING * math.cos(phase)
        attention.q_proj.weight[rows[1], ACTION_MARK] = -ASKING * math.sin(phase)
        values = slice(head * head_dim, head * head_dim + DIMENSIONS)
        attention.o_proj.weight[END if late else START, values] = (turn if late else torch.eye(DIMENSIONS)) / (
            SIZES.expert.heads // 2
        )


def _turn() -> Tensor:
    turn = torch.zeros(DIMENSIONS, DIMENSIONS)
    for a, b in PLANES:
        turn[a, b], turn[b, a] = -1.0, 1.0
    return turn


def _read_out(model: Pi0, random: Callable[..., Tensor]) -> None:
    assert isinstance(model.expert.norm, RMSNorm)
    model.expert.norm.weight.zero_()
    readout = model.action_out_proj
    readout.bias.zero_()
    readout.weight.zero_()
    background = BACKGROUND.stop - BACKGROUND.start
    readout.weight[:DIMENSIONS, BACKGROUND] = 0.1 * random(DIMENSIONS, background) / background**0.5
    for channels, gain in ((NOISY, 1.0), (START, -GAIN), (END, -GAIN)):
        readout.weight[:DIMENSIONS, channels] = CONTRACTION * gain * torch.eye(DIMENSIONS)
    readout.weight[DIMENSIONS - 1, START] *= 0.5
