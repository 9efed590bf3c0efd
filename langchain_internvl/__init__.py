"""InternVL vision-language models as LangChain chat models, without remote code."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from langchain_internvl._version import __version__

if TYPE_CHECKING:
    from langchain_internvl.chat_models import ChatInternVL
    from langchain_internvl.documents import InternVLImageParser, InternVLLoader
    from langchain_internvl.grounding import Box, draw_boxes, parse_boxes
    from langchain_internvl.media.policy import MediaPolicy
    from langchain_internvl.messages.media_blocks import image_block, pdf_block, video_block
    from langchain_internvl.tools import (
        DescribeImageTool,
        GroundTool,
        InternVLToolkit,
        ReadTextTool,
        VideoQATool,
    )

__all__ = [
    "Box",
    "ChatInternVL",
    "DescribeImageTool",
    "GroundTool",
    "InternVLImageParser",
    "InternVLLoader",
    "InternVLToolkit",
    "MediaPolicy",
    "ReadTextTool",
    "VideoQATool",
    "__version__",
    "draw_boxes",
    "image_block",
    "parse_boxes",
    "pdf_block",
    "video_block",
]

_HOMES = {
    "Box": "langchain_internvl.grounding",
    "DescribeImageTool": "langchain_internvl.tools",
    "GroundTool": "langchain_internvl.tools",
    "InternVLImageParser": "langchain_internvl.documents",
    "InternVLLoader": "langchain_internvl.documents",
    "InternVLToolkit": "langchain_internvl.tools",
    "ReadTextTool": "langchain_internvl.tools",
    "VideoQATool": "langchain_internvl.tools",
    "ChatInternVL": "langchain_internvl.chat_models",
    "MediaPolicy": "langchain_internvl.media.policy",
    "draw_boxes": "langchain_internvl.grounding",
    "image_block": "langchain_internvl.messages.media_blocks",
    "parse_boxes": "langchain_internvl.grounding",
    "pdf_block": "langchain_internvl.messages.media_blocks",
    "video_block": "langchain_internvl.messages.media_blocks",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
