"""Answers whose sentences say on which page they stand."""

import pytest
from drawn_pages import draw_page, encode, scripted
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, StateGraph
from PIL import Image

from langchain_internvl import InternVLLoader
from langchain_internvl.documents import answer_with_citations
from langchain_internvl.documents.citations import open_page_of
from langchain_internvl.documents.cited_answer import cite
from langchain_internvl.errors import EngineBusyError, MediaError, RequestError
from langchain_internvl.media.policy import MediaPolicy

PAGES = [
    Document(page_content="The rent is 900 EUR.",
             metadata={"source": "box/lease.pdf", "page": 1, "page_id": "aa-1"}),
    Document(page_content="The deposit is 1800 EUR.",
             metadata={"source": "box/lease.pdf", "page": 2, "page_id": "aa-2"}),
]  # fmt: skip


def cited(answer):
    return [(answer.text[one["start_index"]:one["end_index"]], one["extras"]["number"])
            for one in answer.citations]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "text", "expected"),
    [
        ("The rent is 900 EUR [1].", "The rent is 900 EUR.", [("The rent is 900 EUR", 1)]),
        ("It is 900 [1] and 1800 [2].", "It is 900 and 1800.", [("It is 900", 1), ("and 1800", 2)]),
        ("Hm. Both say so. [1, 2]", "Hm. Both say so.", [("Both say so.", 1), ("Both say so.", 2)]),
        ("Nobody says.", "Nobody says.", []),
        ("A list [a] of [1]st", "A list [a] ofst", [("A list [a] of", 1)]),
    ],
)  # fmt: skip
def test_marks_become_annotations(said, text, expected):
    answer = cite(AIMessage(said), PAGES)
    assert answer.text == text
    found = [(answer.text[one["start_index"]:one["end_index"]], one["extras"]["number"])
             for one in answer.citations]  # fmt: skip
    assert [(one.strip(), number) for one, number in found] == expected
    assert answer.message.text == text
    if expected:
        annotation = answer.message.content_blocks[0]["annotations"][0]
        assert annotation["type"] == "citation"
        assert annotation["url"] == "box/lease.pdf"
        assert annotation["title"] == "lease.pdf, page 2"
        assert annotation["extras"]["page_id"] == "aa-1"


RENT = ("The rent is 900", 1)


@pytest.mark.parametrize(
    ("said", "text", "expected"),
    [
        *(
            (f"The rent is 900{marks}.", "The rent is 900.", [RENT, ("The rent is 900", 2)])
            for marks in (
                "[1][2]", " [1] [2]", " [1], [2]", " [1] and [2]", " [1; 2]", " [1 and 2]",
                " [1-2]", " [1], and [2]", " [1]-[2]", " [1] \u2013 [2]",
                " [1\u20112]", " [pg. 1, pg. 2]",
                "[\u7b2c1\u9875][\u7b2c2\u9875]", "\u3010\u7b2c1-2\u9875\u3011",
                "[1\u9875\uff0c2\u9875]",
                " [1\u20132]", " [pages 1, 2]", " [pp. 1-2]", " [Page 1, Page 2]", " [^1][^2]",
                " \u30101\u3011\u30102\u2020source\u3011", " [[1, 2]]", " \uff3b1\uff0c2\uff3d",
            )
        ),
        ("The rent is 900 [1]. [2]", "The rent is 900.", [RENT, ("The rent is 900", 2)]),
        # Marks that lead a line belong to what follows.
        ("[1] The rent is 900\n[2] It is so.", "The rent is 900\nIt is so.",
         [RENT, ("It is so.", 2)]),
        ("- [1]: The rent is 900", "- The rent is 900", [RENT]),
        ("1. [1] The rent is 900 [2].", "1. The rent is 900.", [RENT, ("The rent is 900", 2)]),
        ("[1] The rent is 900. [2] It is so. [1] Yes.", "The rent is 900. It is so. Yes.",
         [("The rent is 900.", 1), ("It is so.", 2), ("Yes.", 1)]),
        ("- [1] A. [2] B.\n- [2] C", "- A. B.\n- C", [("A.", 1), ("B.", 2), ("C", 2)]),
        ("[1] A; [2] B", "A; B", [("A", 1), ("B", 2)]),
        ("[1]: A and [2]: B, C.", "A and B, C.", [("A", 1), ("B, C.", 2)]),
        ("1. [1] A | [2] B |", "1. A | B |", [("A", 1), ("B", 2)]),
        ("[1] A is. B is [2].", "A is. B is.", [("A is.", 1), ("B is", 2)]),
        ("[1] A is. B is. [2]", "A is. B is.", [("A is.", 1), ("B is.", 2)]),
        ("[1] A is. [2] B is. C is [1].", "A is. B is. C is.",
         [("A is.", 1), ("B is.", 2), ("C is", 1)]),
        ("[1] A is [2] and B is [1].", "A is and B is.",
         [("A is", 1), ("A is", 2), ("and B is", 1)]),
        ("A is [1]. [2] B is. [1] C is.", "A is. B is. C is.",
         [("A is", 1), ("B is.", 2), ("C is.", 1)]),
        ("A is [1]. [2]. B is so.", "A is.. B is so.", [("A is", 1), ("A is", 2)]),
        ("[1] A is.\nB is. [2] C is.", "A is.\nB is. C is.", [("A is.", 1), ("B is.", 2)]),
        ("The rent is 900\n[1]\nSo.", "The rent is 900\nSo.", [RENT]),
        # What is around nothing but marks goes with them.
        *(
            (f"The rent is 900 {marks}.", "The rent is 900.", [RENT])
            for marks in ("**[1]**", "*[1]*", "__[1]__", "_[1]_", "***[1]***", "([1])",
                          "**([1])**", "<sup>[1]</sup>", "\uff08[1]\uff09")
        ),
        *(
            (f"The rent is 900 {marks}.", "The rent is 900.", [RENT, ("The rent is 900", 2)])
            for marks in ("([1], [2])", "**[1][2]**", "**[1]**, **[2]**", "(**[1]** and [2])")
        ),
        ("- **[1]**: The rent is 900", "- The rent is 900", [RENT]),
        ("- **[1]:** The rent is 900", "- The rent is 900", [RENT]),
        ("* The rent is 900 *[1]*", "* The rent is 900", [("* The rent is 900", 1)]),
        # Emphasis of other words stays.
        ("**A.**[1]**B.**", "**A.****B.**", [("**A.**", 1)]),
        ("**A is [1]**", "**A is**", [("**A is", 1)]),
        ("**A** and **B** **[1]**", "**A** and **B**", [("**A** and **B**", 1)]),
        ("(A is [1])", "(A is)", [("(A is", 1)]),
        # Code, links and other brackets are text.
        ("`x[0]` is 9 [2].", "`x[0]` is 9.", [("`x[0]` is 9", 2)]),
        ("```\na[1]\n```\nSo [2].", "```\na[1]\n```\nSo.", [("So", 2)]),
        ("~~~\na[1]", "~~~\na[1]", []),
        ("See [1](https://a.b) and [1]: https://a.b", None, []),
        ("It is [2-1], [2024], [1, x] and [].", None, []),
        ("[1]", "", [("", 1)]),
    ],
)  # fmt: skip
def test_marks_of_every_form(said, text, expected):
    answer = cite(AIMessage(said), PAGES)
    assert answer.text == (said if text is None else text)
    assert cited(answer) == expected
    assert [one["cited_text"] for one in answer.citations] == [one for one, _ in expected]


@pytest.mark.parametrize(
    ("mark", "numbers", "unknown"),
    [
        ("[pages 2-4]", [2], (3, 4)), ("[pp. 1-900]", [1, 2], (3, 900)),
        ("[p. 10 - p. 20]", [], (10, 20)), ("[Seiten 2 bis 3]", [2], (3,)),
        ("[s. 0-1]", [1], (0,)), ("\u301010-20\u2020source\u3011", [], (10, 20)),
        ("[1][pages 2-900]", [1, 2], (3, 900)),
        # Without a word, if a number or a range begins on a page.
        ("[2-4]", [2], (3, 4)), ("[1-900]", [1, 2], (3, 900)), ("[[1-3]]", [1, 2], (3,)),
        ("[2, 5-7]", [2], (5, 7)), ("[1, 2-3]", [1, 2], (3,)), ("[1][2-9]", [1, 2], (3, 9)),
        ("[1]-[9]", [1, 2], (3, 9)),
        ("[1]\u2013[2]\u2013[3]", [1, 2], (3,)),
        ("[7]-[9]", [], (7, 9)), ("[2]-[1]", [2, 1], ()), ("[5-7, 1]", [1], (5, 7)),
        ("[0, 1-2]", [1, 2], (0,)), ("[1 to 3]", [1, 2], (3,)),
    ],
)  # fmt: skip
def test_ranges_beyond_the_pages_are_reported(mark, numbers, unknown):
    """By their ends, not by hundreds of numbers."""
    answer = cite(AIMessage(f"So it is {mark}."), PAGES)
    assert [one["extras"]["number"] for one in answer.citations] == numbers
    assert (answer.text, answer.unknown) == ("So it is.", unknown)


@pytest.mark.parametrize(
    "said",
    ["[10-20]", "[3-4]", "[0-1]", "[10 to 20]", "[5, 7-9]", "[[3-5]]", "[^a-z] [^0-9]"],
)
def test_other_ranges_are_text(said):
    answer = cite(AIMessage(f"Widths of {said} mm are allowed [1]."), PAGES)
    text = f"Widths of {said} mm are allowed"
    assert (answer.text, cited(answer), answer.unknown) == (f"{text}.", [(text, 1)], ())


def test_a_range_that_goes_too_far_keeps_its_pages():
    """All citations were lost, and nothing was reported."""
    pages = [*PAGES, Document("The end.")]
    for said, numbers, unknown in (
        ("The rent is 900 [1-4].", [1, 2, 3], (4,)),
        ("A is so [1, 3-5].", [1, 3], (4, 5)),
        ("A [1][2-9].", [1, 2, 3], (4, 9)),
    ):
        answer = cite(AIMessage(said), pages)
        assert [number for _, number in cited(answer)] == numbers
        assert answer.unknown == unknown
        assert "[" not in answer.text


@pytest.mark.parametrize("separators", [", " * 60_000, " and" * 40_000 + " ", ";\t| & " * 20_000])
def test_runs_of_separators_take_a_step_each(separators):
    """Each was tried as the first of the run, in quadratic time: 4000 took 1.2 s."""
    answer = cite(AIMessage(f"[1] A{separators}[2] B"), PAGES)
    assert cited(answer) == [("A", 1), ("B", 2)]
    answer = cite(AIMessage(f"[1] A{separators}c."), PAGES)
    assert cited(answer) == [(f"A{separators}c.", 1)]


@pytest.mark.parametrize("kept", ["A band", "A hund", "A handand"])
def test_words_that_end_like_and_stay_whole(kept):
    assert cited(cite(AIMessage(f"[1] {kept} and [2] B"), PAGES)) == [(kept, 1), ("B", 2)]


def test_a_line_that_begins_with_code_hides_no_marks():
    answer = cite(AIMessage("```x``` is it [1].\nThe rent is 900 [2]."), PAGES)
    assert cited(answer) == [("```x``` is it", 1), ("The rent is 900", 2)]


def test_a_mark_after_one_of_no_page_cites_the_same_statement():
    answer = cite(AIMessage("A is true [9]. [1]"), PAGES)
    assert (answer.text, cited(answer), answer.unknown) == ("A is true.", [("A is true", 1)], (9,))


def test_marks_of_no_page_are_reported():
    answer = cite(AIMessage("So it is [7]."), PAGES)
    assert (answer.text, answer.citations, answer.unknown) == ("So it is.", (), (7,))


@pytest.fixture
def box(tmp_path):
    """Two scanned pages, and what the loader made of them."""
    for name, line in (("a", "The rent is 900 EUR"), ("b", "The deposit is 1800 EUR")):
        (tmp_path / f"{name}.png").write_bytes(encode(draw_page(line, size=(300, 200))))
    llm, _ = scripted(["The rent is 900 EUR", "The deposit is 1800 EUR"])
    return InternVLLoader(tmp_path, llm=llm, concurrency=1).load()


def answered(box, *replies, **settings):
    llm, backend = scripted(list(replies))
    chain = answer_with_citations(llm, lambda question: box, **settings)
    return chain.invoke("What is the rent?"), backend, llm


def test_text_and_images_of_pages_are_shown(box):
    answer, backend, llm = answered(box, "It is 900 EUR [1].")
    (request,) = backend.requests
    prompt = llm.get_text(request.prompt_ids)
    assert "[2] The deposit is 1800 EUR" in prompt
    assert "Question: What is the rent?" in prompt
    assert len(request.tiles) == 2
    assert [(page.number, page.is_cited) for page in answer.pages] == [(1, True), (2, False)]
    assert answer.pages[0].image.size == (300, 200)
    text_only, backend, _ = answered(box, "It is 900 EUR [1].", show_images=False)
    assert (len(backend.requests[0].tiles), text_only.pages[0].image) == (0, None)


def test_parts_of_a_page_are_one_page(box):
    parts = [box[0], box[1], box[0].model_copy(update={"page_content": "More of it"})]
    answer, backend, llm = answered(parts, "Yes [1].", max_pages=2)
    assert len(answer.pages) == 2
    assert "The rent is 900 EUR\nMore of it" in llm.get_text(backend.requests[0].prompt_ids)


def test_parts_of_other_loaders_pages_are_one_page():
    parts = [Document(text, metadata={"source": "a.pdf", "page": page})
             for text, page in (("One", 0), ("Two", 0), ("Three", 1))]  # fmt: skip
    answer, *_ = answered(parts, "Yes [1].", show_images=False)
    assert [page.document.page_content for page in answer.pages] == ["One\nTwo", "Three"]
    unknown = [Document("One"), Document("Two", metadata={"source": "a.txt"})]
    assert len(answered(unknown, "Yes [1].")[0].pages) == 2


@pytest.mark.parametrize(
    "settings",
    [
        {"max_pages": 0},
        {"max_pages": -1},
        {"max_pages": None},
        {"prompt": "Answer from {pages}"},
        {"prompt": "Answer {question}", "show_images": False},
    ],
)
def test_settings_without_a_question_or_pages_are_refused(settings):
    llm, _ = scripted([])
    with pytest.raises(RequestError, match=r"max_pages|prompt"):
        answer_with_citations(llm, lambda question: [], **settings)


def test_the_cited_region_is_drawn(box):
    reply = "<ref>It is 900 EUR</ref><box>[[100, 100, 500, 300]]</box>"
    answer, backend, llm = answered(box, "It is 900 EUR [1].", reply, ground=True)
    cited, other = answer.pages
    assert cited.boxes[0].thousandths == (100, 100, 500, 300)
    assert cited.image.tobytes() != other.image.tobytes()
    assert other.boxes == ()
    assert "<ref>It is 900 EUR</ref>" in llm.render(
        [("human", llm.get_text(backend.requests[1].prompt_ids))]
    ) or "It is 900 EUR" in llm.get_text(backend.requests[1].prompt_ids)


def test_only_the_answer_is_in_the_stream_of_a_graph(box):
    """`stream_mode="messages"` showed the boxes, too."""
    reply = "<ref>It is 900 EUR</ref><box>[[100, 100, 500, 300]]</box>"
    llm, _ = scripted(["It is 900 EUR [1].", reply] * 2)
    chain = answer_with_citations(llm, lambda question: box, ground=True)
    graph = StateGraph(dict)
    graph.add_node("ask", lambda state: {"answer": chain.invoke(state["question"]).pages[0].boxes})
    graph.add_edge(START, "ask")
    streamed = graph.compile().stream({"question": "The rent?"}, stream_mode=["messages", "values"])
    said, boxes = "", ()
    for mode, one in streamed:
        if mode == "messages":
            said += one[0].text
        else:
            boxes = one.get("answer", boxes)
    assert said == "It is 900 EUR [1]."
    assert boxes[0].thousandths == (100, 100, 500, 300)


def test_a_page_that_cannot_be_opened_is_answered_from_by_its_text():
    answer, backend, _ = answered(PAGES, "It is 900 EUR [1].")
    assert (len(backend.requests[0].tiles), answer.pages[0].image) == (0, None)
    _, backend, _ = answered(PAGES, "Yes [1].", page_image=lambda page: Image.new("RGB", (90, 90)))
    assert len(backend.requests[0].tiles) == 2


def test_the_image_is_that_of_the_very_file(tmp_path):
    """A source with brackets that is gone is no pattern that another file matches."""
    path = tmp_path / "scan1.png"
    path.write_bytes(encode(draw_page("x", size=(90, 80))))
    for name in ("scan[1].png", "scan*.png", "."):
        page = Document("x", metadata={"source": str(tmp_path / name), "page": 0})
        with pytest.raises(MediaError):
            open_page_of(page, MediaPolicy())
    path.rename(tmp_path / "scan[1].png")
    page = Document("x", metadata={"source": str(tmp_path / "scan[1].png"), "page": "0"})
    assert open_page_of(page, MediaPolicy()).size == (90, 80)


def test_a_part_of_a_whole_file_has_no_image_unless_the_file_has_one_page(tmp_path):
    """The first page is not where a part of a longer file stands."""
    llm, _ = scripted(["One.", "Two.", "Three."])
    book, sheet = tmp_path / "book.tif", tmp_path / "sheet.png"
    first, second = draw_page("one", size=(90, 80)), draw_page("two", size=(90, 80))
    first.save(book, save_all=True, append_images=[second])
    sheet.write_bytes(encode(first))
    options = {"llm": llm, "mode": "single", "rotation": "never", "skip_blank": False}
    whole, small = InternVLLoader([book, sheet], **options).load()
    with pytest.raises(MediaError, match=r"has 2 pages, and the metadata .* names none"):
        open_page_of(whole, MediaPolicy())
    assert open_page_of(small, MediaPolicy()).size == (90, 80)
    small.metadata["pages"][0]["rotation"] = 90
    assert open_page_of(small, MediaPolicy()).size == (80, 90)
    for page in (None, float("nan")):
        of_store = {"source": str(book), "page": page}
        with pytest.raises(MediaError, match="has 2 pages"):
            open_page_of(Document("x", metadata=of_store), MediaPolicy())


def test_missing_values_of_stores_are_none(tmp_path):
    """Stores of columns give None or NaN where a document lacks a key that others have."""
    path = tmp_path / "scan.png"
    path.write_bytes(encode(draw_page("x", size=(90, 80))))
    for missing in (None, float("nan")):
        known = {"source": str(path), "page": 0.0, "rotation": missing, "page_id": missing}
        assert open_page_of(Document("x", metadata=known), MediaPolicy()).size == (90, 80)
        other = {**known, "source": str(tmp_path / "gone.png")}
        found = [Document("It is 900 EUR.", metadata=known), Document("Or 950.", metadata=other)]
        answer, _, _ = answered(found, "It is 900 EUR [1].")
        assert [one.document.page_content for one in answer.pages] == ["It is 900 EUR.", "Or 950."]
    for rotation, size in ((-90, (80, 90)), (450.0, (80, 90)), ("180", (90, 80))):
        turned = {"source": str(path), "rotation": rotation}
        assert open_page_of(Document("x", metadata=turned), MediaPolicy()).size == size
    with pytest.raises(MediaError, match="right angles"):
        open_page_of(Document("x", metadata={**turned, "rotation": 45}), MediaPolicy())


def test_errors_of_the_model_are_raised(box):
    with pytest.raises(EngineBusyError):
        answered(box, EngineBusyError("busy"))


async def test_it_is_a_runnable(box):
    llm, _ = scripted(["It is 900 EUR [1]."])
    chain = answer_with_citations(llm, lambda question: box) | RunnableLambda(lambda one: one.text)
    assert await chain.ainvoke("What is the rent?") == "It is 900 EUR."


@pytest.mark.parametrize(
    ("said", "statements"),
    [
        ("Ann pays 900 EUR to Mr. Smith [1].", ["Ann pays 900 EUR to Mr. Smith"]),
        ("Fine. See art. 5 of No. 7, i.e. 10 EUR [1].", ["See art. 5 of No. 7, i.e. 10 EUR"]),
        ("J. Smith pays z.B. 12.50 [1]. Dr. Who 5 [2].",
         ["J. Smith pays z.B. 12.50", "Dr. Who 5"]),
        ("So it is.\n10 EUR are due. [1]", ["10 EUR are due."]),
        ("家賃は九百。敷金は千八百。[1]", ["敷金は千八百。"]),
    ],
)  # fmt: skip
def test_statements_are_whole_sentences(said, statements):
    cited = [one["cited_text"].lstrip(" .") for one in cite(AIMessage(said), PAGES).citations]
    assert cited == statements


@pytest.mark.parametrize("page", ["1", 1.0, None, "one", float("inf")])
def test_pages_of_vector_stores(page):
    document = Document("The rent is 900 EUR.", metadata={"source": "no.pdf", "page": page})
    (citation,) = cite(AIMessage("It is 900 [1]."), [document]).citations
    assert citation["title"] == ("no.pdf, page 2" if page in {"1", 1.0} else "no.pdf")
    answer, *_ = answered([document], "It is 900 [1].", ground=True)
    assert "cannot be opened" in answer.pages[0].unlocated[0]


def test_names_on_a_page_are_not_filled_in():
    page = Document("Write {question} and {pages} here")
    llm, backend = scripted(["Yes [1]."])
    answer_with_citations(llm, lambda question: [page]).invoke("Why {pages}?")
    prompt = llm.get_text(backend.requests[0].prompt_ids)
    assert "[1] Write {question} and {pages} here" in prompt
    assert "Question: Why {pages}?" in prompt


def test_models_that_do_not_point_or_read_are_refused():
    other = FakeListChatModel(responses=["x"])
    llm, _ = scripted([])
    for model, settings in [
        (llm, {"ground_llm": other, "ground": "reading"}),
        (llm, {"ground_llm": other}),
        (other, {"ground": True}),
    ]:
        with pytest.raises(RequestError, match="is a FakeListChatModel"):
            answer_with_citations(model, lambda question: [], **settings)
    answer_with_citations(other, lambda question: [], ground="boxes", ground_llm=llm)


async def test_what_is_no_question_or_no_document_is_refused():
    """None was asked as an empty question."""
    llm, backend = scripted([])
    chain = answer_with_citations(llm, lambda question: [])
    for question in (None, 5, {"question": "x"}):
        with pytest.raises(RequestError, match="the question is text"):
            chain.invoke(question)
        with pytest.raises(RequestError, match="the question is text"):
            await chain.ainvoke(question)
    for found, named in (
        (None, "NoneType"), (["text"], "str in it"), ("text", "str"), ("", "str"), ({}, "dict"),
        ([{"page_content": "x"}], "dict in it"), ([PAGES[0], None], "NoneType in it"),
        (iter([None]), "NoneType in it"), (PAGES[0], "Document"),
    ):  # fmt: skip
        with pytest.raises(RequestError, match=f"gives Documents in a list, not {named}$"):
            answer_with_citations(llm, lambda question, found=found: found).invoke("x")
    assert backend.requests == []


def test_a_question_that_fails_takes_no_other_along():
    def reply(request):
        question = llm.get_text(request.prompt_ids).split("Question:")[1]
        return EngineBusyError("busy") if "bad" in question else "Yes [1]."

    llm, _ = scripted(reply)
    chain = answer_with_citations(llm, lambda question: PAGES, show_images=False)
    found = chain.batch(["one", "bad", "two"], return_exceptions=True)
    assert [getattr(one, "text", type(one)) for one in found] == ["Yes.", EngineBusyError, "Yes."]
