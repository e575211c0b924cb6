"""What the scripts that write goldens from LeRobot 0.6.1 share: tiny tokenizers, random weights and data, saving.

LeRobot needs its own Python 3.12 environment; the scripts run offline, on the CPU, in under a minute each:

    python3.12 -m venv lerobot-env && lerobot-env/bin/pip install "torch<2.12" --index-url https://download.pytorch.org/whl/cpu
    lerobot-env/bin/pip install "lerobot[pi,smolvla]==0.6.1"
    for family in pi0 pi05 smolvla; do lerobot-env/bin/python tests/oracles/${family}_lerobot.py; done
    lerobot-env/bin/python tests/oracles/processors_lerobot.py

Nothing that computes in LeRobot is touched. Models and tokenizers that LeRobot would fetch by name are found in a
directory of that name instead, see `working_directory`.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the libraries below are imported

import torch
import yaml
from lerobot.configs import FeatureType, PolicyFeature
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

GOLDENS = Path(__file__).parent / "goldens"
NAMES = [*(f"joint{n}" for n in range(1, 7)), "gripper"]
TASK = "put the red cube on the table"
TASKS = [TASK, "pick up the green cube", "push the blue cube to the left"]
IMAGES = "observation.images."

Statistics = dict[str, dict[str, torch.Tensor]]


@contextlib.contextmanager
def working_directory() -> Iterator[Path]:
    """An empty current directory: transformers prefers the relative path ``owner/name`` to the hub's repository."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        try:
            yield Path(directory)
        finally:
            os.chdir(before)


def train_tokenizer(special: Sequence[str], corpus: Iterable[str], first: str | None = None) -> Tokenizer:
    """A byte-level BPE of 300 tokens at most; ``first`` is the special token it puts before every text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=300,
            special_tokens=list(special),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    if first is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{first} $A", special_tokens=[(first, tokenizer.token_to_id(first))]
        )
    return tokenizer


def gemma_tokenizer(corpus: Iterable[str]) -> Tokenizer:
    """With Gemma's special tokens, <bos> before every text as PaliGemma's has it."""
    return train_tokenizer(["<pad>", "<eos>", "<bos>", "<unk>"], corpus, first="<bos>")


def as_paligemma(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Saved under the name by which LeRobot asks for π0's tokenizer."""
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )
    wrapped.save_pretrained("google/paligemma-3b-pt-224")
    return wrapped


def randomise(
    policy: torch.nn.Module,
    generator: torch.Generator,
    scales: Callable[[str], bool],
    quiet: Sequence[str] = (),
) -> None:
    """Weights of variance 1 / fan-in, norms and biases around their neutral value, so that none is neutral.

    scales: whether a vector of that name multiplies, so that 1 is its neutral value. quiet: parts of the names of
    weights a hundred times smaller, so that the epsilon of the norm behind them shows.
    """
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                parameter.copy_(0.2 * noise + float(scales(name)))
            elif "vision_model.embeddings" in name:  # so small that the norms' epsilon shows
                parameter.copy_(0.05 * noise if "position" in name else 0.003 * noise)
            elif "embed_tokens" in name:
                parameter.copy_(0.3 * noise)
            else:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            if any(part in name for part in quiet):
                parameter.mul_(0.01)


def statistics(generator: torch.Generator, width: int = len(NAMES)) -> Statistics:
    """All that LeRobot computes of a dataset's states and actions, of quantiles that do order."""

    def random() -> dict[str, torch.Tensor]:
        ordered = torch.randn(7, width, generator=generator).sort(dim=0).values
        names = ("min", "q01", "q10", "q50", "q90", "q99", "max")
        return {
            **{name: row.clone() for name, row in zip(names, ordered, strict=True)},
            "mean": torch.randn(width, generator=generator),
            "std": torch.rand(width, generator=generator) + 0.1,
            "count": torch.tensor([5000.0]),
        }

    return {"observation.state": random(), "action": random()}


def features(cameras: Mapping[str, tuple[int, int]]) -> dict[str, dict[str, PolicyFeature]]:
    """A policy's features for cameras of (height, width), in their order."""
    return {
        "input_features": {
            **{IMAGES + c: PolicyFeature(FeatureType.VISUAL, (3, *size)) for c, size in cameras.items()},
            "observation.state": PolicyFeature(FeatureType.STATE, (len(NAMES),)),
        },
        "output_features": {"action": PolicyFeature(FeatureType.ACTION, (len(NAMES),))},
    }


def random_frames(cameras: Mapping[str, tuple[int, int]], generator: torch.Generator) -> dict[str, torch.Tensor]:
    """uint8[3, height, width] of each camera."""
    return {
        camera: torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
        for camera, size in cameras.items()
    }


def observation(frames: Mapping[str, torch.Tensor], state: torch.Tensor) -> dict[str, Any]:
    """As LeRobot's robot loop hands it to the preprocessor."""
    images = {IMAGES + camera: frame.float() / 255.0 for camera, frame in frames.items()}
    return {**images, "observation.state": state, "task": TASK}


def raw(frames: Mapping[str, torch.Tensor], state: torch.Tensor) -> dict[str, torch.Tensor]:
    """The observation as a robot has it: frames uint8[height, width, 3], the state in its units, the task in UTF-8."""
    return {
        **{f"frame.{camera}": frame.permute(1, 2, 0) for camera, frame in frames.items()},
        "raw_state": state,
        "task": torch.tensor(list(TASK.encode()), dtype=torch.uint8),
    }


def cached(past: Iterable[Any]) -> dict[str, torch.Tensor]:
    """The prefix's keys and values of every layer, [1, kv heads, prefix, head_dim]."""
    layers = list(past)
    return {
        **{f"key_{n:02d}": key for n, (key, *_) in enumerate(layers)},
        **{f"value_{n:02d}": value for n, (_, value, *_) in enumerate(layers)},
    }


def save_processors(pre: Any, post: Any, directory: Path) -> None:
    pre.save_pretrained(directory)
    post.save_pretrained(directory)


def change_config(directory: Path, **sizes: object) -> None:
    """Add to config.json what LeRobot hard-codes and a deployment of other sizes must state."""
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | sizes, indent=4) + "\n")


def write_deployment(directory: Path) -> None:
    units = ["rad"] * 6 + ["m"]
    space = [{"name": n, "unit": u, "lower": -3.2, "upper": 3.2} for n, u in zip(NAMES, units, strict=True)]
    (directory / "deployment.yaml").write_text(yaml.safe_dump({"rate": 10, "state": space, "action": space}))


def write_tensors(name: str, tensors: Mapping[str, torch.Tensor], **metadata: object) -> None:
    """Contiguous copies in ``goldens/name``; metadata as one JSON object, "about", in the file's header."""
    header = {"about": json.dumps(metadata)}
    copies = {key: tensor.contiguous().clone() for key, tensor in tensors.items()}
    save_file(copies, GOLDENS / name, metadata=header if metadata else None)


def write_shapes(name: str, policy: torch.nn.Module) -> None:
    shapes = {key: list(tensor.shape) for key, tensor in policy.state_dict().items()}
    (GOLDENS / name).write_bytes(gzip.compress(json.dumps(shapes).encode(), mtime=0))
