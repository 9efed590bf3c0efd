"""LangChain's standard integration tests against LMDeploy's server, and in this process.

A checkpoint with random weights answers them.
"""

from types import SimpleNamespace

import httpx
import pytest
from golden import PHOTOS, SCAN, checkpoint_folder
from langchain_tests.integration_tests import ChatModelIntegrationTests

from langchain_internvl import ChatInternVL


@pytest.fixture(autouse=True)
def _no_internet(monkeypatch):
    """What the tests, or blocks with a URL, would download comes from tests/data."""

    def read(url):
        return (SCAN if url.endswith(".pdf") else PHOTOS / "chelsea.png").read_bytes()

    monkeypatch.setattr(httpx, "get", lambda url, **_: SimpleNamespace(content=read(url)))
    monkeypatch.setattr("langchain_internvl.media.sources.fetch", lambda url, _: read(url))


CAPABLE = pytest.mark.xfail(
    reason="asks for a certain argument or step, which random weights do not know",
    raises=AssertionError,
)


class Standard(ChatModelIntegrationTests):
    way = ""

    @pytest.fixture(autouse=True)
    def _connect(self, request):
        """The same model as in the fixtures `inside` and `outside`."""
        llm = request.getfixturevalue(self.way)("qwen2")
        fields = ("backend", "base_url", "served_model", "api_key", "engine_options")
        self.own = {name: getattr(llm, name) for name in fields}

    @property
    def chat_model_class(self):
        return ChatInternVL

    @property
    def chat_model_params(self):
        return {
            "model": str(checkpoint_folder("qwen2")), "max_tokens": 1400, "max_tiles": 1,
            "temperature": 1.0, "seed": 1, **self.own,
        }  # fmt: skip

    @pytest.fixture
    def model(self, _connect):
        return ChatInternVL(**self.chat_model_params)

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
    def supports_anthropic_inputs(self):
        return True

    @property
    def supports_json_mode(self):
        return True

    @property
    def supports_model_override(self):
        return False  # the model of an instance is the one that it has loaded

    @CAPABLE
    def test_tool_calling(self, model):
        super().test_tool_calling(model)

    @CAPABLE
    async def test_tool_calling_async(self, model):
        await super().test_tool_calling_async(model)

    @CAPABLE
    def test_bind_runnables_as_tools(self, model):
        super().test_bind_runnables_as_tools(model)

    @CAPABLE
    def test_agent_loop(self, model):
        super().test_agent_loop(model)

    @CAPABLE
    def test_unicode_tool_call_integration(self, model):
        super().test_unicode_tool_call_integration(model)


class TestServer(Standard):
    way = "outside"


class TestPipeline(Standard):
    way = "inside"
