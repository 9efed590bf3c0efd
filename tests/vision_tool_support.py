"""Vision tools over a model that says what the tests want."""

from golden import checkpoint_folder

from langchain_internvl import ChatInternVL, InternVLToolkit, MediaPolicy
from langchain_internvl.backends.scripted import ScriptedBackend

SIZE = (120, 80)


class Script:
    """A model that gives replies and keeps what it was asked."""

    def __init__(self, *replies, **settings):
        self.backend = ScriptedBackend(list(replies))
        self.llm = ChatInternVL(
            model=str(checkpoint_folder("qwen2")), backend=self.backend, **settings
        )

    @property
    def prompt(self):
        return self.llm.get_text(self.backend.requests[-1].prompt_ids)

    @property
    def tiles(self):
        return self.backend.requests[-1].tiles


def tools_of(script, folder, **settings):
    toolkit = InternVLToolkit(llm=script.llm, media_policy=MediaPolicy(roots=[folder]), **settings)
    return {tool.name: tool for tool in toolkit.get_tools()}


def call(tool, **arguments):
    return tool.invoke({"type": "tool_call", "id": "1", "name": tool.name, "args": arguments})
