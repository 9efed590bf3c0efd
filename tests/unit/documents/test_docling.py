from pathlib import Path

import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import START, StateGraph
from PIL import Image

from langchain_internvl import ChatInternVL
from langchain_internvl.backends.base import Delta
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.documents.docling import describe_pictures
from langchain_internvl.errors import BackendError, RequestError

docling = pytest.importorskip("docling_core.types.doc")


def document_of(*images):
    document = docling.DoclingDocument(name="report")
    for image in images:
        document.add_picture(image=image and docling.ImageRef.from_pil(image, dpi=72))
    return document


def llm_of(answer):
    return ChatInternVL(model="nano", backend=ScriptedBackend(answer))


def test_nano_describes_the_figures_in_the_markdown():
    document = document_of(Image.open("cookbook/shapes.png"))
    nano = ChatInternVL(model="nano", temperature=0, max_tokens=60)
    assert describe_pictures(document, nano) == {}
    assert document.pictures[0].meta.description.created_by == "nano"
    assert "a red circle, a blue square" in document.export_to_markdown()


def test_a_failed_picture_leaves_its_neighbours_alone():
    def answer(request):
        if request.tiles[0][0, 9, 9].argmax() == 1:
            raise BackendError("out of order")
        return "A drawing."

    colours = ("red", "lime", "blue")
    document = document_of(*(Image.new("RGB", (10, 10), one) for one in colours), None)
    failures = describe_pictures(document, llm_of(answer))
    assert list(failures) == ["#/pictures/3", "#/pictures/1"]
    assert "generate_picture_images" in str(failures["#/pictures/3"])
    told = [one.meta and one.meta.description.text for one in document.pictures]
    assert told == ["A drawing.", None, "A drawing.", None]


def test_a_picture_that_is_described_keeps_its_description():
    document = document_of(Image.new("RGB", (10, 10)))
    describe_pictures(document, llm_of(lambda _request: AIMessage("First.")))
    describe_pictures(document, llm_of(lambda _request: AIMessage("Second.")))
    assert document.pictures[0].meta.description.text == "First."


def test_replies_without_text_are_failures_and_cut_ones_are_said(caplog):
    """An empty description counted as one, so that the next run left the picture out."""
    document = document_of(*(Image.new("RGB", (10, 10), one) for one in ("red", "lime", "blue")))
    replies = ["A long line.", "", [Delta(0, "", "length")]]
    failures = describe_pictures(document, llm_of(replies), concurrency=1, max_tokens=2)
    assert {name: str(error) for name, error in failures.items()} == {
        "#/pictures/1": "the reply has no text",
        "#/pictures/2": "the reply has no text; it was cut off: raise max_tokens",
    }
    told = [one.meta and one.meta.description.text for one in document.pictures]
    assert told == ["A long", None, None]
    assert "#/pictures/0 was cut off: raise max_tokens" in caplog.text
    assert describe_pictures(document, llm_of(["A drawing."] * 2)) == {}
    assert [one.meta.description.text for one in document.pictures[1:]] == ["A drawing."] * 2
    with pytest.raises(RequestError, match="concurrency is a whole number from 1, not 0"):
        describe_pictures(document, llm_of([]), concurrency=0)


def test_descriptions_are_no_part_of_the_stream_of_a_graph():
    document = document_of(Image.new("RGB", (10, 10)))
    graph = StateGraph(dict)
    graph.add_node(
        "tell", lambda _: {"failed": describe_pictures(document, llm_of(["A drawing."]))}
    )
    graph.add_edge(START, "tell")
    assert list(graph.compile().stream({"x": 1}, stream_mode="messages")) == []
    assert document.pictures[0].meta.description.text == "A drawing."


def test_a_picture_that_cannot_be_read_leaves_its_neighbours_alone():
    """Its image is in a file that is gone, or has no pixels."""
    document = document_of(*(Image.new("RGB", (10, 10), one) for one in ("red", "lime")))
    document.pictures[0].image.uri = Path("gone.png")
    document.pictures[0].image._pil = None
    failures = describe_pictures(document, llm_of(lambda _request: "A drawing."))
    assert list(failures) == ["#/pictures/0"]
    assert document.pictures[1].meta.description.text == "A drawing."
