"""Nano answers with lines of pages alone, and finds them on their page: nothing is scripted."""

import pytest
from drawn_pages import draw_page
from langchain_core.documents import Document

from langchain_internvl import ChatInternVL
from langchain_internvl.documents import answer_with_citations
from langchain_internvl.documents.quotes import UNSAID
from langchain_internvl.documents.text_lines import find_lines

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
def test_an_answer_is_a_line_and_its_place(llm, question):
    chain = answer_with_citations(
        llm, lambda _: PAGES, quote=True, ground="reading",
        page_image=lambda page: IMAGES[PAGES.index(page)],
    )  # fmt: skip
    answer = chain.invoke(question)
    cited = [page for page in answer.pages if page.is_cited]
    if answer.text == UNSAID:
        assert cited == []
        return
    (page,) = cited
    lines = TEXTS[page.number - 1]
    assert answer.text in lines
    (box,) = page.boxes
    assert box.pixels == find_lines(IMAGES[page.number - 1])[lines.index(answer.text)]


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
