"""ChatInternVL against a backend with fixed replies."""

import pytest
from chat_support import MODEL
from support import FixedBackend

from langchain_internvl import ChatInternVL


@pytest.fixture
def backend():
    return FixedBackend()


@pytest.fixture
def llm(backend):
    return ChatInternVL(model=MODEL, backend=backend)
