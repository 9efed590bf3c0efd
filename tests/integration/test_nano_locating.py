"""Nano finds cited statements by reading the lines of a page, and not by boxes."""

import pytest
from langchain_core.documents import Document
from nano_training.trials import draw_trials

from langchain_internvl import ChatInternVL
from langchain_internvl.documents.citations import _locate
from langchain_internvl.documents.locating import Batch
from langchain_internvl.grounding import accuracy, parse_boxes


@pytest.fixture(scope="module")
def llm():
    llm = ChatInternVL(model="nano", temperature=0, max_tiles=1)
    yield llm
    llm.close()


def located(llm, trial, way):
    """The box of the line that a trial asks for; None: there is none, or several."""
    statement = trial.question.partition("<ref>")[2].partition("</ref>")[0]
    script = _locate(way, trial.pictures[0], [{"cited_text": statement}], Document(""))
    step = next(script)
    while isinstance(step, Batch):
        replies = llm.batch(step.inputs, return_exceptions=True, **step.settings)
        try:
            step = script.send(replies)
        except StopIteration as ended:
            step = ended.value
    return step.boxes[0] if len(step.boxes) == 1 else None


def share(llm, trials, way):
    truth = [parse_boxes(trial.truth, trial.pictures[0].size)[0] for trial in trials]
    return accuracy([located(llm, trial, way) for trial in trials], truth)


def test_lines_of_a_tile_are_found_by_reading(llm):
    trials = draw_trials("place line", 6)
    assert share(llm, trials, "reading") >= 5 / 6


@pytest.mark.slow
def test_reading_finds_lines_that_boxes_do_not(llm):
    """On pages of one tile with 1 to 6 lines, and of 6 to 12 tiles with 8 to 14."""
    trials = [*draw_trials("place line", 20), *draw_trials("find line", 20)]
    shares = {way: share(llm, trials, way) for way in ("reading", "boxes")}
    print(shares)  # noqa: T201 - the figures of the guide
    assert shares["reading"] >= 0.9
    assert shares["boxes"] <= 0.15
