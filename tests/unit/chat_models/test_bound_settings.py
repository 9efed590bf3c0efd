"""Settings and configs of a bound model, and what is bound to it in addition."""

import pickle

import pytest
from chat_support import MODEL
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.load import dumpd
from langchain_core.messages import HumanMessage
from langchain_core.runnables import ConfigurableField, RunnableBinding

from langchain_internvl import ChatInternVL
from langchain_internvl.errors import RequestError

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
    assert backend.requests[0].sampling.top_k in {0, 3}
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


def test_bound_models_are_stored_as_langchain_stores_them():
    bound = ChatInternVL(model=MODEL).bind(temperature=0.5)
    assert isinstance(bound, RunnableBinding)
    assert dumpd(bound)["id"] == RunnableBinding.lc_id()
    again = pickle.loads(pickle.dumps(bound))
    assert (type(again), again.kwargs) == (type(bound), bound.kwargs)
