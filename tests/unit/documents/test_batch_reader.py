"""Batches of pages, as Ray's workers read them."""

import inspect

import numpy as np
import pytest
from drawn_pages import draw_page, encode, scripted

from langchain_internvl.documents import PageReader
from langchain_internvl.errors import (
    CheckpointError,
    EngineBusyError,
    RequestError,
    ServerAccessError,
)


def reader(reply, *, max_tiles=None, **settings):
    llm, backend = scripted(reply)
    model = {"model": llm.model, "backend": backend, "max_tiles": max_tiles}
    return PageReader(model, **settings)


def test_columns_in_columns_out():
    def reply(request):
        tile = request.tiles[0][0, 9, 9]
        return EngineBusyError("busy") if tile[0] > 250 and tile[1] < 10 else "text"

    pages = [encode(draw_page("a")), encode(draw_page(ground="red")), b"broken",
             np.asarray(draw_page("b")), encode(draw_page())]  # fmt: skip
    batch = {"page_id": [f"x-{number}" for number in range(5)], "image": pages}
    read = reader(reply)(batch)
    assert read["page_id"] == batch["page_id"]
    assert "image" not in read
    assert list(read["text"]) == ["text", "", "", "text", ""]
    assert list(read["ocr"]) == ["model", "", "", "model", "blank"]
    assert [bool(error) for error in read["error"]] == [False, True, True, False, False]
    assert read["error"][1] == "busy"
    assert "page 2 of the batch" in read["error"][2]
    assert {len(values) for values in read.values()} == {5}
    assert np.isnan(read["token_probability"]).all()


@pytest.mark.parametrize("form", ["TIFF", "GIF"])
def test_further_images_of_a_cell_are_said(form, caplog):
    pages = encode(draw_page("a"), form, save_all=True, append_images=[draw_page("b")])
    assert list(reader(["text"])({"image": [pages]})["text"]) == ["text"]
    assert "page 0 of the batch: has 2 images, of which the first is read" in caplog.text


def test_options_and_columns_have_names():
    backend_read = reader(lambda request: "| a | b |\n|---|---|", options={"output": "markdown"},
                          image_column="png")  # fmt: skip
    read = backend_read({"png": np.array([encode(draw_page("a"))], dtype=object)})
    assert read["text"][0].startswith("<table>")
    assert reader([])({"image": []})["text"].tolist() == []


@pytest.mark.parametrize("wrong", [0, -1, None, 1.5, True])
def test_no_page_in_flight_is_refused(wrong):
    """With 0 the first batch waited for ever."""
    with pytest.raises(RequestError, match="concurrency is a whole number from 1"):
        reader([], concurrency=wrong)


def test_a_model_that_cannot_be_used_is_no_failed_page():
    read = reader(lambda request: CheckpointError("no such model"))
    with pytest.raises(CheckpointError, match="no such model"):
        read({"image": [encode(draw_page("a"))] * 3})


def test_it_needs_no_ray():
    assert "import ray" not in inspect.getsource(inspect.getmodule(PageReader))


def test_an_error_of_the_model_after_a_success_is_that_of_a_page():
    """A firewall refuses a page; nothing is read after twenty in a row."""
    said = iter(["text", ServerAccessError("no"), "text", *[ServerAccessError("no")] * 20])
    read = reader(lambda request: next(said), concurrency=1)
    pages = [encode(draw_page("a"))] * 3
    assert list(read({"image": pages})["error"]) == ["", "no", ""]
    with pytest.raises(ServerAccessError):
        read({"image": pages[:1] * 20})
    assert next(said, None) is None


async def test_a_batch_may_be_read_where_an_event_loop_runs():
    assert list(reader(lambda request: "text")({"image": [encode(draw_page("a"))]})["text"]) == [
        "text"
    ]


def test_a_batch_without_images_says_which_columns_it_has():
    with pytest.raises(RequestError, match=r"no column 'image' .*page_id, png"):
        reader(lambda request: "text")({"page_id": ["x"], "png": [b""]})


@pytest.mark.parametrize(
    ("own", "options", "most"), [(2, {}, 2), (2, {"max_tiles": 4}, 4), (None, {"max_tiles": 4}, 4)]
)
def test_a_page_over_the_tiles_of_the_model_is_read_in_parts(own, options, most):
    """As by the loader; it was shrunk to the tiles of the model."""
    seen = []

    def reply(request):
        seen.append(len(request.tiles[0]))
        return "text"

    page = draw_page(*["words of a page"] * 18, size=(1240, 1754), font=56)
    reader(reply, max_tiles=own, options=options, concurrency=1)({"image": [encode(page)]})
    assert len(seen) > 1
    assert max(seen) <= most + 1  # the thumbnail
