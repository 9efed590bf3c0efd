"""Vision tools for agents, over any `ChatInternVL`."""

from langchain_internvl.tools.ask_video import VideoAnswer, VideoQATool
from langchain_internvl.tools.describe import DescribeImageTool, Description
from langchain_internvl.tools.ground import GroundTool, Place
from langchain_internvl.tools.read_text import Reading, ReadTextTool
from langchain_internvl.tools.toolkit import InternVLToolkit

__all__ = [
    "DescribeImageTool",
    "Description",
    "GroundTool",
    "InternVLToolkit",
    "Place",
    "ReadTextTool",
    "Reading",
    "VideoAnswer",
    "VideoQATool",
]
