"""The tool that grounds: boxes, their confidence, labels and places on the whole picture."""

import math

import pytest
from langchain_core.messages import AIMessage
from PIL import Image
from tiny_fonts import tiny_font
from vision_tool_support import SIZE, Script, call, tools_of

from langchain_internvl.grounding import Box
from langchain_internvl.tools.ground import boxes_of
from langchain_internvl.tools.images import ToolImage


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


@pytest.mark.parametrize("phrase", ["", "  ", "\u3000\n", "<>"])
def test_nothing_is_not_looked_for(folder, phrase):
    """Models invent a box for it. Of the last one, no more is left without its markup."""
    script = Script("<ref></ref><box>[[500, 500, 1000, 1000]]</box>")
    message = call(tools_of(script, folder)["ground"], image="a.png", phrase=phrase)
    assert (message.status, script.backend.requests) == ("error", [])
    assert "phrase: " in message.text


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
