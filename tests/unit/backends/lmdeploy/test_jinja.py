"""Templates as jinja write what ours write."""

import pytest
from golden import checkpoint_folder

from langchain_internvl.backends.lmdeploy.jinja import to_jinja
from langchain_internvl.messages.conversation import Text, Turn
from langchain_internvl.prompting.build import build_prompt
from langchain_internvl.prompting.templates import TEMPLATES
from langchain_internvl.prompting.tokenization import load_tokenizer

CONVERSATIONS = [
    [("user", "Hello")],
    [("system", "Be 'brief', \"please\" {{ 1 }}\n{% x %}"), ("user", "你好")],
    [("user", "a"), ("assistant", "b"), ("user", "c\\n\n")],
    [("user", "")],
    [("system", ""), ("user", "x")],
]


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("said", CONVERSATIONS, ids=range(len(CONVERSATIONS)))
def test_jinja_writes_the_same(name, said):
    template = TEMPLATES[name]
    turns = [Turn(role, (Text(text),) if text else ()) for role, text in said]
    messages = [{"role": role, "content": text} for role, text in said]
    tokenizer = load_tokenizer(checkpoint_folder("qwen2"))
    written = tokenizer.apply_jinja(to_jinja(template), messages)
    assert written == build_prompt(turns, template).to_text()
