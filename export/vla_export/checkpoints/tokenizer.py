"""The tokenizer that a checkpoint carries, as the bundle declares it."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer as TokenizerFile

from vla_export.checkpoints.documents import read_json
from vla_runtime.bundle.manifest import Tokenizer
from vla_runtime.errors import BadInput

FILE, SETTINGS = "tokenizer.json", "tokenizer_config.json"
PADDING = "<pad>"


def read_tokenizer(directory: Path, name: str, template: str, max_length: int, vocabulary: int) -> Tokenizer:
    """Read ``tokenizer.json`` of a checkpoint trained with the tokenizer called ``name``.

    vocabulary: rows of the policy's embedding. A token put before every text is found by encoding one, or, where
    transformers adds it, in ``tokenizer_config.json``. Raises `BadInput`.
    """
    path = directory / FILE
    if not path.is_file():
        raise BadInput(f"no {FILE} in {directory}: the policy was trained with {name}; put its {FILE} there")
    try:
        tokenizer = TokenizerFile.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises nothing narrower
        raise BadInput(f"{path} is not a tokenizer of the tokenizers library: {error}") from error
    if tokenizer.get_vocab_size() > vocabulary:
        raise BadInput(f"{path} has {tokenizer.get_vocab_size()} tokens, the policy embeds {vocabulary}: not its own")
    padding = tokenizer.token_to_id(PADDING)
    if padding is None:
        raise BadInput(f"{path} has no {PADDING} token")
    return Tokenizer(
        file=FILE,
        template=template,
        max_length=max_length,
        pad_id=padding,
        bos_id=_first_token(tokenizer, directory),
    )


def _first_token(tokenizer: TokenizerFile, directory: Path) -> int | None:
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    special = tokenizer.encode("a").ids
    if special != plain:
        if special[1:] != plain:
            raise BadInput(f"{directory / FILE} adds more than one token before a text; an export knows no such layout")
        return special[0]
    settings = read_json(directory / SETTINGS) if (directory / SETTINGS).is_file() else {}
    if settings.get("add_eos_token"):
        raise BadInput(f"{directory / SETTINGS}: add_eos_token is true; an export knows only false")
    if not settings.get("add_bos_token"):
        return None
    bos = settings.get("bos_token")
    bos = bos.get("content") if isinstance(bos, dict) else bos
    token = tokenizer.token_to_id(bos) if isinstance(bos, str) else None
    if token is None:
        raise BadInput(f"{directory / SETTINGS}: add_bos_token is true, but {bos!r} is no token of {FILE}")
    return token
