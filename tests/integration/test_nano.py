"""The embedded model: what it says is true, and depends on what it is shown.

The pictures are drawn by `training/nano`, of things that training never saw. Bounds are set below
the figures of the model card by about three standard deviations of so few pictures.
"""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from langchain_core.messages import AIMessage, HumanMessage
from nano_training.evaluate import answer
from nano_training.scenes import pair_sample
from nano_training.scores import error_rate, overlap
from nano_training.trials import Trial, draw_trials
from PIL import Image
from transformers import InternVLForConditionalGeneration

from langchain_internvl import ChatInternVL, image_block, nano, video_block
from langchain_internvl.media.tiling import normalise, tile_image

COUNT = 16
LEAST_FOUND = 0.85


@pytest.fixture(scope="module")
def llm():
    llm = ChatInternVL(model="nano", temperature=0, max_tokens=200)
    yield llm
    llm.close()


def exact(llm, trials):
    said = answer(llm, trials)
    return sum(one == trial.truth for one, trial in zip(said, trials, strict=True)) / len(trials)


def test_it_says_what_it_is_not_and_is_small(caplog):
    nano.announce.cache_clear()
    for _ in range(2):
        ChatInternVL(model="nano").prompt_ids("x")
    assert [record.getMessage() for record in caplog.records] == [nano.NOTICE]
    files = [file for file in nano.FOLDER.iterdir() if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 8_000_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("job", "count", "least", "margin"),
    [
        ("describe", 24, 0.6, 0.6),
        ("ask", 40, 0.85, 0.5),
        ("video", 10, 0.8, 0.7),
        ("cited", 40, 0.15, 0.15),
    ],
)
def test_what_it_says_is_true_and_of_another_picture_it_is_not(job, count, least, margin, llm):
    trials = draw_trials(job, count)
    right = exact(llm, trials)
    assert right >= least
    shifted = [
        replace(trial, pictures=other.pictures)
        for trial, other in zip(trials, trials[1:] + trials[:1], strict=True)
    ]
    assert right - exact(llm, shifted) >= margin


@pytest.mark.slow
def test_it_finds_what_is_named(llm):
    trials = draw_trials("ground", 40)
    said = answer(llm, trials)
    overlaps = [overlap(one, trial.truth) for one, trial in zip(said, trials, strict=True)]
    assert np.mean([one >= 0.5 for one in overlaps]) >= LEAST_FOUND


def test_of_a_blank_picture_it_says_nothing(llm):
    assert exact(llm, draw_trials("blank", 12)) >= 0.9


def test_it_reads(llm):
    trials = draw_trials("few lines", COUNT)
    read = list(zip(answer(llm, trials), (trial.truth for trial in trials), strict=True))
    assert error_rate(read).value <= 0.03


@pytest.mark.slow
def test_pages_are_read(llm):
    trials = draw_trials("page", 16)
    read = list(zip(answer(llm, trials), (trial.truth for trial in trials), strict=True))
    assert error_rate(read).value <= 0.15


@pytest.mark.slow
def test_pairs_of_pictures_are_told_apart(llm):
    """Two or three pictures of one or two things, drawn as in training: none are held out."""
    rng = random.Random(12)
    pairs = [sample for sample in (pair_sample(rng, 448) for _ in range(60)) if not sample.is_chat]
    right = 0
    for pair in pairs[:20]:
        blocks = [image_block(picture) for picture in pair.pictures]
        asked = next(one for one in pair.questions if "images" in one.text)
        reply = llm.invoke([HumanMessage([*blocks, {"type": "text", "text": asked.text}])])
        right += reply.content == asked.answer
    assert right >= 10


@pytest.mark.slow
def test_the_order_of_frames_matters(llm):
    """Of movements and growth the reverse is said when frames are reversed."""
    trials = [one for one in draw_trials("video", 20) if "still" not in one.truth][:10]
    reversed_ = [Trial(one.pictures[::-1], one.question, one.truth, True) for one in trials]
    assert exact(llm, trials) - exact(llm, reversed_) >= 0.5


@pytest.mark.slow
def test_the_order_of_tiles_matters(llm):
    """A picture whose tiles change places is another picture."""
    trials = draw_trials("page", 8)
    shuffled = [Trial((_swapped(one.pictures[0]),), one.question, one.truth) for one in trials]
    rates = []
    for some in (trials, shuffled):
        said = answer(llm, some)
        pairs = list(zip(said, (one.truth for one in some), strict=True))
        rates.append(error_rate(pairs).value)
    assert rates[1] - rates[0] >= 0.1


def _swapped(picture):
    """With the first and the last tile in each other's place."""
    pixels = np.asarray(picture).copy()
    first, last = pixels[:448, :448].copy(), pixels[-448:, -448:].copy()
    pixels[:448, :448], pixels[-448:, -448:] = last, first
    return Image.fromarray(pixels)


def test_plain_transformers_says_the_same(llm):
    """The same weights in `InternVLForConditionalGeneration`, by its own `generate`."""
    model = InternVLForConditionalGeneration.from_pretrained(nano.FOLDER, dtype=torch.float32)
    for trial in [*draw_trials("describe", 2), *draw_trials("few lines", 2)]:
        blocks = [image_block(trial.pictures[0]), {"type": "text", "text": trial.question}]
        ids = llm.prompt_ids([HumanMessage(blocks)])
        tiles = torch.from_numpy(normalise(tile_image(trial.pictures[0], 1, 6)))
        output = model.generate(
            input_ids=torch.tensor([ids]), pixel_values=tiles, max_new_tokens=200, do_sample=False
        )
        assert llm.get_text(output[0, len(ids) :].tolist()) == answer(llm, [trial])[0]


async def test_streams_batches_and_tasks_say_the_same(llm):
    trials = draw_trials("describe", 4)
    inputs = [
        [HumanMessage([image_block(one.pictures[0]), {"type": "text", "text": one.question}])]
        for one in trials
    ]
    alone = [llm.invoke(one).content for one in inputs]
    assert len(set(alone)) == 4
    assert [one.content for one in llm.batch(inputs)] == alone
    assert [one.content for one in await llm.abatch(inputs)] == alone
    assert ["".join(chunk.content for chunk in llm.stream(one)) for one in inputs] == alone


def test_a_second_question_still_knows_the_picture(llm):
    right = 0
    for trial in draw_trials("ask", COUNT):
        first = [image_block(trial.pictures[0]), {"type": "text", "text": "Describe the image."}]
        messages = [HumanMessage(first)]
        messages += [AIMessage(llm.invoke(messages).content), HumanMessage(trial.question)]
        right += llm.invoke(messages).content == trial.truth
    assert right >= 0.6 * COUNT


@pytest.mark.slow
def test_numbers_of_frames_and_sizes_of_pictures_it_was_not_drawn_in(llm):
    """A video file's frames are shown as they are, and text is read at other sizes too."""
    rng = random.Random(4)
    trial = draw_trials("video", 1)[0]
    block = video_block([trial.pictures[index] for index in sorted(rng.sample(range(8), 5))])
    reply = llm.invoke([HumanMessage([block, {"type": "text", "text": trial.question}])])
    assert reply.content.split()[1:3] == trial.truth.split()[1:3]
