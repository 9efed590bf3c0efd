"""The VLMEvalKit adapter; `tests/integration/test_vlmevalkit_runner.py` drives it by VLMEvalKit."""

import sys
from types import SimpleNamespace

import pytest
from golden import PHOTOS, VIDEO

from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.evaluation.vlmevalkit import VLMEvalKitModel

CAT, CUP = str(PHOTOS / "chelsea.png"), str(PHOTOS / "coffee.png")


@pytest.fixture
def asked():
    """A model, and the requests that its backend got."""
    requests = []

    def answer(request):
        requests.append(request)
        return " B \n"

    made = VLMEvalKitModel("nano", backend=ScriptedBackend(answer))
    return made, requests


def prompt(model, message, dataset=None):
    texts = []
    made = model._llm.model_copy(update={})
    original = VLMEvalKitModel._reply

    def keep(self, messages):
        texts.append(made.render(messages))
        return original(self, messages)

    model._reply = keep.__get__(model)
    model.generate(message, dataset)
    user = texts[0].rpartition("user\n")[2]
    return user.partition("<|im_end|>")[0]


IMAGE = "<image>\n"


def text(value):
    return {"type": "text", "value": value}


def image(value):
    return {"type": "image", "value": value}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("cat.png", "cat.png"),  # a text, even if it has the name of a file
        (text("Who?"), "Who?"),
        (["Who", "are you?"], "Whoare you?"),
        (["a" * 400 + " cat.png"], "a" * 400 + " cat.png"),  # too long for a name of a file
        ([CAT, "Who?"], f"{IMAGE}Who?"),
        (["Who?", CAT], f"{IMAGE}Who?"),
        ([image(CAT), text("Who?"), text("A. cat")], f"{IMAGE}Who?\nA. cat"),
        ([image(CAT), image(CUP), text("Which?")], f"Image-1: {IMAGE}Image-2: {IMAGE}Which?"),
        (
            [text("This "), image(CAT), text(" or "), image(CUP), text("?")],
            f"Image-1: {IMAGE}Image-2: {IMAGE}This <Image-1> or <Image-2>?",
        ),
    ],
)
def test_messages_are_arranged_as_internvl_chat_arranges_them(asked, message, expected):
    assert prompt(asked[0], message) == expected


@pytest.fixture
def running(monkeypatch):
    """VLMEvalKit's own knowledge of data sets, as far as the adapter asks for it."""
    videos = {"Video-MME_8frame", "MLVU_8frame", "MVBench_8frame"}
    module = SimpleNamespace(
        DATASET_MODALITY=lambda name: "VIDEO" if name in videos else "IMAGE",
        DATASET_TYPE=lambda name: "GUI" if name == "ScreenSpot" else "VQA",
    )
    monkeypatch.setitem(sys.modules, "vlmeval.dataset", module)


@pytest.mark.parametrize(
    ("dataset", "question", "ending"),
    [
        ("MLVU_8frame", "What?", "What?"),
        (
            "Video-MME_8frame", "What?\nAnswer:",
            "What?\nAnswer with the option's letter from the given choices directly.",
        ),
        ("MVBench_8frame", "What?Best option:(", "What?"),
    ],
)  # fmt: skip
def test_frames_of_videos(asked, running, dataset, question, ending):
    message = [image(CAT), image(CUP), text(question)]
    told = prompt(asked[0], message, dataset)
    assert told == f"Frame-1: {IMAGE}Frame-2: {IMAGE}{ending}"
    assert tiles(asked[1]) == [1, 1]


def tiles(requests):
    """The number of tiles of each image of the last request, with thumbnails."""
    return [len(one.cut()) for one in requests[-1].images]


@pytest.mark.parametrize(
    ("dataset", "most"), [("DocVQA_VAL", 18), ("ScreenSpot", 12), ("other", 6), (None, 6)]
)
def test_tiles(asked, running, dataset, most):
    model, requests = asked
    model.generate([image(CAT), text("What?")], dataset)
    assert 1 < tiles(requests)[0] <= most + 1


def test_videos_of_a_message(asked):
    model, requests = asked
    assert model.generate([{"type": "video", "value": str(VIDEO)}, text("What?")]) == "B"
    assert tiles(requests) == [1] * 8


def test_conversations(asked):
    model, requests = asked
    turns = [
        {"role": "user", "content": [image(CAT), text("Who?")]},
        {"role": "assistant", "content": "Chelsea."},
        {"role": "user", "content": [image(CUP), text("And this?")]},
    ]
    assert model.chat(turns, dataset="MMDU") == "B"
    assert hasattr(model, "chat_inner")  # VLMEvalKit asks so
    assert len(requests[-1].images) == 2


@pytest.mark.parametrize("message", [{"type": "audio", "value": "x"}, image("missing.png")])
def test_a_failure_is_what_vlmevalkit_skips(asked, message):
    with pytest.raises(RuntimeError, match=r"Error: "):
        asked[0].generate([message])
    assert asked[0].generate("Who?") == "B"
