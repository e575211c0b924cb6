"""Writes what LeRobot 0.6.1's processors answer by themselves: normalisation, relative actions, prompts.

How to run it is in lerobot_tiny.py. Written under ``tests/oracles/goldens/``:

- ``normalisation.safetensors``: vectors normalised and unnormalised in every mode. Of six dimensions, number 2 has no
  deviation, 3 no range, 4 no range between the 1st and 99th percentile, 5 none between the 10th and 90th;
- ``relative/``: config and processors of a π0 trained on actions relative to the state, but for the gripper;
- ``relative_outputs.safetensors``: a state, a normalised chunk, and the actions the postprocessor makes of the two;
- ``prompts.json``: tasks and normalised states, and the text each family's preprocessor makes of them.
"""

from __future__ import annotations

import json
from typing import Any

import lerobot_gemma as gemma
import lerobot_tiny as tiny
import pi0_lerobot as pi0
import torch
from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature
from lerobot.lerobot_types import TransitionKey
from lerobot.policies.factory import make_pre_post_processors
from lerobot.policies.pi0.processor_pi0 import Pi0NewLineProcessor
from lerobot.policies.pi05.processor_pi05 import Pi05PrepareStateTokenizerProcessorStep
from lerobot.processor import NewLineTaskProcessorStep, NormalizerProcessorStep, UnnormalizerProcessorStep

SEED = 20_250_115


def normalisation(generator: torch.Generator) -> dict[str, torch.Tensor]:
    width = 6
    statistics = tiny.statistics(generator, width)["action"]
    statistics["std"][2] = 0.0
    for dimension, low, high in ((3, "min", "max"), (4, "q01", "q99"), (5, "q10", "q90")):
        statistics[high][dimension] = statistics[low][dimension]
    centres = torch.stack([statistics[name] for name in ("mean", "min", "max", "q01", "q90")])
    vectors = torch.cat([torch.randn(5, width, generator=generator), centres])
    features = {"action": PolicyFeature(FeatureType.ACTION, (width,))}
    found = {"vectors": vectors, **{f"statistic.{name}": value for name, value in statistics.items()}}
    for mode in NormalizationMode:
        settings = {"norm_map": {FeatureType.ACTION: mode}, "stats": {"action": statistics}}
        for what, step in (
            ("normalised", NormalizerProcessorStep(features=features, **settings)),
            ("unnormalised", UnnormalizerProcessorStep(features=features, **settings)),
        ):
            found[f"{what}.{mode.value}"] = step({TransitionKey.ACTION: vectors})[TransitionKey.ACTION]
    return found


def relative(generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Writes the directory; its processors are read back before they compute."""
    directory = tiny.GOLDENS / "relative"
    directory.mkdir(parents=True, exist_ok=True)
    words = tiny.gemma_tokenizer(tiny.TASKS)
    tiny.as_paligemma(words)
    config = pi0.configure(
        pi0.MAIN,
        use_relative_actions=True,
        relative_exclude_joints=["gripper"],
        action_feature_names=[f"{name}.pos" for name in tiny.NAMES],
    )
    config.save_pretrained(directory)
    gemma.write_sizes(directory, pi0.SIZES, words.get_vocab_size())
    statistics = pi0.mean_and_std(generator)
    tiny.save_processors(*make_pre_post_processors(config, dataset_stats=statistics), directory)
    pre, post = make_pre_post_processors(config, pretrained_path=str(directory))
    state = torch.randn(len(tiny.NAMES), generator=generator)
    chunk = torch.randn(1, config.chunk_size, len(tiny.NAMES), generator=generator)
    pre(tiny.observation(tiny.random_frames(pi0.MAIN, generator), state))
    return {"raw_state": state, "chunk": chunk, "actions": post(chunk)}


def prompts() -> list[dict[str, Any]]:
    """States at, and next to, the bounds of bins: [-1, 1] has 256, and what lies below is -1."""
    tasks = [tiny.TASK, "pick_up\nthe  cube ", " \n close the gripper\n", "ends with a line\n", ""]
    one = torch.tensor(1.0)
    states = torch.stack(
        [
            torch.tensor([-1.0, 1.0, 0.0, 0.5]),
            torch.tensor([-1.5, 1.5, -0.0078125, 0.0078125]),
            torch.stack([torch.nextafter(-one, -2 * one), torch.nextafter(one, 0 * one), *torch.tensor([-1e-9, 1e-9])]),
            torch.tensor([0.9921875, 0.99218744, -0.9921875, -0.99218756]),
            torch.tensor([1e8, -1e8, 0.123, -0.987]),
        ]
    )
    found = []
    for task, state in zip(tasks, states, strict=True):
        made: dict[str, Any] = {"task": task, "normalised_state": state.tolist()}
        for family, step in (
            ("pi0", Pi0NewLineProcessor()),
            ("smolvla", NewLineTaskProcessorStep()),
            ("pi05", Pi05PrepareStateTokenizerProcessorStep()),
        ):
            transition = {
                TransitionKey.OBSERVATION: {"observation.state": state[None]},
                TransitionKey.COMPLEMENTARY_DATA: {"task": [task]},
            }
            made[family] = step(transition)[TransitionKey.COMPLEMENTARY_DATA]["task"][0]
        found.append(made)
    return found


def main() -> None:
    generator = torch.Generator().manual_seed(SEED)
    tiny.write_tensors("normalisation.safetensors", normalisation(generator))
    tiny.write_tensors("relative_outputs.safetensors", relative(generator))
    (tiny.GOLDENS / "prompts.json").write_text(json.dumps(prompts(), indent=1) + "\n")


if __name__ == "__main__":
    with tiny.working_directory():
        main()
