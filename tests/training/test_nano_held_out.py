"""Training draws nothing of what is held out, and trials draw that."""

import random

import numpy as np
import pytest
from nano_training import held_out, words
from nano_training.fonts import new_fonts, printed_fonts
from nano_training.held_out import held_out as the_list
from nano_training.scenes import draw_scene
from nano_training.trials import TRIALS, draw_trials
from nano_training.videos import any_acted

pytestmark = pytest.mark.slow


def test_the_list_is_the_one_that_training_was_begun_with(monkeypatch, tmp_path):
    listed = the_list()
    assert len(listed.words) == 600
    assert {len(listed.placed), len(listed.acted)} == {48, 37}
    changed = tmp_path / "held_out.json"
    changed.write_bytes(held_out.PATH.read_bytes() + b"\n")
    monkeypatch.setattr(held_out, "PATH", changed)
    the_list.cache_clear()
    with pytest.raises(RuntimeError, match="changed after training began"):
        the_list()
    monkeypatch.undo()
    the_list.cache_clear()


def test_training_draws_nothing_of_it():
    rng = random.Random(0)
    written = {word.lower() for _ in range(2000) for word in words.training_line(rng).split()}
    assert len(written & set(words.training_words())) > 1000
    assert not {word for word in written if len(word) > 5} & the_list().words
    assert not set(printed_fonts()) & set(new_fonts())
    for _ in range(300):
        _, things = draw_scene(rng, 448, 448)
        for one in things:
            assert (one.colour, one.shape, one.cell(448, 448)) not in the_list().placed
        assert any_acted(rng) not in the_list().acted
    assert any_acted(rng, new=True) in the_list().acted


def test_trials_are_of_what_is_held_out_and_always_the_same():
    for name in TRIALS:
        one, other = draw_trials(name, 3), draw_trials(name, 2)
        for first, second in zip(one, other, strict=False):
            assert (first.question, first.truth) == (second.question, second.truth)
            assert all(map(np.array_equal, first.pictures, second.pictures))
    lines = " ".join(trial.truth for trial in draw_trials("page", 20)).lower().split()
    known = [word for word in lines if word.isalpha() and len(word) > 3]
    assert all(any(new.startswith(word) for new in the_list().words) for word in known)
