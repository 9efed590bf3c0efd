"""Replies that are one of some choices, with the probabilities of all."""

import pytest
from golden import PHOTOS, checkpoint_folder
from langchain_core.messages import HumanMessage
from support import FixedBackend

from langchain_internvl import ChatInternVL, image_block
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.errors import BackendError, RequestError

QWEN2 = str(checkpoint_folder("qwen2"))
PICTURE = HumanMessage([image_block(PHOTOS / "coffee.png"), {"type": "text", "text": "What?"}])


@pytest.mark.parametrize("name", ["qwen2", "internlm2", "llama", "phi3"])
def test_the_likeliest_with_all_probabilities(models, name):
    choices = ["cat", "cat food", "Ein Käse", "<ref>cup</ref>"]
    llm = models(name, max_tiles=1).bind(choices=choices)
    reply = llm.invoke([PICTURE])
    odds = reply.response_metadata["choices"]
    assert list(odds) == choices
    assert sum(odds.values()) == pytest.approx(1)
    assert reply.content == max(odds, key=odds.get)
    assert reply.response_metadata["finish_reason"] == "stop"
    assert 2 <= reply.usage_metadata["output_tokens"] < 20
    # Chance and heat have no part in it.
    again = models(name, max_tiles=1, temperature=1.5).bind(choices=choices[::-1]).invoke([PICTURE])
    assert again.content == reply.content
    assert again.response_metadata["choices"] == pytest.approx(odds, abs=1e-4)


def test_it_is_one_request_that_streams_too():
    backend = ScriptedBackend(lambda request: "b")
    llm = ChatInternVL(model=QWEN2, backend=backend).bind(choices=["a", "b"])
    (chunk,) = llm.stream("?")
    assert chunk.content == "b"
    assert chunk.response_metadata["choices"] == {"a": 0, "b": 1}
    assert len(backend.requests) == 1
    (stop,) = backend.requests[0].stop_ids
    assert [one.text for one in backend.requests[0].choices] == ["a", "b"]
    assert all(one.ids[-1] == stop for one in backend.requests[0].choices)


NO_CHOICES = ["ab", ["a"], ["a", "a"], ["a", ""], ["a", " b"], ["a", 3], 3, [*map(str, range(300))]]


@pytest.mark.parametrize("choices", NO_CHOICES)
def test_what_is_no_choice(choices):
    with pytest.raises(RequestError, match="choice"):
        ChatInternVL(model=QWEN2, backend=FixedBackend()).invoke("?", choices=choices)


def test_choices_stand_alone():
    llm = ChatInternVL(model=QWEN2, backend=FixedBackend())
    with pytest.raises(RequestError, match="reasoning must be False"):
        llm.invoke("?", choices=["a", "b"], reasoning=True)
    with pytest.raises(RequestError, match="leave no room"):
        llm.invoke("?", choices=["a", "b"], response_format={"type": "json_object"})


def test_a_backend_that_cannot_weigh_says_so():
    with pytest.raises(BackendError, match="cannot weigh choices"):
        ChatInternVL(model=QWEN2, backend=FixedBackend()).invoke("?", choices=["a", "b"])


def test_a_script_that_says_something_else():
    llm = ChatInternVL(model=QWEN2, backend=ScriptedBackend(["c"]))
    with pytest.raises(BackendError, match="none of the choices"):
        llm.invoke("?", choices=["a", "b"])


@pytest.mark.parametrize("settings", [{"logprobs": True}, {"top_logprobs": 2}])
def test_log_probabilities_beside_choices_are_warned_of(settings):
    llm = ChatInternVL(model=QWEN2, backend=ScriptedBackend(["b"]))
    with pytest.warns(UserWarning, match="no effect with choices: logprobs"):
        reply = llm.invoke("?", choices=["a", "b"], **settings)
    assert reply.response_metadata["choices"] == {"a": 0, "b": 1}
