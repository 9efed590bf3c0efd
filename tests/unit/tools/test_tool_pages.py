"""PDFs in the hands of the tools: pages by name, and one page's failure left to itself."""

import io

import pikepdf
import pytest
from golden import checkpoint_folder
from langchain_core.load import dumpd
from PIL import Image
from pydantic import SecretStr, ValidationError

from langchain_internvl import ChatInternVL, InternVLToolkit, MediaPolicy
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.errors import MediaError
from langchain_internvl.tools import pages as module
from langchain_internvl.tools.pages import MOST_PAGES, Opening, open_images

COLOURS = ("red", "green", "blue")


def write_pdf(path, many):
    first, *others = [Image.new("RGB", (40, 30), COLOURS[n % 3]) for n in range(many)]
    file = io.BytesIO()
    first.save(file, "PDF", save_all=True, append_images=others)
    path.write_bytes(file.getvalue())


@pytest.fixture
def folder(tmp_path):
    write_pdf(tmp_path / "three.pdf", 3)
    write_pdf(tmp_path / "long.pdf", MOST_PAGES + 2)
    write_pdf(tmp_path / "one.pdf", 1)
    write_tiff(tmp_path / "three.tif", 3)
    write_tiff(tmp_path / "long.tif", MOST_PAGES + 2)
    write_tiff(tmp_path / "one.tif", 1)
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    return tmp_path


def write_tiff(path, many):
    first, *others = [Image.new("RGB", (40, 30), COLOURS[n % 3]) for n in range(many)]
    first.save(path, "TIFF", save_all=True, append_images=others)


def toolkit_of(folder, *replies, **settings):
    backend = ScriptedBackend(list(replies))
    llm = ChatInternVL(model=str(checkpoint_folder("qwen2")), backend=backend)
    toolkit = InternVLToolkit(llm=llm, media_policy=MediaPolicy(roots=[folder]), **settings)
    return {tool.name: tool for tool in toolkit.get_tools()}, backend


def call(tool, **arguments):
    return tool.invoke({"type": "tool_call", "id": "1", "name": tool.name, "args": arguments})


def test_read_text_reads_a_pdf_page_by_page(folder):
    tools, backend = toolkit_of(folder, "One", "", "Three")
    message = call(tools["read_text"], image="three.pdf")
    assert message.content == (
        "Page 1 of 3:\nOne\n\nPage 2 of 3:\n(There is no text.)\n\nPage 3 of 3:\nThree"
    )
    found = message.artifact
    assert (found.text, found.total_pages) == ("One\n\n\n\nThree", 3)
    assert [(one.number, one.text) for one in found.pages] == [(1, "One"), (2, ""), (3, "Three")]
    assert len(backend.requests) == 3
    assert all(len(request.tiles) == 1 for request in backend.requests)


async def test_pages_are_read_in_async_too(folder):
    tools, _ = toolkit_of(folder, "One", "Two", "Three")
    text = await tools["read_text"].ainvoke({"image": "three.pdf"})
    assert text.endswith("Page 3 of 3:\nThree")


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("three.pdf#page=2", [2]),
        ("three.pdf#page=2-3", [2, 3]),
        ("three.pdf#pages=3,1", [3, 1]),
        ("three.pdf#page=2-", [2, 3]),
        ("one.pdf", [1]),
        ("three.tif", [1, 2, 3]),
        ("three.tif#page=3,1", [3, 1]),
        ("one.tif", [None]),
        ("one.tif#page=1", [None]),
        ("a.png", [None]),
    ],
)
def test_pages_by_name(folder, name, numbers):
    images = open_images(name, Opening(MediaPolicy(roots=[folder])), None, None)
    found = list(images)
    assert [page.number for page in found] == numbers
    for page in found:
        colour = COLOURS[(page.number or 1) - 1]
        pixel = page.image.pixels.getpixel((5, 5))
        assert pixel.index(max(pixel)) == COLOURS.index(colour)


def test_a_page_of_its_own_reads_like_an_image(folder):
    tools, _ = toolkit_of(folder, "Two")
    message = call(tools["read_text"], image="three.pdf#page=2", region="0, 0, 500, 1000")
    assert message.content == "Two"
    assert message.artifact.pages[0].number == 2
    assert message.artifact.region.thousandths == (0, 0, 500, 1000)


def test_more_pages_than_are_read_are_said(folder):
    tools, backend = toolkit_of(folder, *["x"] * MOST_PAGES)
    message = call(tools["read_text"], image="long.pdf")
    assert len(backend.requests) == MOST_PAGES
    assert "It has 12 pages, of which the first 10 were looked at" in message.content
    assert "'long.pdf#page=11-12'" in message.content


def test_a_tiff_is_read_page_by_page(folder):
    tools, backend = toolkit_of(folder, "One", "Two", "Three", *["x"] * MOST_PAGES)
    message = call(tools["read_text"], image="three.tif", region="0, 0, 500, 1000")
    assert message.content.endswith("Page 3 of 3:\nThree")
    assert (message.artifact.total_pages, len(message.artifact.pages)) == (3, 3)
    assert message.artifact.region.thousandths == (0, 0, 500, 1000)
    said = call(tools["read_text"], image="long.tif").content
    assert "It has 12 pages, of which the first 10 were looked at" in said
    assert len(backend.requests) == 3 + MOST_PAGES
    alone = toolkit_of(folder, "x")[0]["read_text"]
    assert call(alone, image="one.tif").artifact.total_pages is None


def test_a_damaged_page_of_a_tiff_does_not_stop_the_others(folder):
    data = bytearray((folder / "three.tif").read_bytes())
    place = data.rindex(bytes((0, 0, 255)) * 100)  # pixels of the last page
    (folder / "cut.tif").write_bytes(data[:place])
    tools, _ = toolkit_of(folder, "One", "Two")
    said = call(tools["read_text"], image="cut.tif").content
    assert said.startswith("Page 1 of 3:\nOne\n\nPage 2 of 3:\nTwo\n\nPage 3 of 3:\n(This page")


def test_a_damaged_tiff_of_one_image_is_an_image(folder):
    """Without a number, which is counted from 0 in errors and from 1 by agents."""
    (folder / "cut.tif").write_bytes((folder / "one.tif").read_bytes()[:-500])
    said = call(toolkit_of(folder)[0]["read_text"], image="cut.tif").content
    assert "cut.tif: the image is truncated" in said


def test_how_many_pages_are_looked_at_can_be_set(folder):
    tools, _ = toolkit_of(folder, *["x"] * 14, "<ref>a</ref><box>[[1, 2, 300, 400]]</box>")
    read = tools["read_text"].model_copy(update={"most_pages": 2})
    assert "first 2 were looked at; for the next ones name 'long.tif#page=3-4'" in (
        call(read, image="long.tif").content
    )
    read = read.model_copy(update={"most_pages": None})
    assert len(call(read, image="long.pdf").artifact.pages) == MOST_PAGES + 2
    ground = tools["ground"].model_copy(update={"most_pages": 1})
    assert call(ground, image="three.pdf", phrase="a").artifact.page == 1


def test_a_toolkit_sets_how_many_pages_its_tools_look_at(folder):
    tools, _ = toolkit_of(folder, *["x"] * 5, most_pages=2)
    assert {tool.most_pages for tool in tools.values()} == {2}
    assert "first 2 were looked at" in call(tools["read_text"], image="three.pdf").content
    with pytest.raises(ValidationError, match="most_pages"):
        toolkit_of(folder, most_pages=0)


@pytest.mark.parametrize("tool", ["read_text", "describe_image", "ground"])
def test_the_agent_is_told_of_further_images_in_a_file(folder, tool):
    first, *others = [Image.new("RGB", (40, 30), one) for one in COLOURS]
    first.save(folder / "a.gif", save_all=True, append_images=others)
    tools, _ = toolkit_of(folder, "One", "One")
    phrase = {"phrase": "a"} if tool == "ground" else {}
    said = call(tools[tool], image="a.gif", **phrase).content
    assert "The file has 3 images, as an animation has, of which only the first" in said
    assert "The file has" not in call(tools[tool], image="a.png", **phrase).content


def test_describe_looks_at_all_pages_at_once(folder):
    tools, backend = toolkit_of(folder, "Three colours.")
    message = call(tools["describe_image"], image="three.pdf", question="What is it?")
    assert (message.content, message.artifact.num_pages) == ("Three colours.", 3)
    (request,) = backend.requests
    assert len(request.tiles) == 3


def test_ground_wants_one_page(folder):
    tools, backend = toolkit_of(folder, "<ref>a</ref><box>[[1, 2, 300, 400]]</box>")
    said = call(tools["ground"], image="three.pdf", phrase="a")
    assert (said.status, backend.requests) == ("error", [])
    assert "is a document of 3 pages; name one, as in 'three.pdf#page=1'" in said.content
    assert "several pages" in call(tools["ground"], image="three.pdf#page=1-2", phrase="a").content
    place = call(tools["ground"], image="three.pdf#page=3", phrase="a").artifact
    assert (place.page, len(place.boxes)) == (3, 1)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("three.pdf#page=9", "it has 3 pages"),
        ("three.pdf#page=0", "page"),
        ("three.tif#page=9", "it has 3 pages"),
        ("one.tif#page=2", "it has 1 page;"),
        ("a.png#page=1", "is no PDF, it is a PNG image; leave"),
        ("none.pdf#page=1", "no such file"),
    ],
)
def test_pages_that_are_not_there(folder, name, words):
    tools, _ = toolkit_of(folder)
    message = call(tools["read_text"], image=name)
    assert message.status == "error"
    assert words in message.content


def test_a_page_that_fails_does_not_stop_the_others(folder, monkeypatch):
    real = module.stream_pages

    def failing(*args, **kwargs):
        for page in real(*args, **kwargs):
            is_second = page.number == 1
            error = MediaError("three.pdf", "page 1: is damaged")
            yield type(page)(page.number, page.total, error if is_second else page.image)

    monkeypatch.setattr(module, "stream_pages", failing)
    tools, backend = toolkit_of(folder, "One", "Three", "All.")
    message = call(tools["read_text"], image="three.pdf")
    assert "Page 2 of 3:\n(This page cannot be shown: page 1: is damaged.)" in message.content
    assert message.artifact.pages[1].error == "three.pdf: page 1: is damaged"
    assert message.artifact.text == "One\n\n\n\nThree"
    said = call(tools["describe_image"], image="three.pdf").content
    assert said.startswith("All.\n(Page 2 cannot be shown")
    assert len(backend.requests) == 3
    assert call(tools["ground"], image="three.pdf#page=2", phrase="a").status == "error"


SECRET = "correct horse"


@pytest.mark.parametrize("name", ["describe_image", "read_text", "ground"])
def test_a_password_comes_from_the_program_and_is_seen_nowhere(folder, name):
    encryption = pikepdf.Encryption(owner="o", user=SECRET)
    with pikepdf.open(folder / "one.pdf") as file:
        file.save(folder / "locked.pdf", encryption=encryption)
    extra = {"phrase": "red"} if name == "ground" else {}
    tools, _ = toolkit_of(folder)
    refused = call(tools[name], image="locked.pdf", **extra)
    assert refused.status == "error"
    assert "it is encrypted: pass password=" in refused.content
    assert "pdf_password=... (tools)" in refused.content
    tools, _ = toolkit_of(folder, "x", pdf_password="wrong horse")
    refused = call(tools[name], image="locked.pdf", **extra)
    assert "the given password is wrong" in refused.content
    assert "wrong horse" not in refused.content
    tools, backend = toolkit_of(folder, "A red page.", pdf_password=SECRET)
    message = call(tools[name], image="locked.pdf", **extra)
    assert message.status == "success"
    assert len(backend.requests[0].tiles) == 1
    tool = tools[name]
    schema = str(tool.tool_call_schema.model_json_schema())
    seen = [repr(tool), schema, repr(message), str(dumpd(tool)), str(tool.model_dump())]
    seen.append(repr(backend.requests))
    assert not [one for one in seen if SECRET in one]


def test_a_toolkit_hides_its_password(folder):
    backend = ScriptedBackend(["x"])
    llm = ChatInternVL(model=str(checkpoint_folder("qwen2")), backend=backend)
    toolkit = InternVLToolkit(llm=llm, pdf_password=SecretStr(SECRET))
    assert SECRET not in repr(toolkit) + str(toolkit.model_dump())
    (secret,) = {tool.opening.password for tool in toolkit.get_tools()}
    assert secret == SECRET
