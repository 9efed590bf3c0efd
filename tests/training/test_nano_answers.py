"""Questions about numbered pages have one right answer, and it is on the page that is named."""

import random
import re

import pytest
from nano_training.answers import UNSAID, ask_pages, cited_sample, draw_pages
from nano_training.held_out import held_out
from nano_training.pages import Print
from nano_training.trials import draw_trials

pytestmark = pytest.mark.slow

TEXTS = ["Lease of the house\nRent 900 monthly", "Garden and house\nNo pets allowed"]


def asked_of(question):
    """The word that is asked for, and the lines of the pages with their numbers."""
    pages, _, asked = question.rpartition("\n\nQuestion: ")
    pages = re.split(r"\n\n(?=\[\d\] )", pages)[1:]
    lines = [(page[:3], line) for page in pages for line in page[4:].split("\n")]
    return asked.rstrip("?").split()[-1], lines


def test_the_line_with_the_word_is_the_answer():
    words = set()
    for seed in range(60):
        asked = ask_pages(random.Random(seed), TEXTS)
        question, answer, about = asked.text, asked.answer, asked.about
        word, lines = asked_of(question)
        assert [line for _, line in lines] == "\n".join(TEXTS).split("\n")
        (right,) = [(mark, line) for mark, line in lines if word in line.lower()]
        assert answer == f"{right[1]} {right[0]}."
        words.add(word)
        for part in about:
            said = answer[part.begin : part.end]
            assert question[part.copied : part.copied + len(said)] == said
        asked = about[0].asked
        assert question[asked.word :] == f"{word}?"
        assert question[asked.said : asked.said + asked.length].lower() == word
        assert about[0].copied == asked.line <= asked.said < asked.line + len(right[1])
        page = question.index(f"\n\n{right[0]} ") + 2
        assert about[1].copied == page
        assert about[0].copied > page
    assert words == {"lease", "rent", "monthly", "garden", "pets", "allowed"}


def test_what_no_page_says_is_said_to_be_unsaid():
    for seed in range(30):
        asked = ask_pages(random.Random(seed), TEXTS, is_said=False)
        word, lines = asked_of(asked.text)
        assert (asked.answer, asked.about) == (UNSAID, ())
        assert len(word) >= 4
        assert not any(word in line.lower() for _, line in lines)


def test_samples_and_trials_can_be_answered():
    rng = random.Random(1)
    said = [one for _ in range(20) for one in cited_sample(rng).questions]
    assert 0 < sum(one.answer == UNSAID for one in said) < len(said) / 2
    trials = draw_trials("cited", 20)
    assert {len(trial.pictures) for trial in trials} == {1, 2}
    for question, answer in [
        *((one.text, one.answer) for one in said if one.answer != UNSAID),
        *((trial.question, trial.truth) for trial in trials),
    ]:
        word, lines = asked_of(question)
        assert [f"{line} {mark}." for mark, line in lines if word in line.lower()] == [answer]
    new = [word for trial in trials for word in re.findall("[a-z]{4,}", trial.truth.lower())]
    assert set(new) <= held_out().words


def test_pages_that_cannot_be_asked_about_are_drawn_again():
    drawn = iter(["12", "34 5", "12", "Copper 5", "12", "Kettle 7"])
    style = Print((1, 1), (24, 30), lambda _: next(drawn), one_font=True)
    assert draw_pages(random.Random(1), style, 2)[1] == ["12", "Copper 5"]
