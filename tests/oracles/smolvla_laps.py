"""LeRobot's side of `benchmarks.families`, run by LeRobot's own Python (lerobot_tiny.py says how to make it).

    lerobot-env/bin/python tests/oracles/smolvla_laps.py CHECKPOINT INPUTS THREADS WAY...

Answers with one line of JSON to each line it reads: first the versions, as soon as every WAY is ready; then, to the
name of one, what one chunk took. INPUTS holds what the policy sees and the noise; each WAY's actions are written beside
it, as WAY.safetensors. A WAY is a type of the weights and a mode:

- ``float32``: all of them; ``bfloat16``: those that LeRobot itself turns to bfloat16 where a policy's config says
  ``load_vlm_weights``, as that of the published SmolVLA and of its fine-tunings does;
- ``eager``, or ``compiled``: by torch.compile, as LeRobot's ``compile_model`` does it, in torch's default mode.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import lerobot_tiny as tiny
import smolvla_lerobot as oracle
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import SmolVLMConfig

PACKAGES = ("lerobot", "torch", "transformers")


def load(checkpoint: Path) -> SmolVLAPolicy:
    """A checkpoint that only names its vision-language model; the sizes are the published one's, or lie beside it."""
    config = PreTrainedConfig.from_pretrained(checkpoint)
    sizes = checkpoint / "vlm_config.json"
    vlm = SmolVLMConfig.from_json_file(sizes) if sizes.is_file() else oracle.published_vlm_config()
    oracle.write_vlm(config.vlm_model_name, vlm, Tokenizer.from_file(str(checkpoint / "tokenizer.json")))
    return SmolVLAPolicy.from_pretrained(checkpoint, config=config)


def to_bfloat16(policy: SmolVLAPolicy) -> None:
    """The vision-language model and the expert, but for those of its projections that LeRobot replaces afterwards."""
    both = policy.model.vlm_with_expert
    both.vlm.to(torch.bfloat16)
    for name, parameter in both.lm_expert.named_parameters():
        width = both.config.text_config.num_key_value_heads * both.config.text_config.head_dim
        if not (name.endswith(("k_proj.weight", "v_proj.weight")) and parameter.shape[1] == width):
            parameter.data = parameter.data.to(torch.bfloat16)


def observed(path: Path) -> dict[str, Any]:
    """What ``sample_actions`` takes; words are not padded, as is LeRobot's default."""
    tensors = load_file(path)
    words = tensors["token_mask"][0]
    images = tensors["images"].split(1)
    return {
        "images": list(images),
        "img_masks": [torch.ones(1, dtype=torch.bool)] * len(images),
        "lang_tokens": tensors["tokens"][:, words].long(),
        "lang_masks": tensors["token_mask"][:, words],
        "state": tensors["state"],
        "noise": tensors["noise"],
    }


@contextmanager
def watched(policy: SmolVLAPolicy) -> Iterator[Counter[str]]:
    """Seconds of vision and steps while it lasts."""
    seconds: Counter[str] = Counter()
    places = ((policy.model.vlm_with_expert, "embed_image", "vision"), (policy.model, "denoise_step", "steps"))
    for owner, name, stage in places:
        setattr(owner, name, timed(getattr(owner, name), stage, seconds))
    yield seconds
    for owner, name, _ in places:
        delattr(owner, name)


def timed(function: Callable[..., Any], stage: str, seconds: Counter[str]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        started = time.perf_counter()
        result = function(*arguments, **named)
        seconds[stage] += time.perf_counter() - started
        return result

    return call


@torch.no_grad()
def lap(sample_actions: Callable[..., torch.Tensor], inputs: dict[str, Any]) -> tuple[dict[str, Any], torch.Tensor]:
    started, worked = time.perf_counter(), time.process_time()
    actions = sample_actions(**inputs)
    return {"seconds": time.perf_counter() - started, "cpu": time.process_time() - worked}, actions


def run(way: str, policy: SmolVLAPolicy, inputs: dict[str, Any]) -> tuple[dict[str, Any], torch.Tensor]:
    if way.endswith("compiled"):
        found, actions = lap(policy.compiled, inputs)
        return {**found, "stages": {}}, actions
    with watched(policy) as stages:
        found, actions = lap(policy.model.sample_actions, inputs)
    prefix = found["seconds"] - stages["vision"] - stages["steps"]
    return {**found, "stages": {"vision": stages["vision"], "prefix": prefix, "steps": stages["steps"]}}, actions


def prepare(checkpoint: Path, ways: list[str]) -> dict[str, SmolVLAPolicy]:
    """Ways that share their weights' type share the policy."""
    policies = {"float32": load(checkpoint)}
    if any(way.startswith("bfloat16") for way in ways):
        policies["bfloat16"] = copy.deepcopy(policies["float32"])
        to_bfloat16(policies["bfloat16"])
    for way in ways:
        if way.endswith("compiled"):
            policy = policies[way.split()[0]]
            policy.compiled = torch.compile(policy.model.sample_actions)
    return {way: policies[way.split()[0]] for way in ways}


def main() -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # LeRobot prints what it does
    checkpoint, path, threads, *ways = sys.argv[1:]
    torch.set_num_threads(int(threads))
    inputs_path = Path(path).resolve()
    source = Path(checkpoint).resolve()
    with tiny.working_directory():
        policies = prepare(source, ways)
        inputs = observed(inputs_path)
        print(json.dumps({name: metadata.version(name) for name in PACKAGES}), file=answers)
        for line in sys.stdin:
            way = line.strip()
            found, actions = run(way, policies[way], inputs)
            save_file({"chunk": actions.contiguous()}, inputs_path.with_name(f"{way}.safetensors"))
            print(json.dumps(found), file=answers)


if __name__ == "__main__":
    main()
