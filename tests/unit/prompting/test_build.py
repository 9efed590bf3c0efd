"""Where images stand, what they are called, and how turns are framed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_internvl.errors import PromptError, UnsupportedMediaError
from langchain_internvl.media.sources import BytesSource
from langchain_internvl.messages.conversation import (
    Document,
    Image,
    LostMedia,
    Text,
    ToolCall,
    Turn,
    Video,
)
from langchain_internvl.prompting.build import PromptOptions, build_prompt
from langchain_internvl.prompting.segments import Markup, Slot, Words
from langchain_internvl.prompting.templates import TEMPLATES, get_template
from langchain_internvl.prompting.tool_formats import HERMES, INTERNLM2, get_tool_format

HF = get_template("internvl-hf")
SOURCE = BytesSource(b"", "test")
IMAGE = Image(SOURCE)


def said(*parts, role="user"):
    return Turn(role, tuple(Text(part) if isinstance(part, str) else part for part in parts))


def render(*turns, template=HF, tools=HERMES, **options):
    options.setdefault("default_system", None)
    return build_prompt(turns, template, PromptOptions(**options), tools).to_text()


def user(text):
    return f"<|im_start|>user\n{text}<|im_end|>\n"


def ai(text):
    return f"<|im_start|>assistant\n{text}<|im_end|>\n"


REPLY = "<|im_start|>assistant\n"


def test_text_before_an_image_is_moved_behind_it():
    assert render(said("What?", IMAGE)) == user("<image>\nWhat?") + REPLY
    assert render(said("Wh", "at?", IMAGE)) == user("<image>\nWhat?") + REPLY


def test_text_between_or_after_images_stays():
    assert render(said(IMAGE, "What?")) == user("<image>\nWhat?") + REPLY
    assert render(said("A", IMAGE, "B")) == user("A<image>\nB") + REPLY
    mixed = said("A", IMAGE, "B", IMAGE)
    assert render(mixed) == user("AImage-1: <image>\nBImage-2: <image>\n") + REPLY


def test_as_given_never_moves():
    assert render(said("What?", IMAGE), image_order="as_given") == user("What?<image>\n") + REPLY


def test_images_are_numbered_through_the_conversation():
    assert render(said(IMAGE, IMAGE, "a"), said("b", role="assistant"), said(IMAGE, "c")) == (
        user("Image-1: <image>\nImage-2: <image>\na")
        + ai("b")
        + user("Image-3: <image>\nc")
        + REPLY
    )


def test_the_first_image_has_no_number_even_when_more_follow():
    first = render(said(IMAGE, "a")).removesuffix(REPLY)
    both = render(said(IMAGE, "a"), said("b", role="assistant"), said(IMAGE, "c"))
    assert first == user("<image>\na")
    assert both.startswith(first)
    assert "Image-2: <image>\nc" in both


def test_numbers_can_be_left_out():
    assert render(said(IMAGE, IMAGE, "a"), number_images=False) == (
        user("<image>\n<image>\na") + REPLY
    )


def test_joined_images_share_a_slot_and_a_number():
    prompt = build_prompt(
        [said(IMAGE, IMAGE, "a"), said(IMAGE, "b")],
        HF,
        PromptOptions(join_images=True, default_system=None),
    )
    assert prompt.to_text() == user("<image>\na") + user("Image-2: <image>\nb") + REPLY
    slots = [segment.images for segment in prompt.segments if isinstance(segment, Slot)]
    assert slots == [(0, 1), (2,)]
    assert prompt.to_text([1, 2, 3]).count("<IMG_CONTEXT>") == 6


def test_joined_images_stand_where_the_first_one_does():
    turn = said("A", IMAGE, "B", IMAGE, "C")
    assert render(turn, join_images=True) == user("A<image>\nBC") + REPLY


@pytest.mark.parametrize("whole", [LostMedia("Lost."), Text("Lost.", stands_alone=True)])
def test_a_whole_text_between_joined_images_is_on_lines_of_its_own(whole):
    """The second image writes nothing, so that the texts beside it would share a line."""
    video = Video((IMAGE,))
    for turn, expected in (
        (said(IMAGE, whole, IMAGE, "C"), "<image>\nLost.\nC"),
        (said(IMAGE, "B", IMAGE, whole, IMAGE, "C"), "<image>\nB\nLost.\nC"),
        (said(IMAGE, whole, IMAGE, "\nC"), "<image>\nLost.\nC"),
        (said(IMAGE, whole, IMAGE, video, "C"), "<image>\nLost.\nFrame1: <image>\nC"),
    ):
        assert render(turn, join_images=True) == user(expected) + REPLY


def test_frames_have_names_and_no_numbers():
    video = Video((IMAGE, IMAGE))
    assert render(said(video, "a"), said("b", role="assistant"), said(IMAGE, video, "c")) == (
        user("Frame1: <image>\nFrame2: <image>\na")
        + ai("b")
        + user("<image>\nFrame1: <image>\nFrame2: <image>\nc")
        + REPLY
    )


def test_frames_get_few_tiles_unless_told_otherwise():
    frames = (IMAGE, Image(SOURCE, max_tiles=5), Image(SOURCE, min_tiles=2, max_tiles=3))

    def limits(video, **options):
        prompt = build_prompt([said(video)], HF, PromptOptions(**options))
        return [(image.min_tiles, image.max_tiles) for image in prompt.images]

    assert limits(Video(frames)) == [(1, 1), (1, 5), (2, 3)]
    assert limits(Video(frames), max_tiles_per_frame=4) == [(1, 4), (1, 5), (2, 3)]
    assert limits(Video(frames, max_tiles=2)) == [(1, 2), (1, 5), (2, 3)]
    assert limits(Video((Image(SOURCE, min_tiles=3),))) == [(3, 3)]


def test_files_that_must_be_read_first_are_refused_for_now():
    with pytest.raises(UnsupportedMediaError, match="frames must be taken"):
        render(said(Video(source=SOURCE)))
    with pytest.raises(UnsupportedMediaError, match="pages must be taken"):
        render(said(Document(SOURCE)))


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name != "internvl-hf"])
def test_system_text(name):
    template = TEMPLATES[name]
    own = render(said("a"), template=template, default_system="template")
    assert template.default_system in own
    assert render(said("a"), template=template, default_system="other").startswith(
        template.system.open + "other" + template.system.close
    )
    assert render(said("a"), template=template) == own.replace(
        template.system.open + template.default_system + template.system.close, "", 1
    )
    spoken = render(said("mine", role="system"), said("a"), template=template)
    assert (
        spoken == own.replace(template.default_system, "mine", 1)
        if template.default_system
        else (spoken.startswith("mine "))
    )
    empty = render(Turn("system"), said("a"), template=template, default_system="template")
    assert empty.startswith(template.system.empty)


def test_hf_template_has_no_system_text_of_its_own():
    assert render(said("a"), default_system="template") == user("a") + REPLY


def test_system_turn_in_the_middle():
    assert render(said("a"), said("b", role="system"), said("c")) == (
        user("a") + "<|im_start|>system\nb<|im_end|>\n" + user("c") + REPLY
    )
    with_default = render(said("a"), said("b", role="system"), default_system="D")
    assert with_default.startswith("<|im_start|>system\nD<|im_end|>\n" + user("a"))
    with pytest.raises(PromptError, match="internvl_zh"):
        render(said("a"), said("b", role="system"), template=TEMPLATES["internvl_zh"])


def test_consecutive_turns_of_one_role_stay_apart():
    assert render(said("a"), said("b")) == user("a") + user("b") + REPLY


def test_an_ai_turn_with_calls_and_no_words_is_closed():
    calls = (ToolCall("look", '{"at": "sky"}'), ToolCall("wait", ""))
    turn = Turn("assistant", (), calls)
    hermes = (
        '<tool_call>\n{"name": "look", "arguments": {"at": "sky"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "wait", "arguments": {}}\n</tool_call>'
    )
    assert render(said("a"), turn) == user("a") + ai(hermes) + REPLY
    spoken = Turn("assistant", (Text("Wait."),), calls)
    assert ai("Wait.\n" + hermes) in render(said("a"), spoken)
    internlm2 = (
        '<|action_start|><|plugin|>\n{"name": "look", "parameters": {"at": "sky"}}<|action_end|>'
        '<|action_start|><|plugin|>\n{"name": "wait", "parameters": {}}<|action_end|>'
    )
    assert ai("Wait." + internlm2) in render(said("a"), spoken, tools=INTERNLM2)


def test_results_of_tools():
    turns = [said("a"), said("1", role="tool"), said(IMAGE, role="tool"), said("b")]
    assert render(*turns) == (
        user("a")
        + user("<tool_response>\n1\n</tool_response>\n<tool_response>\n<image>\n\n</tool_response>")
        + user("b")
        + REPLY
    )
    head = "<|im_start|>environment name=<|plugin|>\n"
    assert render(*turns, tools=INTERNLM2) == (
        user("a") + f"{head}1<|im_end|>\n{head}<image>\n<|im_end|>\n" + user("b") + REPLY
    )


def test_tool_format_follows_the_language_model():
    assert get_tool_format("internlm2") is INTERNLM2
    assert all(get_tool_format(name) is HERMES for name in ("qwen2", "qwen3", "llama", "phi3"))


@given(st.text())
def test_words_stay_words(text):
    prompt = build_prompt([said(text)] if text else [Turn("user")], HF)
    trusted = [segment.text for segment in prompt.segments if isinstance(segment, Markup)]
    words = [segment.text for segment in prompt.segments if isinstance(segment, Words)]
    assert words == ([text] if text else [])
    assert "".join(trusted) == user("") + REPLY


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\ud83d\ude00b", "a\U0001f600b"),
        ("a\ud83d", "a\ufffd"),
        ("\ude00b", "\ufffdb"),
        ("\ufeff", "\ufeff"),
    ],
)
def test_halves_of_characters_are_replaced(text, expected):
    assert render(said(text)) == user(expected) + REPLY


def test_unknown_template():
    with pytest.raises(PromptError, match="internvl2_5"):
        get_template("vicuna")
