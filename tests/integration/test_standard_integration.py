"""LangChain's standard integration tests, on a tiny checkpoint with random weights."""

from types import SimpleNamespace

import httpx
import pytest
from golden import PHOTOS, SCAN, checkpoint_folder
from langchain_tests.integration_tests import ChatModelIntegrationTests

from langchain_internvl import ChatInternVL


def _file_of(url):
    return SCAN if url.endswith(".pdf") else PHOTOS / "chelsea.png"


@pytest.fixture(autouse=True)
def _no_internet(monkeypatch):
    """What the tests, or blocks with a URL, would download comes from tests/data."""
    served = []

    def get(url, **_):
        served.append(url)
        return SimpleNamespace(content=_file_of(url).read_bytes())

    def fetch(url, policy):
        return get(url).content

    monkeypatch.setattr(httpx, "get", get)
    monkeypatch.setattr("langchain_internvl.media.sources.fetch", fetch)
    return served


CAPABLE = pytest.mark.xfail(
    reason="asks for a certain argument or step, which random weights do not know",
    raises=AssertionError,
    strict=True,
)


class TestChatInternVL(ChatModelIntegrationTests):
    @property
    def chat_model_class(self):
        return ChatInternVL

    @property
    def chat_model_params(self):
        return {
            "model": str(checkpoint_folder("qwen2")),
            "max_tokens": 400,
            "max_tiles": 1,
            "temperature": 1.0,
            "seed": 1,
        }

    @property
    def supports_image_inputs(self):
        return True

    @property
    def supports_image_urls(self):
        return True

    @property
    def supports_image_tool_message(self):
        return True

    @property
    def supports_pdf_inputs(self):
        return True

    @property
    def supports_pdf_tool_message(self):
        return True

    @property
    def supports_model_override(self):
        return False  # the model of an instance is the one that it has loaded

    @property
    def supports_anthropic_inputs(self):
        return True

    @property
    def supports_json_mode(self):
        return True

    @CAPABLE
    def test_tool_calling(self, model):
        super().test_tool_calling(model)

    @CAPABLE
    async def test_tool_calling_async(self, model):
        await super().test_tool_calling_async(model)

    # Whether random weights write the argument depends on the last digits of sums.
    @pytest.mark.xfail(reason="random weights write the expected argument by chance", strict=False)
    def test_bind_runnables_as_tools(self, model):
        super().test_bind_runnables_as_tools(model)

    @CAPABLE
    def test_agent_loop(self, model):
        super().test_agent_loop(model)

    @CAPABLE
    def test_unicode_tool_call_integration(self, model):
        super().test_unicode_tool_call_integration(model)
