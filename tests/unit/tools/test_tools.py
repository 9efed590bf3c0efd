"""The four tools, over a model that says what the tests want."""

import asyncio
import math
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from golden import VIDEO
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import HumanMessage
from PIL import Image
from pydantic import ValidationError
from vision_tool_support import Script, call, tools_of

from langchain_internvl import InternVLToolkit, MediaPolicy, ReadTextTool, image_block, video_block
from langchain_internvl.backends.base import NO_TOKEN, Delta
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.errors import EngineBusyError
from langchain_internvl.tools import pages
from langchain_internvl.tools.images import open_image


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
    [
        "500, 500, 1000, 1000", "[[500, 500, 1000, 1000]]", [500, 500, 1000, 1000],
        [[500, 500, 1000, 1000]], "500 500", [500, 500], "60, 40, 1200, 800",
        (500, 500, 1000, 1000), ["500", "500", "1000", "1000"], '["500", "500", "1000", "1000"]',
        [[500, 500], [1000, 1000]], [{"x": 500, "y": 500}, {"x": 1000, "y": 1000}],
        {"x1": 500, "y1": 500, "x2": 1000, "y2": 1000},
        {"left": "500", "top": "500", "right": "1000", "bottom": "1000"},
        {"x": 500, "y": 500, "width": 500, "height": 500}, {"bbox_2d": [500, 500, 1000, 1000]},
        {"region": {"xmin": 500, "ymin": 500, "xmax": 1000, "ymax": 1000}},
        [{"x1": 500, "y1": 500, "x2": 1000, "y2": 1000}],
        [], {}, 7, True, ["a", "b", "c", "d"], {"left": 500, "top": 500},
        [[0, 0, 9, 9], [1, 1, 8, 8]],
    ],
)  # fmt: skip
def test_only_a_region_is_looked_at(region, folder):
    script = Script("Red.")
    tool = tools_of(script, folder, return_images=True)["describe_image"]
    message = call(tool, image="a.png", region=region)
    if "1000" not in str(region) and "width" not in str(region):
        assert message.status == "error"
        assert "is no box; give left, top, right, bottom" in message.content
        return
    assert {tuple(pixel) for pixel in script.tiles[0].reshape(-1, 3).tolist()} == {(255, 0, 0)}
    assert message.artifact.region.pixels == (60, 40, 120, 80)
    text, picture = message.content
    sizes = "\n(The region: read as left, top, width and height.)" if "width" in region else ""
    assert text["text"] == "Red." + sizes
    assert picture["type"] == "image"


def test_a_region_whose_corners_are_swapped_is_said(folder):
    message = call(
        tools_of(Script("Red."), folder)["describe_image"],
        image="a.png",
        region="1000, 1000, 500, 500",
    )
    assert message.content == "Red.\n(The region: corners were swapped.)"
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


LOOPED = "Name\n" + "No. 10\n" * 25


@pytest.mark.parametrize(
    ("reason", "reply", "text", "note"),
    [
        ("length", "Name", "Name", "There is more text: reading stopped at the limit of length"),
        ("content_filter", "Name", "Name", "content filter"),
        ("content_filter", LOOPED, LOOPED.strip(), "content filter"),
        ("content_filter", "", "", "content filter"),
        ("repetition", "Name No. No.", "Name No. No.", "began to repeat itself"),
        ("repetition", LOOPED, "Name\nNo. 10", "began to repeat itself"),
    ],
)
def test_every_cause_of_an_incomplete_text_is_said(folder, reason, reply, text, note):
    script = Script([Delta(NO_TOKEN, reply), Delta(NO_TOKEN, "", reason)])
    message = call(tools_of(script, folder)["read_text"], image="a.png")
    assert (message.artifact.text, message.artifact.problem) == (text, reason)
    assert message.artifact.is_complete is False
    assert note in message.content
    assert ("limit of length" in message.content) == (reason == "length")


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


def test_how_many_frames_are_looked_at_is_the_setting_of_the_model(folder):
    (folder / "v.mp4").write_bytes(VIDEO.read_bytes())
    tool = tools_of(Script("One.", "Two.", "Three."), folder)["ask_video"]
    assert call(tool, video="v.mp4").artifact.num_frames == 8
    tool.llm = tool.llm.model_copy(update={"num_frames": 3})
    assert call(tool, video="v.mp4").artifact.num_frames == 3
    assert call(tool, video="v.mp4", num_frames=5).artifact.num_frames == 5


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


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [InternVLToolkit, ReadTextTool])
def test_errors_of_wrong_arguments_do_not_show_the_password(kind):
    for given in ({}, {"llm": 3}, {"llm": None, "return_images": "geheim"}, {"font_": "geheim"}):
        with pytest.raises(ValidationError) as caught:
            kind(**{"pdf_password": "geheim", **given})
        assert "geheim" not in str(caught.value)
    with pytest.raises(ValidationError) as caught:
        kind(pdf_password=["geheim"], llm=None)
    assert "geheim" not in str(caught.value)
