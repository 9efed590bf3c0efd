"""Steps draw the same batches whenever they are drawn."""

import random
import threading

import pytest
import torch
from nano_training.feeding import feed
from nano_training.mixture import KINDS, Course, Steps
from nano_training.plan import Plan
from nano_training.shares import MIXTURES, SMALL
from nano_training.sizes import SQUARE
from nano_training.things import LETTERS, SLOTS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("mixture", MIXTURES)
def test_steps_are_the_same_whenever_they_are_drawn(mixture):
    course = Course(mixture=mixture, parts=2, seed=7)
    whole, rest = Steps(course, 0, 3, 0), Steps(course, 2, 3, 0)
    assert (len(whole), len(rest)) == (3, 1)
    for one, other in zip(whole[2], rest[0], strict=True):
        assert one.kind == other.kind
        assert torch.equal(one.ids, other.ids)
        assert torch.equal(one.tiles, other.tiles)


def test_small_print_is_small():
    """On windows that are parts of a tile; a square that has letters has about two."""
    steps = Steps(Course(mixture="small print", seed=3), 0, 12, 0)
    batches = [one for step in range(12) for one in steps[step] if one.kind == SMALL]
    assert batches
    for batch in batches:
        assert batch.tiles.shape[1] <= 4 * SQUARE
        of_square = (batch.known[:, -SLOTS[0] * SLOTS[1] :] < len(LETTERS)).sum(1)
        assert of_square[of_square > 0].float().mean() > 1.8  # of other windows 1.4 to 1.7


def test_pages_of_few_tiles_are_asked_about_from_as_far_as_of_many(monkeypatch):
    rng = random.Random(4)
    far = [KINDS["far read list"].text_from(rng) for _ in range(200)]
    assert 60 < far.count(0) < 140
    assert 2300 < max(far) <= 13 * 196
    assert any(KINDS["across read list"].text_from(rng) for _ in range(20))
    assert KINDS["wide"].text_from(rng) == 0
    both = {"far read list": 0.5, "small read list": 0.5}
    monkeypatch.setattr("nano_training.mixture.MIXTURES", {"lists": both})
    steps = Steps(Course(mixture="lists", first="lists", seed=3), 0, 12, 0)
    batches = [batch for step in range(12) for batch in steps[step]]
    gaps = {
        kind: torch.cat([one.gaps[:, 1] for one in batches if one.kind == kind]).tolist()
        for kind in both
    }
    assert 0 < gaps["far read list"].count(0) < len(gaps["far read list"])
    assert not any(gaps["small read list"])


def test_the_first_steps_have_a_mixture_of_their_own_and_batches_a_scale():
    plan = Plan(steps=100, first="first", mixture="all", first_share=0.1, scale=3)
    assert [plan.course().at(step) for step in (0, 9, 10, 99)] == [
        MIXTURES["first"], MIXTURES["first"], MIXTURES["all"], MIXTURES["all"],
    ]  # fmt: skip
    assert len(Steps(Course(seed=1), 0, 1, 0)[0][0].ids) * 3 == len(
        Steps(Course(seed=1, scale=3), 0, 1, 0)[0][0].ids
    )


def test_steps_are_shown_again_until_the_next_is_there():
    """Each first in its order, then at most as often as it may; and what fails is told."""
    drawn = [[object()] for _ in range(5)]
    gate = threading.Semaphore(1)

    def slowly():
        for step in drawn:
            gate.acquire()
            yield step

    shown = []
    for step in feed(slowly(), list, 3, seed=1):
        shown.append(step[0])
        if len(shown) % 2 == 0:
            gate.release()
    assert [one for number, one in enumerate(shown) if one not in shown[:number]] == [
        step[0] for step in drawn
    ]
    assert 5 < len(shown) <= 15
    assert max(shown.count(step[0]) for step in drawn) <= 3

    saved = [step[0] for step in feed([[number] for number in range(90)], list, 3, 1, saving=True)]
    assert sorted(set(saved)) == list(range(90))
    assert 180 < len(saved) <= 270
    assert max(map(saved.count, saved)) <= 3

    def broken():
        yield drawn[0]
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        list(feed(broken(), list, 1, seed=1))
