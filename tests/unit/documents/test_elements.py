"""Regions of layout-giving models, as Qianfan-OCR's documentation shows its replies."""

import json
from itertools import pairwise

from drawn_pages import draw_page, encode, long_reply, scripted
from langchain_core.documents.base import Blob

from langchain_internvl import InternVLImageParser
from langchain_internvl.documents.elements import Element, merge_elements, split_elements

# A reply in layout mode: a plan of the page in reading order, then its Markdown.
PLAN = """<box>[[62, 40, 940, 92]]</box><label>doc_title</label><brief>Title of the report</brief>
<box>[[62, 110, 480, 520]]</box><label>text</label><brief>Left column</brief>
<box>[[<COORD_520>, <COORD_110>, <COORD_940>, <COORD_380>]]</box><label>chart</label><brief>Sales
by year</brief>
<box><COORD_520><COORD_400><COORD_940><COORD_440></box><label>figure_title</label>
<box>[[62, 560, 940, 900]]</box><label>table</label><brief></brief>"""
MARKDOWN = """# Annual report

Sales rose.

![chart](<box>[[520, 110, 940, 380]]</box>)

Figure 1"""
ELEMENTS = [
    {"label": "doc_title", "box": [62, 40, 940, 92], "brief": "Title of the report"},
    {"label": "text", "box": [62, 110, 480, 520], "brief": "Left column"},
    {"label": "chart", "box": [520, 110, 940, 380], "brief": "Sales\nby year"},
    {"label": "figure_title", "box": [520, 400, 940, 440]},
    {"label": "table", "box": [62, 560, 940, 900]},
]
PAGE = draw_page(*["A line of text over the page"] * 18)


def read(reply, page=PAGE, **settings):
    llm, _ = scripted(reply, reasoning=True)
    parser = InternVLImageParser(llm, **settings)
    return parser.parse(Blob.from_data(encode(page)))[0]


def test_the_plan_of_the_page_becomes_its_elements():
    page = read([f"<think>\n{PLAN}\n</think>\n{MARKDOWN}"])
    assert page.metadata["elements"] == ELEMENTS
    assert page.page_content == "# Annual report\n\nSales rose.\n\n![chart]()\n\nFigure 1"
    json.dumps(page.metadata)


def test_without_a_plan_pictures_have_their_places():
    page = read([MARKDOWN], output="markdown")
    assert page.metadata["elements"] == [{"label": "chart", "box": [520, 110, 940, 380]}]
    assert "![chart]()" in page.page_content


def test_a_layout_analysis_alone():
    text, elements = split_elements(PLAN)
    assert text == ""
    assert [one.label for one in elements] == [one["label"] for one in ELEMENTS]


def test_what_is_no_box_stays():
    text = "![a](<box>none</box>) <box>[[1, 2, 3]]</box><label>x</label> <label>y</label>"
    assert split_elements(text) == (text, ())


def test_elements_of_parts_have_their_place_on_the_page():
    tall = draw_page(*["A line of text"] * 40, size=(600, 3000))
    names = iter("abcdefgh")

    def reply(request):
        name = next(names)
        return f"<ref>{name}</ref><box>[[100, 0, 900, 1000]]</box>{name * 9}"

    page = read(reply, tall, max_tiles=4, concurrency=1, long_side=3000)
    elements = page.metadata["elements"]
    assert [one["label"] for one in elements] == ["a", "b", "c", "d"]
    assert (elements[0]["box"][1], elements[-1]["box"][3]) == (0, 1000)
    tops = [one["box"][1] for one in elements]
    assert tops == sorted(tops)
    assert all(one["box"][0] == 100 and one["box"][2] == 900 for one in elements)
    for upper, lower in pairwise(elements):
        assert 0 < upper["box"][3] - lower["box"][1] < 120  # the overlap


def test_a_region_in_two_parts_is_there_once():
    row, same = Element((0, 400, 900, 500), "table"), Element((0, 410, 900, 500), "table")
    other = Element((0, 410, 900, 500), "text")
    assert merge_elements([[row], [same, other]]) == (row, other)
    assert merge_elements([[row, row]]) == (row, row)  # what a model says twice it says twice


def test_a_rule_without_height_in_two_parts_is_there_once():
    """Lines of a page have heights below a thousandth, so that both edges are one number."""
    rule, other = (
        Element((62, 500, 940, 500), "separator"),
        Element((62, 510, 940, 510), "separator"),
    )
    assert merge_elements([[rule], [rule, other]]) == (rule, other)


def test_a_plan_in_a_loop_is_a_loop():
    llm, backend = scripted([
        long_reply("<think>" + "<box>[[1, 2, 3, 4]]</box><label>text</label>\n" * 60),
        "<think></think>All of it",
    ], reasoning=True)  # fmt: skip
    page = InternVLImageParser(llm).parse(Blob.from_data(encode(PAGE)))[0]
    assert page.page_content == "All of it"
    assert [one.sampling.temperature for one in backend.requests[1:]] == [0.1]


def test_long_white_space_is_passed_once():
    """Quadratic time would be minutes."""
    text = "<box>[[1, 2, 3, 4]]</box>a" + " " * 400_000 + "b"
    assert split_elements(text)[0] == "a" + " " * 400_000 + "b"
