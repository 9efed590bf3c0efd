"""Chat templates that nobody should trust, and those of the family, in a process of their own."""

import subprocess
import time

import pytest
from checkpoints import JINJA
from golden import checkpoint_folder
from transformers import AutoTokenizer, PreTrainedConfig

from langchain_internvl.prompting.jinja_process import CPU_SECONDS, render_jinja

MESSAGES = [
    {"role": "system", "content": "system"},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "a <b> 'c' \u00e4"}]},
]
VALUES = {"messages": MESSAGES, "add_generation_prompt": True, "bos_token": "<s>"}


def test_the_template_of_the_family():
    assert render_jinja(JINJA, VALUES) == (
        "<|im_start|>system\nsystem<|im_end|>\n<|im_start|>user\n<IMG_CONTEXT>\na <b> 'c' \u00e4"
        "<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    "template",
    [
        JINJA,
        "{% for m in messages %}\n    {{ m | tojson }}\n{% endfor %}\n",
        "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.role }}{%endfor%}",
        "{% generation %}{{ messages[0]['content'] }}{% endgeneration %}",
        "{{ messages[1]['content'][1]['text'] | upper | replace('A', 'x') }}",
        "{% set n = namespace(c=0) %}{% for m in messages %}{% set n.c = 5 %}{% endfor %}{{ n.c }}",
    ],
)
def test_it_writes_what_transformers_does(template):
    tokenizer = AutoTokenizer.from_pretrained(
        checkpoint_folder("qwen2"), config=PreTrainedConfig(), trust_remote_code=False
    )
    expected = tokenizer.apply_chat_template(
        MESSAGES, chat_template=template, tokenize=False, add_generation_prompt=True,
        bos_token="<s>",
    )  # fmt: skip
    assert render_jinja(template, VALUES) == expected


LOOPS = "{% for a in range(99999) %}" * 4 + "x" + "{% endfor %}" * 4


@pytest.mark.parametrize(
    "template",
    [
        LOOPS,
        "{% macro f(n) %}{% if n %}{{ f(n - 1) ~ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% set n = namespace(t='xx') %}{% for i in range(60) %}{% set n.t=n.t~n.t %}{%endfor%}",
        "{{ 'x' * 10 ** 12 }}",
        "{{ 'x' * 5000000 }}",
        "{{ 10 ** 10000000000 }}",
        "{{ 'x' | center(1000000000000) }}",
        "{{ '%99999999999d' % 1 }}",
        "{{ raise_exception('no') }}",
        "{{ messages.__class__.__mro__ }}{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ 1 / 0 }}",
        "{% for %}",
        "{{ '" + "(" * 5000 + "' }}{{" + "(" * 5000,
    ],
)
def test_templates_that_nobody_should_trust(template):
    """The limit is of processor time, so a busy machine changes nothing."""
    before = time.process_time()
    assert render_jinja(template, VALUES) is None
    assert time.process_time() - before < CPU_SECONDS  # none of it in this process


@pytest.mark.parametrize("fault", [BlockingIOError(11, "fork"), subprocess.TimeoutExpired("x", 60)])
def test_a_machine_that_was_busy_is_asked_again(fault, monkeypatch):
    """The template was unknown until the program ended."""

    def refuse(*_, **__):
        raise fault

    values = {**VALUES, "fault": str(fault)}  # of no other test, which may have been kept
    with monkeypatch.context() as busy:
        busy.setattr(subprocess, "run", refuse)
        assert render_jinja("{{ fault }}", values) is None
    assert render_jinja("{{ fault }}", values) == str(fault)
