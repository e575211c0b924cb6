"""What a policy sees and commands, from what its checkpoint says and what its deployment adds."""

from __future__ import annotations

from pathlib import Path

from vla_export.checkpoints.checkpoint import Interface
from vla_export.checkpoints.deployment import FILE, Deployment, read_deployment
from vla_export.checkpoints.lerobot_fields import IMAGES
from vla_export.checkpoints.policy_config import PolicyConfig
from vla_export.checkpoints.processing import Processing
from vla_export.checkpoints.tokenizer import CheckpointTokenizer, load_tokenizer
from vla_runtime.bundle.manifest import Camera, Dimension, Space
from vla_runtime.errors import BadInput


def read_interface(directory: Path, config: PolicyConfig, processing: Processing) -> Interface:
    """Read ``deployment.yaml`` and the tokenizer, and put everything together; raises `BadInput`."""
    deployment = read_deployment(directory, config.state.numbers, config.action.numbers)
    tokenizer = _tokenizer(directory, config, processing)
    trained = tuple(processing.sources.get(key, key).removeprefix(IMAGES) for key in config.cameras)
    robot_cameras = deployment.robot_cameras(trained)
    return Interface(
        cameras=_cameras(config, tuple(robot_cameras.values())),
        trained_cameras={robot: name for name, robot in robot_cameras.items()},
        state=Space(
            dimensions=deployment.state,
            normalisation=processing.state,
            padded_to=config.state.padded_to,
            quantity=deployment.quantity.state,
        ),
        action=Space(
            dimensions=deployment.action,
            normalisation=processing.action,
            padded_to=config.action.padded_to,
            quantity=deployment.quantity.action,
            relative=_relative(directory / FILE, config, deployment),
        ),
        horizon=config.horizon,
        rate=deployment.rate,
        flow_steps=config.flow_steps,
        tokenizer=tokenizer.config,
        tokenizer_definition=tokenizer.definition,
    )


def _cameras(config: PolicyConfig, names: tuple[str, ...]) -> tuple[Camera, ...]:
    images = config.images
    return tuple(
        Camera(
            name=name,
            height=images.side,
            width=images.side,
            padding=images.padding,
            bars=images.bars,
            resize=images.resize,
        )
        for name in names
    )


def _relative(path: Path, config: PolicyConfig, deployment: Deployment) -> tuple[bool, ...]:
    """Which dimensions of an action are relative to the state, and that the state has them."""
    if config.relative is None:
        if deployment.relative_actions is None:
            raise BadInput(
                f"{path}: relative_actions is missing: this layout does not record which actions count from the state; "
                "name them as the training config had them ([] for none)"
            )
        return deployment.relative()
    if deployment.relative_actions is not None and deployment.relative() != config.relative:
        raise BadInput(f"{path}: relative_actions names other actions than the checkpoint says; leave it out")
    for n, (dimension, is_relative) in enumerate(zip(deployment.action, config.relative, strict=False)):
        if is_relative and (n >= len(deployment.state) or not _same(dimension, deployment.state[n])):
            raise BadInput(
                f"{path}: action {dimension.name} is relative to number {n} (from 0) of the state, which must have its "
                "name and unit"
            )
    return config.relative


def _same(one: Dimension, other: Dimension) -> bool:
    return (one.name, one.unit) == (other.name, other.unit)


def _tokenizer(directory: Path, config: PolicyConfig, processing: Processing) -> CheckpointTokenizer:
    return load_tokenizer(
        directory,
        processing.tokenizer,
        config.vocabulary,
        template=processing.prompt.template,
        max_length=config.max_tokens,
        sentencepiece_bos=True,  # of these families' tokenizers only PaliGemma's is a sentencepiece model
        plain_task=processing.prompt.plain_task,
        state_bins=processing.prompt.state_bins,
    )
