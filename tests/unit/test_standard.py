"""LangChain's standard unit tests."""

import sys

import pytest
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_internvl import ChatInternVL, MediaPolicy


@pytest.fixture(autouse=True)
def _known_to_langchain(monkeypatch):
    """`load(allowed_objects="all")` means the classes of LangChain's own packages.

    A program that loads ChatInternVL names it: `allowed_objects=[ChatInternVL, MediaPolicy]`.
    """
    loading = sys.modules["langchain_core.load.load"]  # `load.load` is the function
    ours = {tuple(one.lc_id()) for one in (ChatInternVL, MediaPolicy)}
    known = loading._get_default_allowed_class_paths("all") | ours
    monkeypatch.setitem(loading._default_class_paths_cache, "all", known)


class TestChatInternVL(ChatModelUnitTests):
    @property
    def chat_model_class(self):
        return ChatInternVL

    @property
    def chat_model_params(self):
        return {"model": "OpenGVLab/InternVL2-8B"}  # none of these tests loads it

    @property
    def supports_image_inputs(self):
        return True

    @property
    def supports_image_urls(self):
        return True

    @property
    def supports_image_tool_message(self):
        return True
