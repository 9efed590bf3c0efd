"""Choice of a checkpoint's chat template.

The config of an original checkpoint names its template. An -hf checkpoint has a jinja template,
which is matched with the known templates by its output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_internvl.errors import UnsupportedCheckpointError
from langchain_internvl.json_files import read_json, read_text
from langchain_internvl.media.sources import BytesSource
from langchain_internvl.messages.conversation import Image, Text, Turn
from langchain_internvl.prompting.build import PromptOptions, build_prompt
from langchain_internvl.prompting.segments import IMAGE_CONTEXT
from langchain_internvl.prompting.templates import (
    TEMPLATES,
    ChatTemplate,
    get_template,
    suggest_template,
)

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_internvl.checkpoint import Checkpoint
    from langchain_internvl.prompting.tokenization import PromptTokenizer


def choose_template(
    checkpoint: Checkpoint, tokenizer: PromptTokenizer, name: str | None = None
) -> ChatTemplate:
    """The chat template of a checkpoint.

    Args:
        checkpoint: The checkpoint.
        tokenizer: Its tokenizer.
        name: A template chosen by the user; None: the checkpoint's own. The config of an original
            checkpoint names it. For an -hf checkpoint it is the template with the same output
            as its jinja template, which itself cannot prevent forged control tokens in text.

    Raises:
        PromptError: The chosen name is unknown, or the tokenizer lacks the template's end token.
        UnsupportedCheckpointError: The checkpoint's own template is unknown.
    """
    if name is not None:
        template = get_template(name)
        tokenizer.stop_id(template.stop)  # raises if the tokenizer lacks the token
        return template
    if checkpoint.is_original:
        own = str(checkpoint.config.get("template"))
        if own not in TEMPLATES:
            raise UnsupportedCheckpointError(
                f"{checkpoint.folder} uses chat template {own!r}, which is unknown; choose one "
                f"with chat_template=: {suggest_template(own)}"
            )
        return TEMPLATES[own]
    return _match_jinja(checkpoint, tokenizer)


def _match_jinja(checkpoint: Checkpoint, tokenizer: PromptTokenizer) -> ChatTemplate:
    written = {
        tokenizer.apply_jinja(jinja, _PROBE_MESSAGES)
        for jinja in (tokenizer.jinja_template, _processor_jinja(checkpoint.folder))
        if jinja is not None
    }
    options = PromptOptions(default_system=None)
    for template in TEMPLATES.values():
        ours = build_prompt(_PROBE_TURNS, template, options).to_text()
        # Qianfan-OCR's template writes `<image>`, which its processor replaces.
        if template.stops_at_eos and {ours, ours.replace("<image>", IMAGE_CONTEXT)} & written:
            return template
    if checkpoint.is_qianfan_ocr:  # its template adds branches for thoughts to the same turns
        return TEMPLATES["internvl-hf"]
    raise UnsupportedCheckpointError(
        f"the chat template of {checkpoint.folder} is unknown; "
        f"choose chat_template= from {', '.join(TEMPLATES)}"
    )


_PROBE_MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "system"},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "question"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "answer"}]},
    {"role": "user", "content": [{"type": "text", "text": "again"}]},
]
_PROBE_TURNS = (
    Turn("system", (Text("system"),)),
    Turn("user", (Image(BytesSource(b"", "probe")), Text("question"))),
    Turn("assistant", (Text("answer"),)),
    Turn("user", (Text("again"),)),
)


def _processor_jinja(folder: Path) -> str | None:
    """The chat template in the processor's files, as in older -hf checkpoints."""
    plain = folder / "chat_template.jinja"
    if plain.is_file():
        return read_text(plain)
    template = (read_json(folder / "chat_template.json") or {}).get("chat_template")
    return template if isinstance(template, str) else None
