"""The loader: sources, order, policies for failures, metadata."""

import hashlib
import threading

import pytest
from drawn_pages import draw_page, encode, long_reply, scan_pdf, scripted, sure_reply, text_pdf
from langchain_core.documents.base import Blob
from langgraph.graph import START, StateGraph
from patience import PATIENCE
from support import http_server

from langchain_internvl import InternVLImageParser, InternVLLoader, MediaPolicy
from langchain_internvl.documents import jobs
from langchain_internvl.errors import EngineBusyError, MediaError, RequestError

PROSE = "The invoice of March is due in thirty days after the goods have been delivered.\n" * 5
COLOURS = ["red", "lime", "blue"]


def by_colour(*replies):
    """Replies by what a page shows: one each for red, lime and blue."""

    def reply(request):
        return replies[int(request.tiles[0][0, 9, 9].argmax())]

    return reply


def coloured(count=3):
    return [draw_page(ground=colour, size=(90, 80)) for colour in COLOURS[:count]]


NUMBERS = by_colour("one", "two", "three")


def loader_of(sources, reply=NUMBERS, **settings):
    llm, backend = scripted(reply)
    return InternVLLoader(sources, llm=llm, **settings), backend


@pytest.fixture
def folder(tmp_path):
    """A box of scans: two folders, three kinds, a hidden file and one that is no image."""
    (tmp_path / "sub").mkdir()
    red, lime, blue = coloured()
    (tmp_path / "b.png").write_bytes(encode(lime))
    (tmp_path / "A.JPG").write_bytes(encode(red, "JPEG"))
    (tmp_path / "sub/c.pdf").write_bytes(scan_pdf(blue, red))
    (tmp_path / ".hidden.png").write_bytes(encode(red))
    (tmp_path / "notes.txt").write_text("no scan")
    return tmp_path


def test_a_folder_gives_all_readable_files_sorted(folder):
    loader, _ = loader_of(folder)
    found = [(one.metadata["source"], one.metadata["page"], one.page_content)
             for one in loader.lazy_load()]  # fmt: skip
    assert found == [
        (str(folder / "A.JPG"), 0, "one"),
        (str(folder / "b.png"), 0, "two"),
        (str(folder / "sub/c.pdf"), 0, "three"),
        (str(folder / "sub/c.pdf"), 1, "one"),
    ]
    flat, _ = loader_of(str(folder), recursive=False)
    assert len(flat.load()) == 2


def test_globs_bytes_blobs_and_urls(folder):
    def answer(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(encode(coloured()[2]))

    glob = str(folder / "*.png")
    blob = Blob.from_data(encode(coloured()[0]), path="box/1.png", metadata={"box": 7})
    with http_server(answer) as url:
        port = int(url.rpartition(":")[2])
        loader, _ = loader_of(
            [glob, encode(coloured()[1]), blob, f"{url}/scan.png"],
            media_policy=MediaPolicy(loopback_ports=(port,)),
        )
        found = loader.load()
    assert [one.page_content for one in found] == ["two", "two", "one", "three"]
    assert [one.metadata["source"] for one in found] == [
        str(folder / "b.png"), None, "box/1.png", f"{url}/scan.png"
    ]  # fmt: skip
    assert found[2].metadata["box"] == 7


def test_metadata_of_a_page():
    data = scan_pdf(*coloured())
    llm, _ = scripted(lambda request: sure_reply("Text", 0.9))
    found = InternVLLoader(data, llm=llm, pages="2").load()[0]
    digest = hashlib.sha256(data).hexdigest()
    assert found.id == found.metadata["page_id"] == f"{digest}-1"
    assert found.metadata | {"model": ""} == {
        "source": None,
        "page": 1,
        "total_pages": 3,
        "page_label": "2",
        "page_id": f"{digest}-1",
        "width": 1572,
        "height": 1398,
        "text_layer": "has_text",
        "ocr": "model",
        "rotation": 0,
        "attempts": 1,
        "finish_reason": "stop",
        "token_probability": 0.9,
        "model": "",
    }


def test_a_good_text_layer_is_kept_and_said_so():
    loader, backend = loader_of(text_pdf(PROSE, ""), lambda request: "read")
    first, second = loader.load()
    assert (first.metadata["ocr"], first.page_content) == ("text_layer", PROSE.strip())
    assert second.metadata["ocr"] == "blank"
    assert backend.requests == []
    always, _ = loader_of(text_pdf(PROSE), lambda request: "read", ocr="always")
    assert [one.page_content for one in always.load()] == ["read"]
    never, backend = loader_of(scan_pdf(*coloured()), ocr="never")
    assert [one.page_content for one in never.load()] == ["", "", ""]
    assert backend.requests == []


def test_never_asks_for_no_image_either(folder):
    loader, backend = loader_of(folder, ocr="never")
    found = loader.load()
    assert [(one.page_content, one.metadata["ocr"]) for one in found] == [("", "text_layer")] * 4
    assert backend.requests == []


def test_pages_of_an_iterator_are_those_of_every_file(folder):
    data = scan_pdf(*coloured())
    loader, _ = loader_of([data, data], pages=(number for number in (2, 0)))
    assert [one.metadata["page"] for one in loader.load()] == [2, 0, 2, 0]
    assert len(loader.load()) == 4


@pytest.mark.parametrize("reply", [EngineBusyError("too many"), long_reply("on and " * 60)])
def test_where_the_model_fails_the_text_layer_is_the_fallback(reply):
    loader, _ = loader_of(text_pdf(PROSE), lambda request: reply, ocr="always")
    (document,) = loader.load()
    assert (document.metadata["ocr"], document.page_content) == ("fallback", PROSE.strip())
    assert document.metadata["error"] in {"too many", "the model repeated itself"}


def test_pages_of_different_files_are_in_flight_together(folder):
    together = threading.Barrier(4, timeout=PATIENCE)

    def reply(request):
        together.wait()
        return by_colour("one", "two", "three")(request)

    loader, _ = loader_of(folder, reply, concurrency=4)
    assert [one.page_content for one in loader.lazy_load()] == ["one", "two", "three", "one"]


def test_a_slow_page_holds_up_neither_the_others_nor_the_order():
    others = threading.Semaphore(0)

    def reply(request):
        if request.tiles[0][0, 9, 9].argmax() == 2:
            for _ in range(30):
                assert others.acquire(timeout=PATIENCE)
            return "slow"
        others.release()
        return "quick"

    pages = [coloured()[2], *[coloured()[0]] * 40]
    loader, _ = loader_of(scan_pdf(*pages), reply, concurrency=4)
    assert [one.page_content for one in loader.lazy_load()] == ["slow", *["quick"] * 40]


def test_stopping_early_reads_little():
    loader, backend = loader_of(scan_pdf(*coloured() * 10), concurrency=2)
    assert next(iter(loader.lazy_load())).page_content == "one"
    assert len(backend.requests) <= 5


def test_a_failed_page_raises_is_left_out_or_recorded(caplog):
    data = scan_pdf(*coloured())
    reply = by_colour("one", EngineBusyError("too many"), "three")
    loader, _ = loader_of(data, reply)
    documents = loader.lazy_load()
    assert next(documents).page_content == "one"
    with pytest.raises(EngineBusyError):
        next(documents)
    skipped, _ = loader_of(data, reply, on_error="skip")
    assert [one.page_content for one in skipped.load()] == ["one", "three"]
    assert "too many" in caplog.text
    recorded, _ = loader_of(data, reply, on_error="record")
    _, second, _ = recorded.load()
    assert (second.page_content, second.metadata["error"]) == ("", "too many")
    assert (second.metadata["page"], second.metadata["total_pages"]) == (1, 3)


def test_a_file_that_fails_takes_no_other_along(folder):
    (folder / "a0.png").write_bytes(b"nothing")
    sources = [folder / "none.png", folder / "*.gif", folder]
    with pytest.raises(MediaError, match="no such file"):
        loader_of(sources)[0].load()
    recorded, _ = loader_of(sources, on_error="record")
    documents = recorded.load()
    failed = [one.metadata["source"] for one in documents if "error" in one.metadata]
    assert failed == [str(folder / "none.png"), str(folder / "*.gif"), str(folder / "a0.png")]
    assert len(documents) == 7
    assert len(loader_of(sources, on_error="skip")[0].load()) == 4
    with pytest.raises(MediaError):
        loader_of(sources, on_error="record_pages")[0].load()


def test_an_empty_folder_and_unknown_sources_are_said(tmp_path):
    with pytest.raises(MediaError, match="has no images or PDFs"):
        loader_of(tmp_path)[0].load()
    with pytest.raises(MediaError, match="an object of type int is no source"):
        loader_of([7])[0].load()


def test_single_gives_a_document_for_each_file(folder):
    loader, _ = loader_of(folder, mode="single", page_delimiter="\n--\n")
    documents = loader.load()
    assert [one.page_content for one in documents] == ["one", "two", "three\n--\none"]
    last = documents[-1].metadata
    assert (last["source"], last["total_pages"]) == (str(folder / "sub/c.pdf"), 2)
    assert [page["page"] for page in last["pages"]] == [0, 1]
    assert "page" not in last


def test_a_file_that_fails_after_some_pages_is_no_whole_document(monkeypatch):
    def pages_of(*given):
        yield next(jobs_pages_of(*given))
        raise MediaError("a.pdf", "is damaged from here on")

    jobs_pages_of = jobs.pages_of
    monkeypatch.setattr(jobs, "pages_of", pages_of)
    source = [scan_pdf(*coloured()), scan_pdf(*coloured())]
    found = loader_of(source, mode="single", on_error="record")[0].load()
    assert [one.page_content for one in found] == ["one", "one"]
    assert all("damaged from here on" in one.metadata["error"] for one in found)
    pages = loader_of(source, on_error="record")[0].load()
    assert [one.page_content for one in pages] == ["one", "", "one", ""]


async def test_the_same_in_an_event_loop(folder):
    loader, _ = loader_of(folder)
    found = [one async for one in loader.alazy_load()]
    assert [one.page_content for one in found] == ["one", "two", "three", "one"]
    assert [one.metadata for one in found] == [one.metadata for one in loader.load()]
    failing, _ = loader_of(scan_pdf(*coloured()), by_colour("one", EngineBusyError("busy"), "x"))
    documents = failing.alazy_load()
    assert (await anext(documents)).page_content == "one"
    with pytest.raises(EngineBusyError):
        await anext(documents)


def test_the_question_and_the_form_of_the_text():
    page = encode(draw_page("x", ground="red"))
    loader, backend = loader_of(page, output="markdown")
    loader.load()
    own, also = loader_of(page, prompt="Read the stamp.")
    own.load()
    llm, _ = scripted([])
    assert "Markdown" in llm.get_text(backend.requests[0].prompt_ids)
    assert "Read the stamp." in llm.get_text(also.requests[0].prompt_ids)


def test_progress_counts_pages(folder, capsys):
    loader, _ = loader_of(folder, progress=True)
    loader.load()
    assert "4/4" in capsys.readouterr().err


@pytest.mark.parametrize(
    "settings",
    [{"mode": "pages"}, {"ocr": "maybe"}, {"output": "html"}, {"on_error": "ignore"},
     {"concurrency": 0}, {"dpi": 0}, {"long_side": 0}, {"rotation": "left"}, {"pages": "0"},
     {"max_tokens": 0}],
)  # fmt: skip
def test_settings_out_of_range_are_refused_at_once(settings):
    with pytest.raises(RequestError):
        loader_of(b"", **settings)


def test_probabilities_are_done_without_where_they_are_refused():
    def reply(request):
        if request.top_logprobs is not None:
            raise RequestError("logprobs are not enabled on this server")
        return "one"

    loader, backend = loader_of(scan_pdf(*coloured() * 2), reply, concurrency=1)
    assert {one.page_content for one in loader.load()} == {"one"}
    assert len(backend.requests) == 7


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "MPO"])
def test_further_images_of_a_file_are_said(tmp_path, form, caplog):
    """The page is the first frame; the metadata and the log have the number of all."""
    first, *others = coloured()
    path = tmp_path / "a.gif"
    path.write_bytes(encode(first, form, save_all=True, append_images=others))
    (page,) = loader_of(path)[0].load()
    assert (page.metadata["frames"], page.metadata["total_pages"]) == (3, 1)
    assert f"{path}: has 3 images (an animation, or several pictures)" in caplog.text
    (whole,) = loader_of(path, mode="single")[0].load()
    assert whole.metadata["pages"][0]["frames"] == 3
    (parsed,) = InternVLImageParser(scripted(NUMBERS)[0]).parse(Blob.from_path(path))
    assert parsed.metadata["frames"] == 3
    path.write_bytes(encode(first))
    assert "frames" not in loader_of(path)[0].load()[0].metadata


async def test_pages_are_no_part_of_the_stream_of_a_graph(folder):
    """A tool of an agent that read a page showed it as if it were the answer."""
    loader, _ = loader_of(folder / "b.png", ["Page one."])

    async def read(_state):
        return {"pages": [page.page_content async for page in loader.alazy_load()]}

    graph = StateGraph(dict)
    graph.add_node("read", read)
    graph.add_edge(START, "read")
    modes = ["messages", "values"]
    shown = [one async for one in graph.compile().astream({"x": 1}, stream_mode=modes)]
    assert shown == [("values", {"x": 1}), ("values", {"pages": ["Page one."]})]
