from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from reference.demonstration_data import HELD_OUT, Batch, Frames, ask, draw, read_frames
from reference.vocabulary import NO_GOAL, instructions, named_cube, word_tokenizer
from tests.reference.toy_demonstrations import write_shards
from vla_runtime.errors import BadInput
from vla_runtime.policy.images import letterbox
from vla_runtime.sim.episode import TASKS
from vla_runtime.sim.scene import CUBES


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Frames:
    return read_frames(write_shards(tmp_path_factory.mktemp("data")))[0]


def texts(batch: Batch) -> list[str]:
    return word_tokenizer().decode_batch(batch.tokens.tolist())


def test_every_instruction_is_read_word_by_word() -> None:
    tokenizer = word_tokenizer()
    for text in instructions().values():
        found = tokenizer.encode(text)
        assert found.tokens == ["<bos>", *text.split()]
    assert tokenizer.encode("fetch the red cube").tokens[1] == "<unk>"


def test_each_label_obeys_its_instruction(frames: Frames) -> None:
    batch = draw(frames, 400, torch.Generator().manual_seed(0))
    by_text = {text: place for place, text in instructions().items()}
    rows = {tuple(state.tolist()): n for n, state in enumerate(frames.state)}
    beside = 0
    for text, tokens, state, chunk in zip(texts(batch), batch.tokens, batch.state, batch.chunk, strict=True):
        task, cube, goal = by_text[" ".join(word for word in text.split() if not word.startswith("<"))]
        row = rows[tuple(state.tolist())]
        assert task == frames.task[row]
        assert named_cube(tokens).max() >= 0
        if goal in (NO_GOAL, int(frames.goal[row])):
            assert frames.valid[row, cube]
            assert torch.equal(chunk, frames.chunks[row, cube])
        else:
            beside += 1
            assert cube == frames.named[row]
            assert frames.beside_valid[row, goal]
            assert torch.equal(chunk, frames.beside[row, goal])
    assert beside > 10


def test_every_cube_is_asked_for_equally_often(frames: Frames) -> None:
    reach = frames.choose(frames.task == TASKS.index("reach"))
    cubes = named_cube(draw(reach, 3000, torch.Generator().manual_seed(0)).tokens).amax(1)
    assert torch.bincount(cubes, minlength=3).min() > 900


def test_the_colour_words_know_their_cubes() -> None:
    tokens = torch.tensor([word_tokenizer().encode("put the blue cube beside the red cube").ids])
    assert named_cube(tokens)[0].tolist() == [-1, -1, -1, CUBES.index("blue"), -1, -1, -1, CUBES.index("red"), -1]


def test_images_are_what_the_runtime_makes_of_them(frames: Frames) -> None:
    batch = ask(frames, frames.named)
    expected = letterbox(frames.images[5, 1].numpy(), 16, 16)
    torch.testing.assert_close(batch.images[11], torch.from_numpy(expected), rtol=0, atol=1e-6)


def test_held_out_episodes_are_apart(tmp_path: Path) -> None:
    train, held_out = read_frames(write_shards(tmp_path))
    assert not set(train.episode.tolist()) & set(held_out.episode.tolist())
    assert all(episode % HELD_OUT == 0 for episode in held_out.episode.tolist())


def test_what_is_no_demonstration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no demonstrations"):
        read_frames([tmp_path])
    (directory, *_) = write_shards(tmp_path)
    shard = directory / "shard-00000.safetensors"
    tensors = load_file(shard)
    del tensors["valid"]
    save_file(tensors, shard)
    with pytest.raises(BadInput, match="lacks valid"):
        read_frames([directory])
    shard.write_bytes(b"not a shard")
    with pytest.raises(BadInput, match="cannot be read"):
        read_frames([directory])
