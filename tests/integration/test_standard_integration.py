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
<<<<<<< HEAD

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
=======
>>>>>>> docs
