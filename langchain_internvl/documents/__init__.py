"""Scanned documents as LangChain documents."""

from langchain_internvl.documents.loader import InternVLLoader
from langchain_internvl.documents.parser import InternVLImageParser

__all__ = ["InternVLImageParser", "InternVLLoader"]
