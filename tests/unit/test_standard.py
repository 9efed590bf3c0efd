"""LangChain's standard unit tests."""

import sys

import pytest
from langchain_tests.unit_tests import ChatModelUnitTests
from standard_suite import Abilities

from langchain_internvl import ChatInternVL


@pytest.fixture(autouse=True)
def _known_to_langchain(monkeypatch):
    """`load(allowed_objects="all")` means the classes of LangChain's own packages.

    A program that loads ChatInternVL names it: `allowed_objects=[ChatInternVL]`.
    """
    loading = sys.modules["langchain_core.load.load"]  # `load.load` is the function
    ours = {tuple(ChatInternVL.lc_id())}
    known = loading._get_default_allowed_class_paths("all") | ours
    monkeypatch.setitem(loading._default_class_paths_cache, "all", known)


class TestChatInternVL(Abilities, ChatModelUnitTests):
    @property
    def chat_model_params(self):
        return {"model": "OpenGVLab/InternVL2-8B"}  # none of these tests loads it
