"""Rows of training are what `ChatInternVL` asks, and tokens are told what is there."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from nano_training.batches import IGNORED, collate
from nano_training.encoding import Encoder
from nano_training.mixture import KINDS
from nano_training.model import build_model, see
from nano_training.scenes import scene_sample
from nano_training.sizes import TOKENS
from nano_training.things import FACTS, LETTERS, UNKNOWN, Letter, Thing, landmarks, letters_known
from support_nano import SMALL, TOKENIZER, export_random, reply

from langchain_internvl import ChatInternVL, image_block, video_block
from langchain_internvl.media.deadline import Deadline
from langchain_internvl.media.tiling import normalise

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_what_chat_internvl_would_ask(kind, tmp_path):
    """Ids, tiles and the ids of answers, for every question of a sample."""
    export_random(tmp_path)
    llm = ChatInternVL(model=str(tmp_path))
    rng = random.Random(kind)
    sample = next(one for one in iter(lambda: KINDS[kind].draw(rng), None) if not one.is_chat)
    row = Encoder().row(sample)
    pictures = list(sample.pictures)
    media = [image_block(one, max_tiles=sample.most_tiles) for one in pictures]
    if sample.is_video:
        media = [video_block(pictures)]
    if sample.is_numbered:
        texts = [{"type": "text", "text": f"[{number}]"} for number in range(1, len(media) + 1)]
        media = [part for both in zip(texts, media, strict=True) for part in both]
    for number, question in enumerate(sample.questions, 1):
        messages = [("user", [*media, {"type": "text", "text": question.text}])]
        if sample.system is not None:
            messages.insert(0, ("system", sample.system))
        # Alone a question is part of what all see.
        mine = [place for place, one in enumerate(row.segments) if one in (0, number)]
        prompt = [row.ids[place] for place in mine if row.labels[place] == IGNORED]
        assert prompt == llm.prompt_ids(messages)
        answers = [place for place in mine if row.labels[place] != IGNORED]
        seen = [row.ids[place] for place in answers]
        assert llm.get_text(seen) == (question.written or question.answer)
        reply = [row.labels[place] for place in answers]
        assert llm.get_text(reply) == question.answer
        assert reply[-1] == TOKENIZER.convert_tokens_to_ids("<|im_end|>")
    request = llm._prepare([*llm._convert_input(messages).to_messages()], llm, Deadline())[1]
    assert np.array_equal(np.concatenate(request.tiles), row.tiles)


def test_wrong_letters_are_seen_and_the_right_ones_learnt():
    sample = KINDS["few lines"].draw(random.Random(1))
    asked = replace(sample.questions[0], answer="Line 12", written="Lime 72")
    row = Encoder().row(replace(sample, questions=[asked], letters=[]))
    answers = [place for place, one in enumerate(row.labels) if one != IGNORED]
    end = "<|im_end|>"
    assert TOKENIZER.decode([row.ids[place] for place in answers]) == f"Lime 72{end}"
    assert TOKENIZER.decode([row.labels[place] for place in answers]) == f"Line 12{end}"
    longer = replace(asked, written="Line 122")
    with pytest.raises(ValueError, match="'Line 122' is not as long as 'Line 12'"):
        Encoder().row(replace(sample, questions=[longer], letters=[]))


def test_questions_that_share_a_picture_do_not_see_each_other():
    """Logits of a row of three are those of three rows of one."""
    model = build_model(SMALL).eval()
    rng = random.Random(5)
    sample = scene_sample(rng, 448, 448, count=3)
    while sample.is_chat or len(sample.questions) < 3:
        sample = scene_sample(rng, 448, 448, count=3)
    encoder = Encoder()
    singles = [
        encoder.row(type(sample)(sample.pictures, [one], system=sample.system))
        for one in sample.questions
    ]
    with torch.no_grad():
        together, labels = reply(model, collate("", [encoder.row(sample)], 0))
        apart = [reply(model, collate("", [row], 0)) for row in singles]
    assert torch.equal(labels, torch.cat([right for _, right in apart]))
    assert torch.allclose(together, torch.cat([logits for logits, _ in apart]), atol=1e-4)


def test_what_a_token_sees_is_its_row_of_the_mask():
    rng = random.Random(9)
    rows = [Encoder().row(KINDS["scene"].draw(rng)) for _ in range(3)]
    batch = collate("scene", rows, 0)
    places = torch.tensor([0, 7, 150, batch.ids.shape[1] - 1])
    for row, own in enumerate(batch.segments.tolist()):
        seen = batch.seen_from(row, places)
        assert torch.equal(seen, batch.mask[row, 0, places])
        for place, sees in zip(places.tolist(), seen.tolist(), strict=True):
            right = [one <= place and own[one] in (0, own[place]) for one in range(len(own))]
            assert sees == right


@pytest.mark.parametrize("kind", ["scene", "small read list"])  # several questions, and one
def test_text_may_stand_as_far_behind_a_picture_as_behind_twelve_tiles(kind):
    sample = KINDS[kind].draw(random.Random(9))
    near, far = Encoder().row(sample), Encoder().row(sample, text_from=2500)
    text = max(place for place, id_ in enumerate(near.ids) if id_ == SMALL.image_token_id) + 1
    assert (near.gap, far.gap) == ((text, 0), (text, 2500 - text))
    assert far.ids == near.ids
    positions = [collate(kind, [row], 0).positions[0] for row in (near, far)]
    assert torch.equal(positions[1][:text], torch.arange(text))
    assert torch.equal(positions[1][text:], positions[0][text:] + 2500 - text)
    assert Encoder().row(sample, text_from=text - 1).gap == (text, 0)


def test_chats_learn_every_answer():
    rng = random.Random(2)
    sample = next(
        one for one in iter(lambda: scene_sample(rng, 448, 448), None)
        if one.is_chat and len(one.questions) > 1
    )  # fmt: skip
    row = Encoder().row(sample)
    learnt = [id_ for id_ in row.labels if id_ != IGNORED]
    end = TOKENIZER.convert_tokens_to_ids("<|im_end|>")
    assert learnt.count(end) == len(sample.questions)
    assert not any(row.segments)


def test_windows_are_seen_as_the_model_sees_tiles():
    model = build_model(SMALL).eval()
    tiles = torch.randint(0, 256, (2, 448, 448, 3), dtype=torch.uint8)
    with torch.no_grad():
        own = model.model.get_image_features(torch.from_numpy(normalise(tiles.numpy())))
        assert torch.equal(see(model, tiles, (0, 0)), own.pooler_output)
        assert see(model, tiles[:, :128, :224], (2, 4)).shape == (2, 28, 32)


def test_tokens_are_told_what_is_in_their_squares():
    """A red circle over four tokens, its middle in one, and a sign that none of it touches."""
    circle = Thing((10, 16, 58, 62), "red circle", "red", "circle")
    known = landmarks([circle], (128, 64), (0, 0, 128, 64), (2, 4)).reshape(2, 4, FACTS)
    assert known[..., 0].tolist() == [[0, 0, 8, 8], [0, 0, 8, 8]]
    assert known[..., 1].tolist() == [[0, 0, 5, 5], [0, 0, 5, 5]]
    assert known[..., 2].sum() == known[1, 1, 2] == 1
    assert known[0, 0, 3:7] == pytest.approx([10 / 128, 16 / 64, 58 / 128, 62 / 64])
    assert known[0, 0, 7:11] == pytest.approx([10 / 32, 16 / 32, 1, 1])
    assert known[1, 1, 7:11] == pytest.approx([0, 0, 26 / 32, 30 / 32])
    assert (known[..., 11:] == UNKNOWN).all()
    # Of a window the places are those of the whole tile.
    part = landmarks([circle], (128, 64), (32, 32, 128, 64), (1, 3))
    assert np.array_equal(part, known[1, 1:].reshape(3, FACTS))


def test_tokens_are_told_their_letters():
    letters = [Letter("a", 3, 5), Letter("b", 9, 20), Letter("!", 63, 31), Letter("z", 300, 5)]
    known = letters_known(letters, (0, 0, 64, 32), (1, 2))
    slots = known[:, 11:].reshape(2, 2, 5)
    none = len(LETTERS)
    assert LETTERS[int(slots[0, 0, 0])] == "a"
    assert LETTERS[int(slots[0, 1, 1])] == "b"
    assert LETTERS[int(slots[1, 1, 4])] == "!"
    assert (slots == none).sum() == 20 - 3
    assert (known[:, :11] == UNKNOWN).all()


@pytest.mark.parametrize(
    "kind", ["few lines", "wide", "any size", "list", "scene", "wide scene", "video"]
)
def test_every_token_of_a_row_is_told_or_not(kind):
    """Tiles of text know their letters, single tiles their things; a thumbnail of text nothing."""
    row = Encoder().row(KINDS[kind].draw(random.Random(kind)))
    known = row.known.reshape(len(row.tiles), TOKENS, FACTS)
    has_letters, has_things = known[..., -1] != UNKNOWN, known[..., 0] != UNKNOWN
    many = len(row.tiles) > 1 and kind != "video"
    if "scene" in kind or kind == "video":
        assert not has_letters.any()
        assert has_things.all(-1).tolist() == [not many or tile == len(row.tiles) - 1
                                               for tile in range(len(row.tiles))]  # fmt: skip
    else:
        assert not has_things.any()
        assert has_letters.all(-1).tolist() == [not many or tile < len(row.tiles) - 1
                                                for tile in range(len(row.tiles))]  # fmt: skip
        assert (known[..., 11:] < len(LETTERS)).any()
