"""LangChain's own tests of tools, for each of the four."""

import shutil

import pytest
from golden import PHOTOS, VIDEO, checkpoint_folder
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests

from langchain_internvl import (
    ChatInternVL,
    DescribeImageTool,
    GroundTool,
    MediaPolicy,
    ReadTextTool,
    VideoQATool,
)
from langchain_internvl.backends.scripted import ScriptedBackend


@pytest.fixture(scope="module", autouse=True)
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    shutil.copy(PHOTOS / "chelsea.png", folder / "cat.png")
    shutil.copy(VIDEO, folder / "video.mp4")
    Shared.folder = folder


class Shared:
    """What LangChain asks of every tool."""

    folder = None
    reply = "A cat."

    @property
    def tool_constructor_params(self):
        backend = ScriptedBackend(lambda request: self.reply)
        llm = ChatInternVL(model=str(checkpoint_folder("qwen2")), backend=backend)
        return {"llm": llm, "media_policy": MediaPolicy(roots=[Shared.folder])}

    @property
    def tool_invoke_params_example(self):
        return dict(self.arguments)


class Describe(Shared):
    tool_constructor = DescribeImageTool
    arguments = (("image", "cat.png"), ("question", "What is it?"))


class Read(Shared):
    tool_constructor = ReadTextTool
    arguments = (("image", "cat.png"), ("region", "0, 0, 500, 500"))


class Ground(Shared):
    tool_constructor = GroundTool
    arguments = (("image", "cat.png"), ("phrase", "an eye"))
    reply = "<ref>an eye</ref><box>[[1, 2, 3, 4]]</box>"


class Watch(Shared):
    tool_constructor = VideoQATool
    arguments = (("video", "video.mp4"), ("question", "What happens?"))


class TestDescribe(Describe, ToolsUnitTests): ...


class TestDescribeInvoked(Describe, ToolsIntegrationTests): ...


class TestRead(Read, ToolsUnitTests): ...


class TestReadInvoked(Read, ToolsIntegrationTests): ...


class TestGround(Ground, ToolsUnitTests): ...


class TestGroundInvoked(Ground, ToolsIntegrationTests): ...


class TestWatch(Watch, ToolsUnitTests): ...


class TestWatchInvoked(Watch, ToolsIntegrationTests): ...
