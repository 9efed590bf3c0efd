"""The code in the docstring of `ChatInternVL` runs, block after block."""

import inspect

import pytest
from golden import checkpoint_folder
from langchain_core.messages import AIMessage
from readme import ROOT, docstring_programs

from langchain_internvl import ChatInternVL
from langchain_internvl.backends.base import Delta
from langchain_internvl.backends.scripted import ScriptedBackend

SECTIONS = (
    "Set-up", "Settings", "Invoke", "Stream", "Async", "Images", "Video", "Tools",
    "Structured output", "Usage metadata", "Log probabilities",
)  # fmt: skip


def reply(request):
    if request.choices:
        return "yes"
    if request.top_logprobs is not None:
        return [Delta(300, "yes", "stop", -0.5)]
    if request.tool_format is not None:
        return AIMessage("", tool_calls=[{"name": "weather", "args": {"city": "Oslo"}, "id": "1"}])
    return '{"name": "cat", "legs": 4}' if request.grammar is not None else "A cat."


def test_all_sections_run(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = inspect.cleandoc(ChatInternVL.__doc__)
    assert [name for name in SECTIONS if f"\n{name}:\n" not in text] == []
    blocks = docstring_programs(ChatInternVL)
    assert len(blocks) == 10
    llm = f"ChatInternVL(backend=SCRIPT, model={str(checkpoint_folder('qwen2'))!r}"
    large = 'ChatInternVL(model="OpenGVLab/InternVL2-8B"'
    assert large in blocks[0]
    namespace = {"SCRIPT": ScriptedBackend(reply)}
    for number, block in enumerate(blocks, 1):
        exec(compile(block.replace(large, llm), f"block {number}", "exec"), namespace)
    said = capsys.readouterr().out
    assert "name='cat' legs=4" in said
    assert "'city': 'Oslo'" in said
    assert "{'yes': 1.0, 'no': 0.0}" in said


@pytest.mark.parametrize("name", ChatInternVL.model_fields)
def test_every_own_argument_is_described(name):
    inherited = {"name", "verbose", "cache", "callbacks", "tags", "metadata",
                 "custom_get_token_ids", "rate_limiter", "disable_streaming", "output_version",
                 "profile"}  # fmt: skip
    assert name in inherited or ChatInternVL.model_fields[name].description
