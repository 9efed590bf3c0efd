"""Turned pages."""

import numpy as np
import pytest
from drawn_pages import draw_page, scripted, sure_reply

from langchain_internvl.backends.base import Delta
from langchain_internvl.documents.orientation import ANSWERS, ranked, turn
from langchain_internvl.documents.page_reader import Reader
from langchain_internvl.documents.reading import ReadOptions
from langchain_internvl.errors import RequestError

UPRIGHT = draw_page(*["A line of text over the page"] * 18, size=(640, 640))


def reader(weights, **options):
    """A model that reads only upright pages, and gives the answers some weights."""

    def reply(request):
        if request.choices:
            return [Delta(0, request.choices[0].text, "stop",
                          choice_logprobs=tuple(np.log(weights)))]  # fmt: skip
        upright = (request.tiles[0][-1] == upright_tile).all()
        return sure_reply("A line of text", 0.95) if upright else sure_reply("qpd", 0.4)

    llm, backend = scripted(reply)
    probe, seen = scripted(["x"])
    Reader(probe, ReadOptions()).read(UPRIGHT)
    upright_tile = seen.requests[0].tiles[0][-1]
    return Reader(llm, ReadOptions(deskew=False, **options)), backend


@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("believes", [0, 1, 2, 3])
def test_turned_pages_are_found_whatever_the_model_believes(degrees, believes):
    weights = [0.1] * 4
    weights[believes] = 0.7
    found, backend = reader(weights)
    page = found.read(turn(UPRIGHT, -degrees % 360))
    assert (page.text, page.rotation) == ("A line of text", degrees)
    assert page.attempts == len(backend.requests)
    if list(ANSWERS.values())[believes] == degrees:
        assert len(backend.requests) == 3  # as it is, the question, as the model says


def test_a_page_that_reads_well_is_asked_nothing_else():
    found, backend = reader([0.25] * 4)
    assert found.read(UPRIGHT).rotation == 0
    assert len(backend.requests) == 1


def test_always_asks_first():
    found, backend = reader([0.1, 0.1, 0.7, 0.1], rotation="always")
    page = found.read(turn(UPRIGHT, 180))
    assert (page.text, page.rotation, len(backend.requests)) == ("A line of text", 180, 2)


def test_never_reads_as_it_is():
    found, backend = reader([0.1, 0.1, 0.7, 0.1], rotation="never")
    assert (found.read(turn(UPRIGHT, 180)).text, len(backend.requests)) == ("qpd", 1)


@pytest.mark.parametrize(("weight", "turned"), [(0.97, 180), (0.6, 0)])
def test_without_probabilities_only_a_sure_answer_turns_a_page(weight, turned):
    rest = (1 - weight) / 3

    def reply(request):
        if request.choices:
            weights = tuple(np.log([rest, rest, weight, rest]))
            return [Delta(0, "", "stop", choice_logprobs=weights)]
        return "" if len(backend.requests) == 1 else "Text"

    llm, backend = scripted(reply)
    found = Reader(llm, ReadOptions()).read(UPRIGHT)
    assert (found.rotation, found.text) == (turned, "Text" if turned else "")


def test_a_server_that_cannot_weigh_choices_is_tried_by_reading():
    def reply(request):
        if request.choices:
            raise RequestError("a server cannot weigh choices")
        return sure_reply("Text", 0.9 if len(backend.requests) == 4 else 0.3)

    llm, backend = scripted(reply)
    found = Reader(llm, ReadOptions()).read(UPRIGHT)
    assert (found.rotation, found.text) == (90, "Text")


def test_turns_are_clockwise_and_ranked():
    page = UPRIGHT.resize((100, 50))
    assert turn(page, 90).size == (50, 100)
    page.putpixel((0, 0), (255, 0, 0))
    assert turn(page, 90).getpixel((49, 0)) == (255, 0, 0)
    answers = list(ANSWERS)
    weights = dict(zip(answers, (0.1, 0.2, 0.6, 0.1), strict=True))
    assert ranked(weights)[0] == (180, 0.6)
    assert {one for one, _ in ranked({})} == {0, 90, 180, 270}
