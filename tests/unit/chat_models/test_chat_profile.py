"""The model profile, and what LangChain does with it."""

import json
import shutil

import pytest
from chat_support import MODEL
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware
from langchain_core.messages import AIMessage, HumanMessage
from support import FixedBackend

from langchain_internvl import ChatInternVL
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.settings.call import CallSettings


def test_profile():
    profile = ChatInternVL(max_tokens=7, context_window=4096).profile
    assert all(profile[f"{kind}_inputs"] for kind in ("text", "image", "video", "pdf"))
    assert not profile["audio_inputs"]
    assert (profile["max_input_tokens"], profile["max_output_tokens"]) == (4096, 7)
    assert profile["open_weights"]
    assert profile["attachment"]
    assert profile["mid_conversation_system_messages"]
    assert not ChatInternVL(base_url="http://h/v1").profile["mid_conversation_system_messages"]
    assert "max_input_tokens" not in ChatInternVL().profile
    assert ChatInternVL(profile={"text_inputs": False}).profile == {"text_inputs": False}


@pytest.mark.parametrize("settings", [{}, {"base_url": "http://h/v1"}, {"backend": FixedBackend()}])
def test_the_context_window_comes_from_the_files(settings, tmp_path, monkeypatch):
    window = ChatInternVL(model=MODEL, **settings).profile["max_input_tokens"]
    assert window == ChatInternVL(model=MODEL)._renderer(CallSettings()).tokenizer.model_max_length
    folder = tmp_path / "model"
    shutil.copytree(MODEL, folder)
    stored = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**stored, "model_max_length": 77}))
    llm = ChatInternVL(model=folder, **settings)
    assert llm.profile["max_input_tokens"] == 77
    assert llm.model_copy(update={"context_window": 55}).profile["max_input_tokens"] == 55
    assert llm.model_copy(update={"max_tokens": 5}).profile["max_output_tokens"] == 5
    own = ChatInternVL(model=folder, profile={"max_input_tokens": 9}, **settings)
    assert own.model_copy(update={"max_tokens": 5}).profile == {"max_input_tokens": 9}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**stored, "model_max_length": 10**30})
    )
    config = json.loads((folder / "config.json").read_text())["llm_config"]
    rope = config.get("rope_scaling") or {"factor": 1}
    longest = int(config["max_position_embeddings"] * rope["factor"])
    assert ChatInternVL(model=folder, **settings).profile["max_input_tokens"] == longest
    (folder / "config.json").write_text("{")
    assert "max_input_tokens" not in ChatInternVL(model=folder, **settings).profile
    # A checkpoint of the hub, as its cache holds it.
    cache = tmp_path / "hub/models--OpenGVLab--InternVL2-8B"
    shutil.copytree(MODEL, cache / "snapshots/abc")
    (cache / "refs").mkdir()
    (cache / "refs/main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert ChatInternVL(**settings).profile["max_input_tokens"] == window
    assert "max_input_tokens" not in ChatInternVL(revision="v9", **settings).profile


def test_summaries_by_a_fraction_of_the_window():
    backend = ScriptedBackend(lambda request: "A summary.")
    llm = ChatInternVL(model=MODEL, backend=backend)
    middleware = SummarizationMiddleware(
        llm, trigger=("fraction", 0.5), keep=("messages", 1),
        token_counter=llm.get_num_tokens_from_messages, trim_tokens_to_summarize=None,
    )  # fmt: skip
    agent = create_agent(llm, middleware=[middleware])
    short = [HumanMessage("one"), AIMessage("two"), HumanMessage("three")]
    assert len(agent.invoke({"messages": short})["messages"]) == 4
    long = [HumanMessage("one " * 6000), AIMessage("two"), HumanMessage("three")]
    assert llm.get_num_tokens_from_messages(long) > llm.profile["max_input_tokens"] / 2
    kept = agent.invoke({"messages": long})["messages"]
    assert [message.text for message in kept[1:]] == ["three", "A summary."]
    assert "A summary." in kept[0].text
