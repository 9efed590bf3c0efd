"""Chat templates of this package as jinja, for servers that are prompted by messages.

The jinja templates in InternVL2's tokenizers differ from the reference: they put line ends between
turns, and have no default system text.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_internvl.prompting.templates import ChatTemplate, Frame


def to_jinja(template: ChatTemplate) -> str:
    """A template as jinja, for messages whose content is a string."""
    default = template.default_system
    system = "" if default is None else _turn(template.system, _text(default))
    return (
        "{% if messages[0]['role'] != 'system' %}" + system + "{% endif %}"
        "{% for message in messages %}{% set said = message['content'] or '' %}"
        "{% if message['role'] == 'system' %}" + _turn(template.system, "said") + ""
        "{% elif message['role'] == 'assistant' %}" + _turn(template.assistant, "said") + ""
        "{% else %}" + _turn(template.user, "said") + "{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ " + _text(template.reply) + " }}{% endif %}"
    )


def _turn(frame: Frame, said: str) -> str:
    whole = f"{_text(frame.open)} + {said} + {_text(frame.close)}"
    return f"{{{{ ({whole}) if {said} else {_text(frame.empty)} }}}}"


def _text(text: str) -> str:
    """A jinja string literal, which has JSON's syntax."""
    return json.dumps(text)
