"""Writes the reference policy's checkpoint as LeRobot 0.6 lays one out, with a LoRA-SP adapter beside it.

``python -m reference.write_checkpoint DIR [--seed 0]``: what `reference.checkpoint` writes, adapters.safetensors and
its configuration adapters.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor

from reference.adapter_weights import write_adapter
from reference.checkpoint import Statistics, Words, replacing, write_policy
from reference.policy_weights import SIZES, reference_policy
from vla_runtime.command import DONE, run

FLOW_STEPS = 10
MAX_TOKENS = 48
ADAPTER_STRENGTH = 0.01

# A pose above the table and the spread around it, in [rad] and [m]: three spreads stay inside the PiPER's limits.
MEAN = (0.0, 1.15, -1.2, 0.0, 0.6, 0.0, 0.035)
STD = (0.3, 0.13, 0.17, 0.2, 0.15, 0.3, 0.01)

CORPUS = [
    f"{verb} the {colour} cube {where}".strip()
    for verb in ("reach", "pick up", "push", "lift", "put down", "move to", "point at", "hold")
    for colour in ("red", "green", "blue")
    for where in ("", "on the table", "to the left", "to the right", "above the gripper")
]


def write_reference_checkpoint(directory: Path, seed: int = 0) -> None:
    """Write the checkpoint, the same bytes for the same seed, beside its place and then rename it there.

    An earlier checkpoint there is replaced; raises `BadInput` where something else is in the way.
    """
    generator = torch.Generator().manual_seed(seed)
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    with replacing(directory) as partial:
        model = reference_policy(generator)
        unread = _unread(generator)
        write_policy(
            partial, model, Statistics(mean, std, mean, std), Words(_tokenizer(), MAX_TOKENS), FLOW_STEPS, unread
        )
        write_adapter(partial, model, generator, ADAPTER_STRENGTH)


def _unread(generator: torch.Generator) -> dict[str, Tensor]:
    """The heads and the norm that LeRobot saves and nothing reads."""
    words, width = SIZES.vocabulary, SIZES.language.width
    shapes = {
        "model.paligemma_with_expert.paligemma.lm_head.weight": (words, width),
        "model.paligemma_with_expert.paligemma.model.language_model.norm.weight": (width,),
        "model.paligemma_with_expert.gemma_expert.lm_head.weight": (words, SIZES.expert.width),
    }
    return {name: torch.randn(*shape, generator=generator) for name, shape in shapes.items()}


def _tokenizer() -> Tokenizer:
    """A byte-level BPE that puts <bos> first, as PaliGemma's tokenizer does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZES.vocabulary,
        special_tokens=["<pad>", "<eos>", "<bos>", "<unk>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    bos = tokenizer.token_to_id("<bos>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", bos)])
    return tokenizer


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the reference policy's checkpoint.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    def work() -> int:
        write_reference_checkpoint(arguments.directory, arguments.seed)
        print(f"wrote {arguments.directory}")
        return DONE

    return run(work)


if __name__ == "__main__":
    sys.exit(main())
