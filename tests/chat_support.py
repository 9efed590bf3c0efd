"""The model, the image and the messages of tests of the chat model."""

from golden import GOLDEN, checkpoint_folder
from langchain_core.messages import HumanMessage

MODEL = str(checkpoint_folder("internlm2"))
IMAGE = GOLDEN / "images/rgb_1344x896.png"


def ask(*content):
    """A conversation of one human message."""
    return [HumanMessage(list(content))]
