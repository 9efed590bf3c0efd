"""ChatInternVL as a model of VLMEvalKit.

VLMEvalKit is installed from its repository and finds models in `vlmeval/config.py`; add there:
`supported_VLM["chat_internvl"] = functools.partial(VLMEvalKitModel, model_path=...)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import HumanMessage

from langchain_internvl.chat_models import ChatInternVL
from langchain_internvl.errors import RequestError
from langchain_internvl.evaluation.tiles import max_tiles_of
from langchain_internvl.messages.media_blocks import image_block, video_block


class VLMEvalKitModel:
    """A model with the interface of VLMEvalKit's `BaseModel` (`generate`), without its import.

    Args:
        model_path: Hub id or folder, as `model` of `ChatInternVL`.
        max_new_tokens: Most tokens of a reply; 4,096 as VLMEvalKit gives InternVL.
        **settings: Further arguments of `ChatInternVL`.
    """

    INTERLEAVE = True
    is_api = False
    allowed_types = ("text", "image", "video")

    def __init__(self, model_path: str, max_new_tokens: int = 4096, **settings: Any) -> None:
        settings.setdefault("temperature", 0)
        self._llm = ChatInternVL(model=model_path, max_tokens=max_new_tokens, **settings)

    def use_custom_prompt(self, dataset: str) -> bool:
        """Whether the model builds a data set's prompts: never; VLMEvalKit's own are used."""
        del dataset
        return False

    def set_dump_image(self, dump_image: Any) -> None:
        """Accept VLMEvalKit's function that writes images to files; images are passed as paths."""

    def generate(
        self, message: str | Sequence[str | Mapping[str, Any]], dataset: str | None = None
    ) -> str:
        """The text of the reply to one message.

        Args:
            message: A text, or parts: texts, or `{"type": "text" | "image" | "video", "value"}`.
            dataset: Name of the data set; decides the tiles of images.

        Raises:
            RequestError: A part is of another type.
        """
        parts = [message] if isinstance(message, str) else message
        listed = [{"type": "text", "value": p} if isinstance(p, str) else dict(p) for p in parts]
        images = sum(part["type"] == "image" for part in listed)
        most = max_tiles_of(dataset or "", images)
        reply = self._llm.invoke([HumanMessage([_block(part, most) for part in listed])])
        return reply.text.strip()


def _block(part: Mapping[str, Any], max_tiles: int) -> Any:
    kind, value = part["type"], part["value"]
    if kind == "text":
        return {"type": "text", "text": value}
    if kind == "image":
        return {**image_block(value), "max_tiles": max_tiles}
    if kind == "video":
        return video_block(value)
    raise RequestError(f"VLMEvalKitModel takes text, images and videos, not {kind!r}")
