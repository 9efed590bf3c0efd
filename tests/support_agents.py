"""An agent's driver whose choice of tools is written down; everything else is real."""

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult


class Driver(BaseChatModel):
    """Takes its steps from a function of the messages.

    Attributes:
        choose: Gives the next step: (tool, arguments), or the final answer.
    """

    choose: object

    @property
    def _llm_type(self):
        return "scripted-driver"

    def bind_tools(self, tools, **_):
        return self

    def _generate(self, messages, stop=None, run_manager=None, **_):
        step = self.choose([one for one in messages if isinstance(one, ToolMessage)])
        if isinstance(step, str):
            message = AIMessage(step)
        else:
            name, args = step
            call = {"name": name, "args": args, "id": f"call {len(messages)}"}
            message = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=message)])
