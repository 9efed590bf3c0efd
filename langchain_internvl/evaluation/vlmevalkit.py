"""ChatInternVL as a model of VLMEvalKit (on PyPI as `ms-vlmeval`).

VLMEvalKit looks models up in a dictionary; register the model there before its `run` is called:
`vlmeval.config.supported_VLM["chat_internvl"] = functools.partial(VLMEvalKitModel, "nano")`.
"""

from __future__ import annotations

import mimetypes
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from langchain_internvl.chat_models import ChatInternVL
from langchain_internvl.errors import InternVLError, RequestError
from langchain_internvl.evaluation.tiles import MAX_TOTAL_TILES, max_tiles_of
from langchain_internvl.messages.media_blocks import image_block, video_block

Part = Mapping[str, Any]
"""A part of a message: `{"type": "text" | "image" | "video", "value": text or file}`."""

Content = str | Part | Sequence[str | Part]
"""A message in any of the forms that VLMEvalKit's `BaseModel.generate` takes."""

_ANSWER_ENDINGS = (
    (("MMBench-Video",), "\nAnswer:", ""),
    (
        ("Video-MME", "WorldSense"),
        "\nAnswer:",
        "\nAnswer with the option's letter from the given choices directly.",
    ),
    (("MVBench",), "Best option:(", ""),
)
"""Data sets of videos, a text that VLMEvalKit removes for InternVL, and one that it appends."""


class VLMEvalKitModel:
    """A model with the interface of VLMEvalKit's `BaseModel`, without its import.

    Messages are arranged as VLMEvalKit's own `InternVLChat` arranges them: images first, numbered
    if there are several ("Frame-1: " in data sets of videos), then the texts, in which `<Image-k>`
    stands for an image between two texts. Data sets build their own prompts; the chains of thought
    that `InternVLChat` has for some of them are not part of this class.

    Args:
        model_path: Hub id or folder, as `model` of `ChatInternVL`.
        max_new_tokens: Most tokens of a reply; 4,096 as VLMEvalKit gives InternVL.
        **settings: Further arguments of `ChatInternVL`.
    """

    INTERLEAVE = True
    VIDEO_LLM = False  # data sets of videos pass frames
    is_api = False
    allowed_types = ("text", "image", "video")

    def __init__(self, model_path: str, max_new_tokens: int = 4096, **settings: Any) -> None:
        settings.setdefault("temperature", 0)
        settings.setdefault("number_images", False)  # labels are written here
        self._llm = ChatInternVL(model=model_path, max_tokens=max_new_tokens, **settings)

    def use_custom_prompt(self, dataset: str) -> bool:
        """Whether the model builds a data set's prompts: never; VLMEvalKit's own are used."""
        del dataset
        return False

    def set_dump_image(self, dump_image: Any) -> None:
        """Accept VLMEvalKit's function that writes images to files; images are passed as paths."""

    def generate(self, message: Content, dataset: str | None = None) -> str:
        """The text of the reply to one message.

        Args:
            message: A text, a part, or a list of texts, names of files, or parts.
            dataset: Name of the data set; decides the tiles of images, and the labels of frames.

        Raises:
            RuntimeError: The request failed; VLMEvalKit records it and goes on with `SKIP_ERR=1`.
        """
        try:
            return self._reply([HumanMessage(_content(_parts(message), dataset or ""))])
        except InternVLError as error:
            raise RuntimeError(f"{type(error).__name__}: {error}") from error

    def chat(self, messages: Sequence[Mapping[str, Any]], dataset: str | None = None) -> str:
        """The text of the reply to a conversation, as data sets of several turns ask for it.

        Args:
            messages: `{"role": "user" | "assistant", "content": as message of generate}`.
            dataset: Name of the data set.

        Raises:
            RuntimeError: The request failed.
        """
        turns: list[BaseMessage] = []
        try:
            for one in messages:
                parts = _parts(one["content"])
                if one["role"] == "assistant":
                    turns.append(AIMessage("\n".join(part["value"] for part in parts)))
                else:
                    turns.append(HumanMessage(_content(parts, dataset or "", are_labelled=False)))
            return self._reply(turns)
        except InternVLError as error:
            raise RuntimeError(f"{type(error).__name__}: {error}") from error

    chat_inner = chat  # the name by which VLMEvalKit knows that a model takes several turns

    def _reply(self, messages: list[BaseMessage]) -> str:
        return self._llm.invoke(messages).text.strip()


def _parts(message: Content) -> list[Part]:
    """The parts of a message.

    Raises:
        RequestError: A part is neither a text, an image nor a video.
    """
    listed: Iterable[str | Part] = [message] if isinstance(message, (str, Mapping)) else message
    parts = []
    for one in listed:
        # Only in a list a text may name a file, as in `BaseModel.preproc_content`.
        text_type = "text" if isinstance(message, str) else _type_of(str(one))
        part = {"type": text_type, "value": one} if isinstance(one, str) else one
        if part.get("type") not in VLMEvalKitModel.allowed_types or "value" not in part:
            raise RequestError(
                "VLMEvalKitModel takes parts of type text, image and video with a value, not "
                f"{str(part)[:100]}"
            )
        parts.append(part)
    return parts


def _type_of(text: str) -> str:
    """The type of a part that a text stands for: that of the file it names, or "text"."""
    if text.startswith("data:image/"):
        return "image"
    kind = (mimetypes.guess_type(text)[0] or "").partition("/")[0]
    if kind not in {"image", "video"} or "\n" in text or len(text) > 4096:
        return "text"
    is_reachable = text.startswith(("http://", "https://"))
    with suppress(OSError, ValueError):  # a text may be too long for a name
        is_reachable = is_reachable or Path(text).is_file()
    return kind if is_reachable else "text"


def _content(
    parts: Sequence[Part], dataset: str, *, are_labelled: bool = True
) -> list[str | dict[str, Any]]:
    """Blocks of a message, arranged as `reorganize_prompt` of VLMEvalKit's InternVL does.

    Args:
        parts: Parts of the message.
        dataset: Name of the data set, "" for none.
        are_labelled: Whether several images are numbered; not in conversations.
    """
    images = [part["value"] for part in parts if part["type"] == "image"]
    is_video = _of_dataset("DATASET_MODALITY", dataset) == "VIDEO"
    label = "Frame" if is_video else "Image"
    most = 1 if is_video else _max_tiles(dataset, len(images))
    blocks: list[str | dict[str, Any]] = []
    for number, image in enumerate(images, start=1):
        if are_labelled and len(images) > 1:
            blocks.append({"type": "text", "text": f"{label}-{number}: "})
        blocks.append({**image_block(image), "max_tiles": most})
    blocks += [dict(video_block(part["value"])) for part in parts if part["type"] == "video"]
    if len(images) == 1 or not are_labelled:
        text = "\n".join(part["value"] for part in parts if part["type"] == "text")
    else:
        text = _with_places(parts, label)
    if is_video:
        for names, removed, appended in _ANSWER_ENDINGS:
            if any(name in dataset for name in names):
                text = text.replace(removed, "") + appended
    return [*blocks, {"type": "text", "text": text}] if text else blocks


def _with_places(parts: Sequence[Part], label: str) -> str:
    """The texts, with `<Image-k>` where an image stood, unless all images stood together."""
    text, number = "", 0
    for part in parts:
        if part["type"] == "text":
            text += part["value"]
        elif part["type"] == "image":
            number += 1
            text += f"<{label}-{number}>"
    return text.replace("".join(f"<{label}-{k}>" for k in range(1, number + 1)), "")


def _max_tiles(dataset: str, images: int) -> int:
    if _of_dataset("DATASET_TYPE", dataset) == "GUI":
        return max(1, min(12, MAX_TOTAL_TILES // max(1, images)))
    return max_tiles_of(dataset, images)


def _of_dataset(function: str, dataset: str) -> Any:
    """What VLMEvalKit says of a data set; None: it is not running, or does not know."""
    known = getattr(sys.modules.get("vlmeval.dataset"), function, None)
    return known(dataset) if known is not None and dataset else None
