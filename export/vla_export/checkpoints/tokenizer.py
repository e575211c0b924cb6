"""The tokenizer that a checkpoint carries, as the bundle holds and declares it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as TokenizerFile

from vla_export.checkpoints.documents import read_json
from vla_export.checkpoints.sentencepiece_model import read_sentencepiece_model
from vla_runtime.bundle.manifest import Tokenizer
from vla_runtime.errors import BadInput

FILE, SETTINGS, SPECIAL = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"
ASSETS = "assets"  # where openpi's checkpoints keep what is not weights
PADDING = "<pad>"


@dataclass(frozen=True)
class CheckpointTokenizer:
    """``config`` as the manifest declares it; ``definition`` is the text of the bundle's ``config.file``."""

    config: Tokenizer
    definition: str


@dataclass(frozen=True)
class _Found:
    definition: str
    pad_id: int
    bos_id: int | None


def load_tokenizer(
    directory: Path,
    name: str,
    vocabulary: int,
    *,
    template: str,
    max_length: int,
    sentencepiece_bos: bool,
    plain_task: bool = False,
    state_bins: int | None = None,
) -> CheckpointTokenizer:
    """Read the tokenizer of a checkpoint trained with the one called ``name``.

    A ``tokenizer.json`` in the directory or its ``assets`` is taken, else a sentencepiece model there is converted.
    A token put before every text is found by encoding one, or, where transformers adds it, in
    ``tokenizer_config.json``. A sentencepiece model says nothing of it: ``sentencepiece_bos`` says whether its own
    goes first.

    vocabulary: rows of the policy's embedding; tokens added beyond them, as PaliGemma's ``<image>`` is, are left out.
    template, max_length, plain_task, state_bins: go into the manifest as they are. Padding is hidden from every
    attention, so where no padding token is known, 0 serves. Raises `BadInput`.
    """
    found = _find(directory, name, vocabulary, sentencepiece_bos)
    config = Tokenizer(
        file=FILE,
        template=template,
        max_length=max_length,
        pad_id=found.pad_id,
        bos_id=found.bos_id,
        plain_task=plain_task,
        state_bins=state_bins,
    )
    return CheckpointTokenizer(config, found.definition)


def read_tokenizer(directory: Path, name: str, template: str, max_length: int, vocabulary: int) -> Tokenizer:
    """What `load_tokenizer` declares of a ``tokenizer.json`` that goes into the bundle as it is. Raises `BadInput`."""
    path = directory / FILE
    if not path.is_file():
        raise BadInput(f"no {FILE} in {directory}: the policy was trained with {name}; put its {FILE} there")
    read_json(path)
    _check_size(_parse(path, path.read_text(encoding="utf-8")), path, vocabulary)
    found = _from_json(path, vocabulary)
    return Tokenizer(file=FILE, template=template, max_length=max_length, pad_id=found.pad_id, bos_id=found.bos_id)


def _find(directory: Path, name: str, vocabulary: int, sentencepiece_bos: bool) -> _Found:
    places = [place for place in (directory, directory / ASSETS) if place.is_dir()]
    tokenizer_json = next((place / FILE for place in places if (place / FILE).is_file()), None)
    if tokenizer_json is not None:
        return _from_json(tokenizer_json, vocabulary)
    found = [sorted(path for path in place.glob("*.model") if path.is_file()) for place in places]
    candidates = next((paths for paths in found if paths), [])
    if len(candidates) > 1:
        names = ", ".join(path.name for path in candidates)
        raise BadInput(f"{candidates[0].parent} holds several sentencepiece models ({names}): leave the policy's own")
    if not candidates:
        raise BadInput(
            f"no {FILE} and no sentencepiece .model in {directory} or its {ASSETS}: "
            f"the policy was trained with {name}; put its {FILE} or .model there"
        )
    return _from_sentencepiece(candidates[0], vocabulary, sentencepiece_bos)


def _from_json(path: Path, vocabulary: int) -> _Found:
    content = read_json(path)
    definition = path.read_text(encoding="utf-8")
    tokenizer = _parse(path, definition)
    added = content.get("added_tokens", [])
    embedded = [token for token in added if token["id"] < vocabulary]
    if embedded != added:
        definition = json.dumps(content | {"added_tokens": embedded}, ensure_ascii=False)
        tokenizer = _parse(path, definition)
    _check_size(tokenizer, path, vocabulary)
    return _Found(definition, _padding(tokenizer, path.parent), _first_token(tokenizer, path))


def _from_sentencepiece(path: Path, vocabulary: int, bos_first: bool) -> _Found:
    model = read_sentencepiece_model(path)
    _check_size(model.tokenizer, path, vocabulary)
    if bos_first and model.bos_id is None:
        raise BadInput(f"{path} has no token for the beginning of a text, which the policy puts first: not its own")
    return _Found(model.tokenizer.to_str(), model.pad_id or 0, model.bos_id if bos_first else None)


def _parse(path: Path, definition: str) -> TokenizerFile:
    try:
        return TokenizerFile.from_str(definition)
    except Exception as error:  # the library raises nothing narrower
        raise BadInput(f"{path} is not a tokenizer of the tokenizers library: {error}") from error


def _check_size(tokenizer: TokenizerFile, path: Path, vocabulary: int) -> None:
    tokens = max(tokenizer.get_vocab().values(), default=-1) + 1
    if tokens > vocabulary:
        raise BadInput(f"{path} has {tokens} tokens, the policy embeds {vocabulary}: not its own")


def _settings(directory: Path, name: str) -> dict[str, Any]:
    return read_json(directory / name) if (directory / name).is_file() else {}


def _content(settings: Mapping[str, Any], key: str) -> str | None:
    token = settings.get(key)
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def _padding(tokenizer: TokenizerFile, directory: Path) -> int:
    names = [_content(_settings(directory, file), "pad_token") for file in (SETTINGS, SPECIAL)]
    tokens = (tokenizer.token_to_id(name) for name in [*names, PADDING] if name is not None)
    return next((token for token in tokens if token is not None), 0)


def _first_token(tokenizer: TokenizerFile, path: Path) -> int | None:
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    special = tokenizer.encode("a").ids
    if special != plain:
        if special[1:] != plain:
            raise BadInput(f"{path} adds more than one token before a text; an export knows no such layout")
        return special[0]
    settings_path = path.with_name(SETTINGS)
    settings = _settings(path.parent, SETTINGS)
    if settings.get("add_eos_token"):
        raise BadInput(f"{settings_path}: add_eos_token is true; an export knows only false")
    if not settings.get("add_bos_token"):
        return None
    bos = _content(settings, "bos_token")
    token = None if bos is None else tokenizer.token_to_id(bos)
    if token is None:
        raise BadInput(f"{settings_path}: add_bos_token is true, but {bos!r} is no token of {FILE}")
    return token
