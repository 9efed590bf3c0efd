"""Settings and configs of a bound model, and what is bound to it in addition."""

import pickle

import pytest
from chat_support import MODEL
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.load import dumpd
from langchain_core.messages import HumanMessage
from langchain_core.runnables import ConfigurableField, RunnableBinding
from langchain_core.runnables.configurable import DynamicRunnable

from langchain_internvl import ChatInternVL
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.errors import BackendError, RequestError

SIZE = {"title": "size", "type": "object", "properties": {"n": {"type": "integer"}}}
COLOUR = {"title": "colour", "type": "object", "properties": {"name": {"type": "string"}}}


@pytest.fixture(params=["model", "configurable"])
def llm(request, backend):
    model = ChatInternVL(model=MODEL, backend=backend)
    if request.param == "model":
        return model
    return model.configurable_fields(top_k=ConfigurableField("k"))


def test_tools_and_schemas_keep_bound_settings(llm, backend):
    bound = llm.bind(temperature=0.5).bind(max_tokens=7)
    bound.bind_tools([SIZE], tool_choice="none").invoke("x", {"configurable": {"k": 3}})
    bound.with_structured_output(SIZE, include_raw=True).invoke("x")
    bound.with_structured_output(SIZE, include_raw=True, max_tokens=9).invoke("x")
    create_agent(llm.bind(temperature=0.5, max_tokens=7), [SIZE]).invoke({"messages": ["x"]})
    kept = [(one.sampling.temperature, one.max_tokens) for one in backend.requests]
    assert kept == [(0.5, 7), (0.5, 7), (0.5, 9), (0.5, 7)]
    assert backend.requests[0].sampling.top_k == (3 if isinstance(llm, DynamicRunnable) else 0)
    with pytest.raises(RequestError, match="max_tokens"):
        llm.bind(max_tokens=0).bind_tools([SIZE])


def test_tools_and_schemas_keep_a_bound_config(llm, backend):
    class Starts(BaseCallbackHandler):
        def __init__(self):
            self.tags = []

        def on_chat_model_start(self, serialized, messages, *, tags=None, **kwargs):
            self.tags.append(tags)

    starts = Starts()
    configured = llm.with_config(callbacks=[starts], tags=["a"])
    configured.bind_tools([SIZE], tool_choice="none").invoke("x", {"tags": ["b"]})
    configured.with_structured_output(SIZE, include_raw=True).invoke("x")
    first, second = map(set, starts.tags)
    assert {"a", "b"} <= first
    assert "a" in second


def test_newly_bound_tools_replace_earlier_ones(llm, backend):
    called = llm.bind_tools([SIZE], tool_choice="size", temperature=0.5)
    called.bind_tools([COLOUR]).invoke("x")
    called.with_structured_output(COLOUR, include_raw=True).invoke("x")
    llm.bind(choices=["a", "b"]).bind_tools([COLOUR]).invoke("x")
    first, second, third = backend.requests
    assert "colour" in prompt_of(llm, first)
    assert "size" not in prompt_of(llm, first) + prompt_of(llm, second)
    assert (second.tool_format, third.choices) == (None, [])
    assert [one.sampling.temperature for one in backend.requests] == [0.5, 0.5, 0]


def prompt_of(llm, request):
    return llm.get_text(request.prompt_ids)


def test_prompts_have_bound_settings(llm):
    bound = llm.bind_tools([SIZE], default_system="Short.")
    messages = [HumanMessage("x")]
    settings = {"tools": [SIZE], "default_system": "Short."}
    ids = llm.prompt_ids(messages, **settings)
    assert "size" in llm.get_text(ids)
    assert bound.prompt_ids(messages) == ids
    assert bound.get_num_tokens_from_messages(messages) == len(ids)
    assert bound.render(messages) == llm.render(messages, **settings)
    assert bound.prompt_ids(messages, tools=[]) == llm.prompt_ids(messages, default_system="Short.")
    shown = llm.with_structured_output(COLOUR).first
    assert '"name"' not in llm.render(messages)
    assert '"name"' in shown.render(messages)


@pytest.mark.parametrize("is_configurable", [False, True])
def test_tools_and_schemas_keep_retries(is_configurable):
    replies = [BackendError("busy"), "{}", BackendError("busy"), "{}"]
    backend = ScriptedBackend(replies)
    llm = ChatInternVL(model=MODEL, backend=backend)
    if is_configurable:
        llm = llm.configurable_fields(top_k=ConfigurableField("k"))
    bound = llm.bind(temperature=0.5).with_retry(
        retry_if_exception_type=(BackendError,), wait_exponential_jitter=False
    )
    called = bound.bind_tools([SIZE], tool_choice="none")
    assert called.invoke("x").text == "{}"
    assert bound.with_structured_output(SIZE).invoke("x") == {}
    assert [one.sampling.temperature for one in backend.requests] == [0.5] * 4
    assert called.render("x") == llm.render("x", tools=[SIZE], tool_choice="none")
    with pytest.raises(RequestError, match="max_tokens"):
        bound.bind_tools([SIZE], max_tokens=0)


def test_tools_and_schemas_keep_listeners_and_types(llm, backend):
    begun = []
    heard = llm.with_listeners(on_start=begun.append)
    heard.bind(temperature=0.5).bind_tools([SIZE], tool_choice="none").invoke("x")
    heard.with_structured_output(SIZE, include_raw=True).invoke("x")
    assert len(begun) == 2
    assert backend.requests[0].sampling.temperature == 0.5
    assert llm.with_types(output_type=str).bind_tools([SIZE]).OutputType is str


def test_alternatives_of_a_bound_model_have_the_bound_tools(llm, backend):
    other = ScriptedBackend(["{}"] * 2)
    which = ConfigurableField("size")
    choice = {"configurable": {"size": "big"}}
    both = llm.bind(temperature=0.5).configurable_alternatives(
        which, big=ChatInternVL(model=MODEL, backend=other)
    )
    bound = both.bind(max_tokens=7).bind_tools([SIZE], tool_choice="none")
    bound.invoke("x")
    bound.invoke("x", choice)
    both.bind(max_tokens=7).with_structured_output(SIZE).invoke("x", choice)
    requests = backend.requests + other.requests
    kept = [(one.sampling.temperature, one.max_tokens) for one in requests]
    assert kept == [(0.5, 7), (0, 7), (0, 7)]


def test_bound_models_are_stored_as_langchain_stores_them():
    bound = ChatInternVL(model=MODEL).bind(temperature=0.5)
    assert isinstance(bound, RunnableBinding)
    assert dumpd(bound)["id"] == RunnableBinding.lc_id()
    again = pickle.loads(pickle.dumps(bound))
    assert (type(again), again.kwargs) == (type(bound), bound.kwargs)
