from __future__ import annotations

from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from sentencepiece.sentencepiece_model_pb2 import ModelProto
from tokenizers import Tokenizer

from vla_export.checkpoints.sentencepiece_model import read_sentencepiece_model
from vla_runtime.errors import BadInput

Piece = ModelProto.SentencePiece
CORPUS = """\
pick up the red cube and place it in the box
Task: put 12 screws into tray 7, State: 128 255 0 64;
Action: open the gripper, move 0.25 m to the left, close it
the banana is on the table; bananas are under the tables
  indented by two,   spaced by three
sort the blue, green and yellow blocks by colour: blue first
naïve café, déjà vu, Zürich, Łódź, señor
把红色的方块放进盒子里 日本語のテキスト 붉은 큐브를 집어
wipe the table with the cloth 😀 then hang the cloth 🤖
aaaa aaaaaa abababab mississippi
""".splitlines()
GEMMA: dict[str, Any] = {
    "model_type": "bpe",
    "normalization_rule_name": "identity",
    "add_dummy_prefix": False,
    "remove_extra_whitespaces": False,
    "allow_whitespace_only_pieces": True,
    "byte_fallback": True,
    "split_digits": True,
    "pad_id": 0,
    "eos_id": 1,
    "bos_id": 2,
    "unk_id": 3,
    "user_defined_symbols": ["<mask>", "\n", "\n\n", "\n\n\n", "▁▁", "▁▁▁", "<loc0000>", "<loc0001>", "<loc", "ana"],
}
LLAMA: dict[str, Any] = {
    "model_type": "bpe",
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "byte_fallback": True,
    "split_digits": True,
}
TRIMMED = {"model_type": "bpe", "normalization_rule_name": "identity"}
T5 = {"model_type": "unigram", "bos_id": -1, "pad_id": 0, "eos_id": 1, "unk_id": 2}
UNIGRAM: dict[str, Any] = {
    "model_type": "unigram",
    "normalization_rule_name": "identity",
    "user_defined_symbols": ["<loc0000>", "ana", "\n"],
}
UNIGRAM_BYTES = {**LLAMA, "model_type": "unigram", "required_chars": "<0xABCDEF123456789>"}
MAPPED = [{"model_type": "bpe"}, {"model_type": "bpe", "normalization_rule_name": "nmt_nfkc_cf"}, T5]

FRAGMENTS = [
    *sorted({word for line in CORPUS for word in line.split()}),
    *(
        " ",
        "  ",
        "   ",
        "\n",
        "\n\n",
        "\t",
        "\t\t",
        "▁",
        "▁▁",
        "12",
        "a",
        "an",
        "ana",
        "b",
        "😀",
        "👩‍🔧",
        "é",
        "e\u0301",
    ),
    *("<s>", "</s>", "<unk>", "<pad>", "<bos>", "<mask>", "<loc0000>", "<loc0", "<0x41>", "<0x0A>", "\x00", "\ufffd"),
]
TEXTS = st.lists(st.sampled_from(FRAGMENTS) | st.text(st.characters(codec="utf-8"), max_size=4), max_size=12).map(
    "".join
)
# Every grapheme cluster is one code point; the second half is what NFKC and case folding change.
SINGLE = "abcdeiknosTt 0123456789,.;:<>▁日本語붉은" + "ÉéßİΣςŁ①½ﬁＡｶ™…“”\u3000\u00a0\t\n"
FEW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@cache
def trained(**options: Any) -> bytes:
    model = BytesIO()
    SentencePieceTrainer.train(  # the line breaks of CORPUS never reach it: it reads sentence by sentence
        sentence_iterator=iter(CORPUS * 3),
        model_writer=model,
        vocab_size=700 if options.get("byte_fallback") else 300,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
        **{name: list(value) if isinstance(value, tuple) else value for name, value in options.items()},
    )
    return model.getvalue()


def train(options: dict[str, Any]) -> bytes:
    return trained(**{name: tuple(value) if isinstance(value, list) else value for name, value in options.items()})


def edited(options: dict[str, Any], edit: Callable[[Any], None]) -> bytes:
    proto = ModelProto.FromString(train(options))
    edit(proto)
    return bytes(proto.SerializeToString())


def append(proto: Any, piece: str, score: float, kind: int = Piece.NORMAL) -> None:
    proto.pieces.add(piece=piece, score=score, type=kind)


def converted(content: bytes, directory: Path) -> Tokenizer:
    """What the robot reads: the conversion, written and read again."""
    path = directory / "tokenizer.model"
    path.write_bytes(content)
    return Tokenizer.from_str(read_sentencepiece_model(path).tokenizer.to_str())


def refusal(content: bytes, directory: Path) -> str:
    with pytest.raises(BadInput) as caught:
        converted(content, directory)
    assert "\n" not in str(caught.value)
    assert str(directory / "tokenizer.model") in str(caught.value)
    return str(caught.value)


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def runs_of_spaces(proto: Any) -> None:
    """Llama's: all of one score, numbered as they were added."""
    for length in (2, 4, 8, 16, 3, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15):
        append(proto, "▁" * length, -1e9)


def tabs(proto: Any) -> None:
    """Gemma's: the single one has no piece, only its byte."""
    assert "\t" not in [piece.piece for piece in proto.pieces]
    append(proto, "\t\t", -5000)
    append(proto, "\t\t\t", -5001)


BPE_MODELS = {
    "gemma": lambda: edited(GEMMA, tabs),
    "llama": lambda: edited(LLAMA, runs_of_spaces),
    "trimmed": lambda: train(TRIMMED),
}


@pytest.mark.parametrize("kind", BPE_MODELS)
def test_bpe_gives_the_ids_of_the_library_for_every_text(kind: str, tmp_path: Path) -> None:
    content = BPE_MODELS[kind]()
    library, tokenizer = SentencePieceProcessor(model_proto=content), converted(content, tmp_path)

    @FEW
    @given(text=TEXTS)
    def same(text: str) -> None:
        assert ids(tokenizer, text) == library.encode(text)

    same()
    for text in [*CORPUS, "pick\n  up\n the cube\n", "  pick \t up  ", "the▁ ▁cube▁ "]:
        assert ids(tokenizer, text) == library.encode(text)
    for length in range(70):
        assert ids(tokenizer, "a" + " " * length + "b") == library.encode("a" + " " * length + "b")


@pytest.mark.parametrize("options", [UNIGRAM, UNIGRAM_BYTES], ids=["symbols", "bytes"])
def test_unigram_gives_a_segmentation_of_the_librarys_score(options: dict[str, Any], tmp_path: Path) -> None:
    content = train(options)
    library, tokenizer = SentencePieceProcessor(model_proto=content), converted(content, tmp_path)

    @FEW
    @given(text=TEXTS)
    def as_good(text: str) -> None:
        mine, theirs = ids(tokenizer, text), library.encode(text)
        if mine != theirs:
            assert library.decode(mine) == library.decode(theirs)
            scores = [sum(library.get_score(token) for token in tokens) for tokens in (mine, theirs)]
            assert scores[0] == pytest.approx(scores[1], rel=1e-6)

    as_good()
    for line in CORPUS[:-1]:  # "aaaa" has several best segmentations
        assert ids(tokenizer, line) == library.encode(line)


@pytest.mark.parametrize("options", MAPPED, ids=["nmt_nfkc", "nmt_nfkc_cf", "t5"])
def test_the_librarys_character_maps_are_kept(options: dict[str, Any], tmp_path: Path) -> None:
    content = train(options)
    library, tokenizer = SentencePieceProcessor(model_proto=content), converted(content, tmp_path)

    @FEW
    @given(text=st.text(st.sampled_from(SINGLE), max_size=30))
    def same(text: str) -> None:
        assert tokenizer.normalizer is not None
        assert tokenizer.normalizer.normalize_str(text) == library.normalize(text)
        mine, theirs = ids(tokenizer, text), library.encode(text)
        assert mine == theirs or options["model_type"] == "unigram"
        assert library.decode(mine) == library.decode(theirs)

    same()


def test_special_pieces_are_found_by_their_ids(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(train(GEMMA))
    model = read_sentencepiece_model(path)
    assert (model.bos_id, model.pad_id) == (2, 0)
    path.write_bytes(train(T5))
    model = read_sentencepiece_model(path)
    assert (model.bos_id, model.pad_id) == (None, 0)


@pytest.mark.parametrize("options", [GEMMA, T5], ids=["bpe", "unigram"])
def test_control_pieces_are_no_text(options: dict[str, Any], tmp_path: Path) -> None:
    tokenizer = converted(train(options), tmp_path)
    special = {options[name] for name in ("pad_id", "eos_id", "bos_id") if options[name] >= 0}
    assert not special & set(ids(tokenizer, "<pad></s><s> <pad> <s>"))


@pytest.mark.parametrize("model_type", ["word", "char"])
def test_other_kinds_of_model_are_refused(model_type: str, tmp_path: Path) -> None:
    content = train({"model_type": model_type})
    assert f"model_type {model_type.upper()}" in refusal(content, tmp_path)


def suffix(proto: Any) -> None:
    proto.trainer_spec.treat_whitespace_as_suffix = True


def plain_spaces(proto: Any) -> None:
    proto.normalizer_spec.escape_whitespaces = False


def own_map(proto: Any) -> None:
    proto.normalizer_spec.name = "user_defined"


def damaged_map(proto: Any) -> None:
    proto.normalizer_spec.precompiled_charsmap = b"\xff\xff\xff\x00abc"


def unused(proto: Any) -> None:
    append(proto, "a,b", -3)
    append(proto, "a,", -4, Piece.UNUSED)


def equal_scores(proto: Any) -> None:
    append(proto, "qu", -3.5)
    append(proto, "uq", -3.5)


def equal_runs_inside_others(proto: Any) -> None:
    runs_of_spaces(proto)
    append(proto, "▁▁t", -3.5)


def character_less(proto: Any) -> None:
    append(proto, "aж", -3.5)


def unknown_character(proto: Any) -> None:
    proto.trainer_spec.unk_piece = "?"
    next(piece for piece in proto.pieces if piece.type == Piece.UNKNOWN).piece = "?"


@pytest.mark.parametrize(
    ("options", "edit", "named"),
    [
        (T5, suffix, "treat_whitespace_as_suffix"),
        (T5, plain_spaces, "escape_whitespaces"),
        (T5, own_map, "user_defined"),
        (LLAMA, unused, "'a,'"),
        (LLAMA, equal_scores, "'qu'"),
        (LLAMA, equal_runs_inside_others, "'▁▁'"),
        (LLAMA, character_less, "'aж'"),
        (LLAMA, unknown_character, "'?'"),
        ({**LLAMA, "user_defined_symbols": ["<loc0>"]}, lambda proto: None, "add_dummy_prefix"),
        ({**GEMMA, "user_defined_symbols": ["a b"]}, lambda proto: None, "'a b'"),
        ({**UNIGRAM_BYTES, "required_chars": ""}, lambda proto: None, "which is no piece"),
    ],
)
def test_what_no_conversion_reproduces_is_refused(
    options: dict[str, Any], edit: Callable[[Any], None], named: str, tmp_path: Path
) -> None:
    assert named in refusal(edited(options, edit), tmp_path)


def test_runs_that_merges_would_build_otherwise_are_refused(tmp_path: Path) -> None:
    def gaps(proto: Any) -> None:
        for length in (3, 2):  # the library grows the leftmost run, merges would pair all of them first
            append(proto, "▁" * length, -1e9)
        append(proto, "▁" * 4, -1e9)

    assert "equal scores of '▁▁▁' and '▁▁'" in refusal(edited(LLAMA, gaps), tmp_path)


@pytest.mark.parametrize("options", [GEMMA, T5], ids=["bpe", "unigram"])
def test_a_damaged_file_is_one_line(options: dict[str, Any], tmp_path: Path) -> None:
    content = train(options)
    pieces = ModelProto.FromString(content)
    pieces.ClearField("trainer_spec")
    pieces.ClearField("normalizer_spec")
    pieces.ClearField("denormalizer_spec")
    whole_pieces = bytes(pieces.SerializeToString())
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4241003\n"
    for damaged in (b"", pointer, b"{}", whole_pieces, *(content[:cut] for cut in range(1, len(whole_pieces), 61))):
        assert "not a sentencepiece model" in refusal(damaged, tmp_path)


@FEW
@given(content=st.binary(max_size=200))
def test_garbage_is_one_line(content: bytes, tmp_path: Path) -> None:
    refusal(content, tmp_path)


def test_a_damaged_character_map_is_one_line(tmp_path: Path) -> None:
    assert "fetch it again" in refusal(edited(T5, damaged_map), tmp_path)
