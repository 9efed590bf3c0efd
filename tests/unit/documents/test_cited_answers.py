"""Questions about documents, answered from their text and images with the pages that say so."""

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
