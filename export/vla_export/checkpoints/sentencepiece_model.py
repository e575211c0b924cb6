"""A sentencepiece model as a tokenizer of the tokenizers library, so that the robot needs no sentencepiece.

Kudo, Richardson: SentencePiece, https://arxiv.org/abs/1808.06226. What follows keeps to the library's encoder:
normalizer.cc, bpe_model.cc, unigram_model.cc.

A BPE model without a character map, as Gemma's and Llama's are, gives the same ids for every text. A Unigram model
gives a segmentation of the same, highest score: where several share it, the library picks by the rounding of its 32-bit
sums. A character map (NFKC and its variants) is applied to whole grapheme clusters, so a cluster of several code
points, such as a letter with a separate accent, can come out otherwise than from the library.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor
from sentencepiece.sentencepiece_model_pb2 import (  # type: ignore[attr-defined]  # protobuf makes them at import
    ModelProto,
    TrainerSpec,
)
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers

from vla_runtime.errors import BadInput
from vla_runtime.policy.tokens import MAX_CHARACTERS

SPACE = "▁"
CHARACTER_MAPS = ("nfkc", "nfkc_cf", "nmt_nfkc", "nmt_nfkc_cf")  # the library's own: their rules end at grapheme bounds
REMEDY = "put the tokenizer.json that the policy was trained with beside its weights"
Piece = ModelProto.SentencePiece


@dataclass(frozen=True)
class SentencePieceModel:
    """A converted model. The ids of its control pieces are None where it has none; it puts nothing before a text."""

    tokenizer: Tokenizer
    bos_id: int | None
    pad_id: int | None


def read_sentencepiece_model(path: Path) -> SentencePieceModel:
    """Convert a ``.model`` file. Raises `BadInput` for a damaged one, and for what no conversion can reproduce."""
    library, proto = _parse(path)
    _refuse_unknown_layouts(proto, path)
    tokenizer = Tokenizer(_unigram(proto, path) if _is_unigram(proto) else _bpe(proto, path))
    tokenizer.normalizer = _normalizer(proto, path)
    if not _is_unigram(proto):
        _add_user_defined(tokenizer, proto, path)
        _compare_runs(tokenizer, proto, library, path)
    return SentencePieceModel(tokenizer, _control(library.bos_id()), _control(library.pad_id()))


def _parse(path: Path) -> tuple[SentencePieceProcessor, Any]:
    content = path.read_bytes()
    library, proto = SentencePieceProcessor(), ModelProto()
    damaged = f"{path} is not a sentencepiece model, or is not all there: fetch it again"
    try:
        library.LoadFromSerializedProto(content)  # also checks what the pieces must be: no duplicate, all bytes, an unk
    except RuntimeError as error:
        raise BadInput(damaged) from error
    proto.ParseFromString(content)
    if not (proto.HasField("trainer_spec") and proto.HasField("normalizer_spec")):  # both follow the pieces
        raise BadInput(damaged)
    return library, proto


def _control(token: int) -> int | None:
    return token if token >= 0 else None


def _is_unigram(proto: Any) -> bool:
    return bool(proto.trainer_spec.model_type == TrainerSpec.UNIGRAM)


def _refuse_unknown_layouts(proto: Any, path: Path) -> None:
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    unknown_piece = next(piece.piece for piece in proto.pieces if piece.type == Piece.UNKNOWN)
    refused = {
        f"model_type {TrainerSpec.ModelType.Name(trainer.model_type)}": trainer.model_type
        not in (TrainerSpec.UNIGRAM, TrainerSpec.BPE),
        "treat_whitespace_as_suffix": trainer.treat_whitespace_as_suffix,
        "escape_whitespaces false": not normalizer.escape_whitespaces,
        f"the character map {normalizer.name!r}": normalizer.precompiled_charsmap
        and normalizer.name not in CHARACTER_MAPS,
        f"the unknown piece {unknown_piece!r}, itself a character,": len(unknown_piece) == 1,
    }
    for name, present in refused.items():
        if present:
            raise BadInput(f"{path}: {name} cannot be converted exactly; {REMEDY}")


def _normalizer(proto: Any, path: Path) -> normalizers.Normalizer:
    spec = proto.normalizer_spec
    prefix: list[normalizers.Normalizer] = [normalizers.Prepend(SPACE)] if spec.add_dummy_prefix else []
    mapping: list[normalizers.Normalizer] = []
    if spec.precompiled_charsmap:
        try:
            mapping = [normalizers.Precompiled(spec.precompiled_charsmap)]
        except Exception as error:  # the library raises nothing narrower
            raise BadInput(f"{path}: its character map is damaged: fetch it again") from error
    escape = normalizers.Replace(" ", SPACE)
    if not spec.remove_extra_whitespaces:
        return normalizers.Sequence([*prefix, *mapping, escape])
    # Only U+0020 is white space here, except at the end, where the escaped one goes too.
    trim = [normalizers.Replace(Regex(r"\A +"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    return normalizers.Sequence([*mapping, *trim, *prefix, escape, normalizers.Replace(Regex(f"{SPACE}+\\z"), "")])


def _bpe(proto: Any, path: Path) -> models.BPE:
    """Every way to put a piece together becomes a merge, ranked by the piece's score.

    The library merges the pair whose piece scores highest, the leftmost of equals. Within one piece that order never
    depends on its surroundings, so only one of its ways ever comes up and their order among themselves is free.
    """
    trainer = proto.trainer_spec
    names = _names_with_ascii(proto.pieces) if trainer.byte_fallback else [piece.piece for piece in proto.pieces]
    vocabulary = {name: index for index, name in enumerate(names)}
    merges: list[tuple[str, str]] = []
    for piece in _multiple_characters(proto):
        lacking = next((character for character in piece.piece if character not in vocabulary), None)
        if lacking is not None:
            raise BadInput(f"{path}: piece {piece.piece!r} holds {lacking!r}, which is no piece; {REMEDY}")
        ways = [(piece.piece[:at], piece.piece[at:]) for at in range(1, len(piece.piece))]
        ways = [(left, right) for left, right in ways if left in vocabulary and right in vocabulary]
        if ways and piece.type == Piece.UNUSED:
            raise BadInput(f"{path}: the unused piece {piece.piece!r} cannot be converted exactly; {REMEDY}")
        merges += ways
    return models.BPE(
        vocab=vocabulary,
        merges=merges,
        unk_token=next(piece.piece for piece in proto.pieces if piece.type == Piece.UNKNOWN),
        fuse_unk=True,
        byte_fallback=trainer.byte_fallback,
    )


def _multiple_characters(proto: Any) -> list[Any]:
    """The pieces that merging can make, the first to be made first."""
    made = [piece for piece in proto.pieces if piece.type in (Piece.NORMAL, Piece.UNUSED) and len(piece.piece) > 1]
    return sorted(made, key=lambda piece: -piece.score)


def _names_with_ascii(pieces: Iterable[Any]) -> list[str]:
    """The pieces' names, where the byte of an ASCII character that is no piece goes by that character.

    Its id is the same either way, and so it can be merged: Gemma's tabs have pieces, the single tab has none.
    """
    names = [piece.piece for piece in pieces]
    taken = set(names)
    for index, piece in enumerate(pieces):
        if piece.type == Piece.BYTE:
            character = chr(int(piece.piece[1:-1], 16))
            if character.isascii() and character not in taken:
                names[index] = character
    return names


def _add_user_defined(tokenizer: Tokenizer, proto: Any, path: Path) -> None:
    """User-defined symbols are cut out of the normalised text, the longest first, before anything is merged."""
    symbols = [piece.piece for piece in proto.pieces if piece.type == Piece.USER_DEFINED]
    if symbols and proto.normalizer_spec.add_dummy_prefix:
        raise BadInput(f"{path}: user-defined symbols with add_dummy_prefix cannot be converted exactly; {REMEDY}")
    normalizer = tokenizer.normalizer
    for symbol in symbols:
        if normalizer is not None and normalizer.normalize_str(symbol) != symbol:
            raise BadInput(f"{path}: the user-defined symbol {symbol!r} is not in normal form; {REMEDY}")
    tokenizer.add_tokens([AddedToken(symbol, normalized=True, special=False) for symbol in symbols])


def _compare_runs(tokenizer: Tokenizer, proto: Any, library: SentencePieceProcessor, path: Path) -> None:
    """Refuse equal scores, which merges cannot rank, but for runs of one character that come out right.

    Llama's runs of spaces are such. No other piece has two of the character in a row, so a run is merged by itself.
    """
    tied: dict[float, list[str]] = defaultdict(list)
    for piece in _multiple_characters(proto):
        tied[piece.score].append(piece.piece)
    for score, pieces in tied.items():
        if len(pieces) == 1:
            continue
        character = pieces[0][0]
        others = (other for rest, names in tied.items() if rest != score for other in names)
        alone = all(set(piece) == {character} for piece in pieces) and not any(2 * character in name for name in others)
        if not alone or any(
            tokenizer.encode(length * character).ids != library.encode(length * character)
            for length in range(1, MAX_CHARACTERS + 1)
        ):
            raise BadInput(f"{path}: the equal scores of {pieces[0]!r} and {pieces[1]!r} cannot be converted; {REMEDY}")


def _unigram(proto: Any, path: Path) -> models.Unigram:
    """The library's scores, where pieces that it never finds in a text get names or scores that are never found."""
    normal = [piece.score for piece in proto.pieces if piece.type == Piece.NORMAL]
    if not normal:
        raise BadInput(f"{path} has no pieces; {REMEDY}")
    never = -1e9
    # The library's largest score starts from the smallest float above zero; length counts bytes.
    highest = max(2.0**-126, *normal)
    vocabulary: list[tuple[str, float]] = []
    for piece in proto.pieces:
        if piece.type == Piece.NORMAL:
            vocabulary.append((piece.piece, piece.score))
        elif piece.type == Piece.USER_DEFINED:
            vocabulary.append((piece.piece, len(piece.piece.encode()) * highest - 0.1))
        elif piece.type == Piece.BYTE:
            vocabulary.append((piece.piece, never))
        else:
            vocabulary.append((f"{piece.piece} ", 0.0))  # a normalised text holds no space
    if min(score for _, score in vocabulary) < min(normal):
        _require_every_character(proto, path)
    unknown = next(index for index, piece in enumerate(proto.pieces) if piece.type == Piece.UNKNOWN)
    return models.Unigram(vocabulary, unk_id=unknown, byte_fallback=proto.trainer_spec.byte_fallback)


def _require_every_character(proto: Any, path: Path) -> None:
    """An unknown character's score follows the lowest of all; where no piece spans one, its value changes nothing."""
    characters = {piece.piece for piece in proto.pieces if piece.type == Piece.NORMAL}
    for piece in proto.pieces:
        if piece.type in (Piece.NORMAL, Piece.USER_DEFINED, Piece.BYTE):
            lacking = next((character for character in piece.piece if character not in characters), None)
            if lacking is not None:
                raise BadInput(f"{path}: piece {piece.piece!r} holds {lacking!r}, which is no piece; {REMEDY}")
