"""LangChain's standard integration tests against LMDeploy's server, and in this process.

A checkpoint with random weights answers them.
"""

import pytest
from golden import checkpoint_folder
from standard_suite import IntegrationSuite


class ByLMDeploy(IntegrationSuite):
    way = ""
    is_repeatable = False

    @pytest.fixture(autouse=True)
    def _connect(self, request):
        """The same model as in the fixtures `inside` and `outside`."""
        llm = request.getfixturevalue(self.way)("qwen2")
        fields = ("backend", "base_url", "served_model", "api_key", "engine_options")
        self.own = {name: getattr(llm, name) for name in fields}

    @property
    def chat_model_params(self):
        return {
            "model": str(checkpoint_folder("qwen2")), "max_tokens": 1400, "max_tiles": 1,
            "temperature": 1.0, "seed": 1, **self.own,
        }  # fmt: skip


class TestServer(ByLMDeploy):
    way = "outside"


class TestPipeline(ByLMDeploy):
    way = "inside"
