"""LangChain's standard integration tests, on a tiny checkpoint with random weights."""

from golden import checkpoint_folder
from standard_suite import IntegrationSuite


class TestChatInternVL(IntegrationSuite):
    @property
    def chat_model_params(self):
        return {
            "model": str(checkpoint_folder("qwen2")),
            "max_tokens": 400,
            "max_tiles": 1,
            "temperature": 1.0,
            "seed": 1,
        }
