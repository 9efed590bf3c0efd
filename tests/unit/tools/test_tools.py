"""The four tools, over a model that says what the tests want."""

import asyncio
import math
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from golden import VIDEO, checkpoint_folder
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage
from PIL import Image, ImageDraw
from tiny_fonts import tiny_font

from langchain_internvl import ChatInternVL, InternVLToolkit, MediaPolicy, image_block, video_block
from langchain_internvl.backends.base import Delta
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.errors import EngineBusyError
from langchain_internvl.grounding import Box
from langchain_internvl.tools import pages
from langchain_internvl.tools.ground import boxes_of
from langchain_internvl.tools.images import ToolImage, open_image

SIZE = (120, 80)


@pytest.fixture
def folder(tmp_path):
    picture = Image.new("RGB", SIZE, "white")
    ImageDraw.Draw(picture).rectangle((60, 40, 119, 79), fill="red")  # the lower right quarter
    picture.save(tmp_path / "a.png")
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture.save(tmp_path / f"{orientation}.png", exif=exif)
    return tmp_path


class Script:
    """A model that gives replies and keeps what it was asked."""

    def __init__(self, *replies, **settings):
        self.backend = ScriptedBackend(list(replies))
        self.llm = ChatInternVL(
            model=str(checkpoint_folder("qwen2")), backend=self.backend, **settings
        )

    @property
    def prompt(self):
        return self.llm.get_text(self.backend.requests[-1].prompt_ids)

    @property
    def tiles(self):
        return self.backend.requests[-1].tiles


def tools_of(script, folder, **settings):
    toolkit = InternVLToolkit(llm=script.llm, media_policy=MediaPolicy(roots=[folder]), **settings)
    return {tool.name: tool for tool in toolkit.get_tools()}


def call(tool, **arguments):
    return tool.invoke({"type": "tool_call", "id": "1", "name": tool.name, "args": arguments})


def test_names_and_arguments_are_those_of_the_documentation(folder):
    tools = tools_of(Script(), folder)
    assert {name: list(tool.tool_call_schema.model_fields) for name, tool in tools.items()} == {
        "describe_image": ["image", "question", "region", "language"],
        "read_text": ["image", "region", "language"],
        "ground": ["image", "phrase", "region"],
        "ask_video": ["video", "question", "start", "end", "num_frames", "language"],
    }
    for tool in tools.values():
        fields = tool.tool_call_schema.model_json_schema()["properties"]
        assert all(field["description"] for field in fields.values())


def test_describe(folder):
    script = Script("A red corner.", "Red.", "Rot.")
    tool = tools_of(script, folder)["describe_image"]
    message = call(tool, image="a.png")
    assert message.content == "A red corner."
    assert (message.artifact.text, message.artifact.region) == ("A red corner.", None)
    assert "Please describe the image shortly." in script.prompt
    assert tool.invoke({"image": "a.png", "question": "What colour?"}) == "Red."
    assert "What colour?" in script.prompt
    tool.invoke({"image": "a.png", "question": "What colour?", "language": "German"})
    assert "What colour? Answer in German." in script.prompt


@pytest.mark.parametrize(
    "region",
    ["500, 500, 1000, 1000", "[[500, 500, 1000, 1000]]", "500 500", "60, 40, 1200, 800"],
)
def test_only_a_region_is_looked_at(region, folder):
    script = Script("Red.")
    tool = tools_of(script, folder, return_images=True)["describe_image"]
    message = call(tool, image="a.png", region=region)
    if region in {"500 500", "60, 40, 1200, 800"}:
        assert message.status == "error"
        assert "is no box; give left, top, right, bottom" in message.content
        return
    assert {tuple(pixel) for pixel in script.tiles[0].reshape(-1, 3).tolist()} == {(255, 0, 0)}
    assert message.artifact.region.pixels == (60, 40, 120, 80)
    text, picture = message.content
    assert text["text"] == "Red."
    assert picture["type"] == "image"


def test_a_region_whose_corners_are_swapped_is_said(folder):
    message = call(
        tools_of(Script("Red."), folder)["describe_image"],
        image="a.png",
        region="1000, 1000, 500, 500",
    )
    assert message.content == "Red.\n(Of the region the corners were swapped.)"
    assert message.artifact.region.repairs == ("corners were swapped",)
    assert message.artifact.region.pixels == (60, 40, 120, 80)


def test_a_region_of_nothing_still_shows_a_pixel(folder):
    script = Script("Red.")
    call(tools_of(script, folder)["describe_image"], image="a.png", region="999.9,999.9,1000,1000")
    assert script.tiles[0].size > 0


def test_answers_that_were_cut_off_say_so(folder):
    script = Script("one two three four", max_tokens=2)
    message = call(tools_of(script, folder)["describe_image"], image="a.png")
    assert message.content.endswith("(The answer was cut off here.)")
    assert message.artifact.is_complete is False


def test_reading(folder):
    script = Script("First\nSecond", "", "a b c d e")
    tool = tools_of(script, folder)["read_text"]
    message = call(tool, image="a.png")
    assert message.content == "First\nSecond"
    assert (message.artifact.lines, message.artifact.problem) == (["First", "Second"], None)
    assert call(tool, image="a.png").content == "(There is no text.)"
    script.llm = script.llm.model_copy(update={"max_tokens": 2})
    cut = call(tools_of(script, folder)["read_text"], image="a.png", language="Thai")
    assert (cut.artifact.problem, cut.artifact.is_complete) == ("length", False)
    assert "There is more text" in cut.content
    assert "The text is Thai." in script.prompt


def test_a_table_that_ends_in_equal_rows_is_kept_whole(folder):
    page = "| Item | Price |\n|---|---|" + "\n| Nail | 0.00 |" * 24
    script = Script(page)
    message = call(tools_of(script, folder)["read_text"], image="a.png")
    assert message.artifact.text == page
    assert message.artifact.lines.count("| Nail | 0.00 |") == 24
    assert (message.artifact.problem, message.artifact.is_complete) == ("repetition", True)
    assert message.content.startswith(page)
    assert "rows of a table" in message.content


def test_a_loop_is_cut_off_where_the_reply_reached_its_limit(folder):
    looped = "Name\n" + "No. 10\n" * 25
    script = Script([Delta(0, looped), Delta(1, "", "length")])
    message = call(tools_of(script, folder)["read_text"], image="a.png")
    assert message.artifact.text == "Name\nNo. 10"
    assert message.artifact.reply == looped.strip()
    assert (message.artifact.problem, message.artifact.is_complete) == ("repetition", False)
    assert "The rest was not read" in message.content


def test_grounding(folder):
    script = Script("<ref>corner</ref><box>[[500, 500, 1000, 1000]]</box>")
    message = call(
        tools_of(script, folder, return_images=True)["ground"], image="a.png", phrase="corner"
    )
    assert "describes: <ref>corner</ref>" in script.prompt
    (box,) = message.artifact.boxes
    assert (box.thousandths, box.pixels) == ((500, 500, 1000, 1000), (60, 40, 120, 80))
    text, picture = message.content
    assert text["text"].startswith("corner: region 500, 500, 1000, 1000; pixels 60, 40, 120, 80")
    assert picture["type"] == "image"


def test_labels_of_returned_images_take_the_given_font(folder):
    (folder / "han.ttf").write_bytes(tiny_font("猫"))
    script = Script("<ref>猫</ref><box>[[100, 400, 900, 900]]</box>")
    tools = tools_of(script, folder, return_images=True, font=str(folder / "han.ttf"))
    shown = call(tools["ground"], image="a.png", phrase="猫")
    assert [block["type"] for block in shown.content] == ["text", "image"]
    with pytest.raises(ValueError, match=r"none\.ttf' cannot be opened"):
        tools_of(script, folder, font=str(folder / "none.ttf"))


def test_confidence_is_the_mean_probability_of_the_digits():
    written = [("<ref>a</ref><box>[[", 1), ("1", 0.5), (", ", 0.1), ("2", 1), (", 3", 0.75)]
    written += [(", ", 1), ("4", 0.75), ("]]</box> [[5, 6, 7, ", 1), ("8]]", 0.5)]
    tokens = [{"token": text, "logprob": math.log(sure)} for text, sure in written]
    text = "".join(text for text, _ in written)
    picture = ToolImage(Image.new("RGB", (10, 10)), (10, 10))
    reply = AIMessage(text, response_metadata={"logprobs": {"content": tokens}})
    boxes, rejected = boxes_of(reply, picture)
    assert [box.confidence for box in boxes] == [pytest.approx(0.75), pytest.approx(0.75)]
    assert rejected == []
    # Of tokens that do not spell the reply nothing is known.
    (box, _), _ = boxes_of(reply.model_copy(update={"content": text + " end"}), picture)
    assert box.confidence is None
    (box, _), _ = boxes_of(AIMessage(text), picture)
    assert box.confidence is None


def test_confidence_survives_characters_that_span_tokens():
    llama = "🦙".encode()
    pieces = [b"<ref>", llama[:2], llama[2:], b"</ref><box>[[", b"10, 20, 30, 40", b"]]</box>"]
    tokens = [
        {"token": one.decode("utf-8", "replace"), "bytes": list(one), "logprob": math.log(0.5)}
        for one in pieces
    ]
    reply = AIMessage(
        b"".join(pieces).decode(), response_metadata={"logprobs": {"content": tokens}}
    )
    (box,), _ = boxes_of(reply, ToolImage(Image.new("RGB", (10, 10)), (10, 10)))
    assert (box.label, box.confidence) == ("🦙", pytest.approx(0.5))


def test_what_is_wrong_beside_a_box_is_said_too(folder):
    script = Script(
        "<ref>a</ref><box>[[1, 2, 3, 4]]</box> <ref>c</ref>", "[[1, 2, 3, 4]]" + " and" * 90
    )
    tool = tools_of(script, folder)["ground"]
    assert "Not a box: c: no box" in call(tool, image="a.png", phrase="a and c").content
    script.llm = script.llm.model_copy(update={"max_tokens": 60})
    cut = call(tools_of(script, folder)["ground"], image="a.png", phrase="a")
    assert cut.artifact.is_complete is False
    assert "cut off here; there may be more" in cut.content


def test_boxes_of_a_region_are_on_the_whole_picture(folder):
    script = Script("[[0, 0, 500, 500]]")
    message = call(
        tools_of(script, folder)["ground"],
        image="a.png",
        phrase="<ref>x</ref>",
        region="500, 0, 1000, 500",
    )
    assert message.artifact.boxes[0].pixels == (60, 0, 90, 20)
    assert "describes: <ref>ref x /ref</ref>" in script.prompt


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_on_the_picture_as_its_file_stores_it(orientation, folder):
    """The model sees it upright; the red corner of the file is found there wherever it went."""
    name = f"{orientation}.png"
    script = Script("nothing")
    call(tools_of(script, folder)["ground"], image=name, phrase="x")
    tile = script.tiles[0][-1]  # the thumbnail
    rows, columns = (tile[:, :, 1] < 100).nonzero()
    corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    seen = [round(int(value) * 1000 / 448) for value in corners]
    script = Script(f"<box>[{seen}]</box>")
    tool = tools_of(script, folder)["ground"]
    (box,) = call(tool, image=name, phrase="x").artifact.boxes
    assert box.size == SIZE
    assert box.iou(Box(x1=500, y1=500, x2=1000, y2=1000)) > 0.97
    # And a region is understood as boxes are given.
    script = Script("Red.")
    call(tools_of(script, folder)["describe_image"], image=name, region="520, 520, 1000, 1000")
    assert script.tiles[0][..., 1].max() == 0


def test_what_is_not_found_is_said_with_its_reason(folder):
    script = Script("<ref>cat</ref><box>[[x1, y1, x2, y2]]</box>")
    message = call(tools_of(script, folder)["ground"], image="a.png", phrase="cat")
    assert message.artifact.boxes == []
    assert "'cat' was not found" in message.content
    assert "the template, not a box" in message.content


def test_video(folder):
    (folder / "v.mp4").write_bytes(VIDEO.read_bytes())
    script = Script("A panda eats.", "It sits.")
    tool = tools_of(script, folder)["ask_video"]
    message = call(tool, video="v.mp4", num_frames=3)
    assert message.content.startswith("A panda eats.\n(Frames at ")
    assert len(message.artifact.timestamps) == 3
    assert message.artifact.timestamps == sorted(message.artifact.timestamps)
    assert "Frame3: " in script.prompt
    assert "Describe this video in detail." in script.prompt
    duration = message.artifact.duration
    late = call(tool, video="v.mp4", question="What is it doing?", start=duration / 2)
    assert min(late.artifact.timestamps) >= math.floor(duration / 2)
    wrong = call(tool, video="v.mp4", start=5, end=1)
    assert wrong.status == "error"
    assert "swap them" in wrong.content


def test_a_video_of_the_conversation_is_watched_as_its_block_says(folder):
    script = Script("One.", "Two.", "Three.")
    tool = tools_of(script, folder)["ask_video"]
    block = video_block(VIDEO, num_frames=3, bound=(0, 1))
    runtime = SimpleNamespace(state={"messages": [HumanMessage([block])]})

    def watch(**arguments):
        args = {"video": "video:1", "runtime": runtime, **arguments}
        return tool.invoke({"type": "tool_call", "id": "1", "name": tool.name, "args": args})

    artifact = watch().artifact
    assert artifact.num_frames == 3
    assert max(artifact.timestamps) <= 1
    assert watch(num_frames=5).artifact.num_frames == 5
    assert min(watch(start=0.5).artifact.timestamps) >= 0.5


def test_frames_of_a_conversation_are_held_to_the_limits():
    block = video_block([Image.new("RGB", (20, 20))] * 6)
    runtime = SimpleNamespace(state={"messages": [HumanMessage([block])]})
    for limits, said in (
        ({"max_frames": 4}, "6 frames are over MediaPolicy.max_frames=4"),
        ({"max_total_pixels": 1000}, "frames are over MediaPolicy.max_total_pixels=1000"),
    ):
        toolkit = InternVLToolkit(llm=Script().llm, media_policy=MediaPolicy(**limits))
        message = toolkit.get_tools()[3].invoke(
            {"type": "tool_call", "id": "1", "name": "ask_video",
             "args": {"video": "last", "runtime": runtime}}
        )  # fmt: skip
        assert said in message.content


def test_pictures_that_are_large_as_png_are_seen(tmp_path):
    """What is read is limited; what is decoded is not encoded again to be measured."""
    noise = np.random.default_rng(1).integers(0, 256, (300, 300, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.jpg", quality=30)
    limit = (tmp_path / "noise.jpg").stat().st_size + 1
    script = Script("Noise.", media_policy=MediaPolicy(max_bytes=limit))
    policy = MediaPolicy(roots=[tmp_path], max_bytes=limit)
    tool = InternVLToolkit(llm=script.llm, media_policy=policy).get_tools()[0]
    assert tool.invoke({"image": "noise.jpg"}) == "Noise."


def test_errors_are_told_to_the_agent_and_do_not_end_it(folder):
    def busy(request):
        raise EngineBusyError("too many requests")

    script = Script()
    script.backend = ScriptedBackend(busy)
    script.llm = script.llm.model_copy(update={"backend": script.backend})
    tools = tools_of(script, folder)
    message = call(tools["describe_image"], image="a.png")
    assert (message.status, message.content) == ("error", "too many requests. Try again later.")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for name, arguments in (
        ("read_text", {"image": "none.png"}),
        ("read_text", {"image": "broken.png"}),
        ("ask_video", {"video": "a.png"}),
        ("ground", {"image": "a.png"}),
        ("ground", {"image": 5, "phrase": "x"}),
    ):
        message = call(tools[name], **arguments)
        assert message.status == "error", name
        assert "Traceback" not in message.content
    assert "phrase: field required" in call(tools["ground"], image="a.png").content


async def test_async_is_native(folder, monkeypatch):
    """No thread waits for the model, and the event loop reads no files."""
    here = threading.get_ident()
    readers = []
    script = Script("One.", "Two.")
    tool = tools_of(script, folder)["describe_image"]

    def look(*args):
        readers.append(threading.get_ident())
        return open_image(*args)

    monkeypatch.setattr(pages, "open_image", look)
    said = await asyncio.gather(*(tool.ainvoke({"image": "a.png"}) for _ in range(2)))
    assert sorted(said) == ["One.", "Two."]
    assert len(readers) == 2
    assert here not in readers


def test_the_model_runs_under_the_tool(folder):
    class Recorder(BaseCallbackHandler):
        def __init__(self):
            self.tools, self.parents, self.tags = [], [], []

        def on_tool_start(self, serialized, input_str, *, run_id, **_):
            self.tools.append(run_id)

        def on_chat_model_start(self, serialized, messages, *, parent_run_id=None, tags=None, **_):
            self.parents.append(parent_run_id)
            self.tags += tags

    script = Script("One.")
    recorder = Recorder()
    tools_of(script, folder)["describe_image"].invoke(
        {"image": "a.png"}, config={"callbacks": [recorder], "tags": ["mine"]}
    )
    assert recorder.tools == recorder.parents != []
    assert {"mine", "nostream", "internvl_tool"} <= set(recorder.tags)


def test_runtime_comes_from_the_agent_and_not_from_the_model(folder):
    script = Script("One.")
    tool = tools_of(script, folder)["describe_image"]
    assert "runtime" not in tool.tool_call_schema.model_json_schema()["properties"]
    picture = image_block(folder / "a.png")
    runtime = type("Runtime", (), {"state": {"messages": [HumanMessage([picture])]}})()
    assert tool.invoke({"image": "image:1", "runtime": runtime}) == "One."
