"""The model of lmms-eval, given requests as lmms-eval's evaluator gives them."""

from importlib.util import find_spec

import pytest
from golden import VIDEO

from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.messages.convert import to_turns

if find_spec("lmms_eval") is None:
    pytest.skip("lmms-eval is not installed", allow_module_level=True)

from lmms_eval.api.instance import Instance

from langchain_internvl.evaluation.lmms_eval_model import LmmsEvalModel


def request_of(*content):
    """A request of a task that has one case."""
    messages = [{"role": "user", "content": list(content)}]
    return Instance(
        request_type="generate_until",
        arguments=("", lambda _doc: messages, {}, 0, "task", "test"),
        idx=0,
        metadata={"task": "task", "doc_id": 0, "repeats": 1},
    )


@pytest.fixture
def model():
    made = LmmsEvalModel("nano", backend=ScriptedBackend(lambda _request: "B"))
    made.task_dict = {"task": {"test": [None]}}
    return made


@pytest.mark.parametrize(
    ("times", "bound"),
    [
        ({}, None),
        ({"start_time": None, "end_time": None}, None),
        ({"start_time": 0.5}, (0.5, float("inf"))),
        ({"start_time": 0.0, "end_time": 1.0}, (0.0, 1.0)),
    ],
)
def test_frames_are_those_of_the_part_that_a_task_names(model, times, bound):
    """lmms-eval's `ChatVideoContent` has both times."""
    given = request_of(
        {"type": "video", "url": str(VIDEO), **times}, {"type": "text", "text": "What?"}
    )
    assert [one.text for one in model.generate_until([given])] == ["B"]
    (turn,) = to_turns(model._messages(given))
    assert turn.parts[0].bound == bound
