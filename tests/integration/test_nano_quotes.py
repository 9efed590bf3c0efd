"""Nano answers with lines of pages alone, and finds them on their page: nothing is scripted."""

import json

import pytest
from drawn_pages import draw_page, scripted
from langchain_core.documents import Document

from langchain_internvl import ChatInternVL
from langchain_internvl.documents import UNSAID, answer_with_citations, find_lines

TEXTS = [["Lease of the house", "Rent 900 monthly"], ["Copper kettle", 'Total "75" [2]']]
IMAGES = [draw_page(*lines, size=(448, 448), font=34) for lines in TEXTS]
PAGES = [
    Document("\n".join(lines), metadata={"page_id": f"a-{number}"})
    for number, lines in enumerate(TEXTS)
]


@pytest.fixture(scope="module")
def llm():
    llm = ChatInternVL(model="nano", temperature=0, max_tiles=1, max_tokens=8)
    yield llm
    llm.close()


@pytest.mark.parametrize("question", ["How much is the rent?", "What is of copper?", "Who is Ann?"])
def test_an_answer_is_a_line_of_the_page_that_it_cites(llm, question):
    chain = answer_with_citations(
        llm, lambda _: PAGES, quote=True, page_image=lambda page: IMAGES[PAGES.index(page)]
    )
    answer = chain.invoke(question)
    cited = [page.number for page in answer.pages if page.is_cited]
    expected = [number for number, lines in enumerate(TEXTS, 1) if answer.text in lines]
    assert cited == expected
    assert [one["extras"]["number"] for one in answer.citations] == expected
    assert bool(expected) == (answer.text != UNSAID)


@pytest.mark.parametrize(
    ("question", "number", "line"),
    [("How much is the rent?", 1, 1), ("What is the lease?", 1, 0), ("What is of copper?", 2, 0)],
)
def test_of_one_page_it_answers_with_the_line_that_has_the_word(question, number, line, llm):
    """Nothing is scripted: nano answers, cites, and finds the line by reading the page."""
    text = TEXTS[number - 1][line]
    image = IMAGES[number - 1]
    chain = answer_with_citations(
        llm.model_copy(update={"max_tokens": 60}), lambda _: [PAGES[number - 1]], ground="reading",
        page_image=lambda _: image,
    )  # fmt: skip
    answer = chain.invoke(question)
    assert answer.text == f"{text}."
    (page,) = answer.pages
    (box,) = page.boxes
    assert box.pixels == find_lines(image)[line]


@pytest.mark.parametrize(("number", "line"), [(1, 0), (1, 1), (2, 0)])
def test_a_quoted_line_is_found_on_its_page(llm, number, line):
    """The answer is scripted, so that each line is looked for; nano reads the pages."""
    text = TEXTS[number - 1][line]
    answering, _ = scripted([json.dumps(f"{text} [{number}]")])
    chain = answer_with_citations(
        answering, lambda _: PAGES, quote=True, ground="reading", ground_llm=llm,
        page_image=lambda page: IMAGES[PAGES.index(page)],
    )  # fmt: skip
    (page,) = (page for page in chain.invoke("What?").pages if page.is_cited)
    (box,) = page.boxes
    assert (page.number, box.pixels) == (number, find_lines(IMAGES[number - 1])[line])


async def test_several_lines_at_a_temperature(llm):
    chain = answer_with_citations(
        llm.model_copy(update={"temperature": 1.5}), lambda _: PAGES, quote=3, show_images=False
    )
    allowed = {*TEXTS[0], *TEXTS[1], UNSAID}
    for answer in await chain.abatch([f"Question {number}?" for number in range(8)]):
        assert set(answer.text.split("\n")) <= allowed
        assert len(answer.citations) == (
            0 if answer.text == UNSAID else len(answer.text.split("\n"))
        )
