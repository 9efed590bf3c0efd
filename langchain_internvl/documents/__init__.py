"""Scanned documents as LangChain documents, and answers that cite their pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_internvl._optional import require
from langchain_internvl.documents.batch_reader import PageReader
from langchain_internvl.documents.citations import answer_with_citations
from langchain_internvl.documents.cited_answer import CitedAnswer, CitedPage
from langchain_internvl.documents.loader import InternVLLoader
from langchain_internvl.documents.locating import Way
from langchain_internvl.documents.parser import InternVLImageParser
from langchain_internvl.documents.quotes import UNSAID
from langchain_internvl.documents.text_lines import find_lines

if TYPE_CHECKING:
    from langchain_internvl.documents.clear_images import ClearImagesMiddleware

__all__ = [
    "UNSAID",
    "CitedAnswer",
    "CitedPage",
    "ClearImagesMiddleware",
    "InternVLImageParser",
    "InternVLLoader",
    "PageReader",
    "Way",
    "answer_with_citations",
    "find_lines",
]


def __getattr__(name: str) -> Any:
    """Import the middleware when it is first used: it needs `langchain`."""
    if name == "ClearImagesMiddleware":
        require("langchain.agents", extra="agents")
        from langchain_internvl.documents.clear_images import (  # noqa: PLC0415
            ClearImagesMiddleware,
        )

        return ClearImagesMiddleware
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
