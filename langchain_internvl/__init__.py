"""InternVL vision-language models as LangChain chat models, without remote code."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from langchain_internvl._version import __version__

if TYPE_CHECKING:
    from langchain_internvl.chat_models import ChatInternVL
    from langchain_internvl.media.policy import MediaPolicy
    from langchain_internvl.media_blocks import image_block, pdf_block, video_block

__all__ = [
    "ChatInternVL",
    "MediaPolicy",
    "__version__",
    "image_block",
    "pdf_block",
    "video_block",
]

_HOMES = {
    "ChatInternVL": "langchain_internvl.chat_models",
    "MediaPolicy": "langchain_internvl.media.policy",
    "image_block": "langchain_internvl.media_blocks",
    "pdf_block": "langchain_internvl.media_blocks",
    "video_block": "langchain_internvl.media_blocks",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
