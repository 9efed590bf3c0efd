"""ChatInternVL as a model of lmms-eval: `lmms_eval --model chat_internvl --model_args ...`.

Only lmms-eval imports this module; it is found through `lmms_eval_plugin`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
)
from langchain_core.runnables import RunnableConfig
from lmms_eval.api.instance import GenerationResult, TokenCounts
from lmms_eval.api.model import lmms

from langchain_internvl.chat_models import ChatInternVL
from langchain_internvl.errors import RequestError
from langchain_internvl.evaluation.tiles import max_tiles_of
from langchain_internvl.messages.media_blocks import image_block, video_block

_ROLES: Mapping[str, type[BaseMessage]] = {
    "user": HumanMessage,
    "system": SystemMessage,
    "assistant": AIMessage,
}


class LmmsEvalModel(lmms):  # type: ignore[misc] # lmms-eval has no types
    """Any task of lmms-eval through `ChatInternVL`.

    Args:
        pretrained: Hub id or folder, as `model` of `ChatInternVL`.
        batch_size: Most requests in flight.
        max_tiles: Most tiles of an image; None: by the task's name, as VLMEvalKit does.
        num_frames: Frames taken from a video.
        device: A device of torch, such as "cuda"; None: as `device_map="auto"`.
        **settings: Further arguments of `ChatInternVL`, such as `base_url` or `quantization`.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str,
        batch_size: int | str = 8,
        max_tiles: int | None = None,
        num_frames: int = 8,
        device: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        if device is not None and device != "auto":
            settings.setdefault("device_map", device)
        self.batch_size = int(batch_size)
        self._max_tiles = max_tiles
        self._llm = ChatInternVL(model=pretrained, num_frames=num_frames, **settings)

    def generate_until(self, requests: Sequence[Any]) -> list[Any]:
        """Replies to requests, in their order, as lmms-eval's protocol defines it.

        Raises:
            RequestError: A request has media that the model does not support.
            InternVLError: A request failed; an incomplete run would give a wrong score.
        """
        answered: list[Any] = []
        for start in range(0, len(requests), 4 * self.batch_size):
            chunk = requests[start : start + 4 * self.batch_size]
            asked = [self._messages(request) for request in chunk]
            options = RunnableConfig(max_concurrency=self.batch_size)
            # A batch has one set of settings, so requests are grouped by equal settings.
            replies: list[AIMessage | None] = [None] * len(chunk)
            for settings, places in _grouped(request.args[2] for request in chunk):
                done = self._llm.batch([asked[place] for place in places], options, **settings)
                for place, reply in zip(places, done, strict=True):
                    replies[place] = reply
            answered += [_result(reply) for reply in replies if reply is not None]
        for request, result in zip(requests, answered, strict=True):
            self.cache_hook.add_partial("generate_until", request.args, result.text)
        return answered

    def loglikelihood(self, requests: Sequence[Any]) -> Any:  # noqa: ARG002 - their protocol
        """Not supported: InternVL's benchmarks use generation.

        Raises:
            RequestError: Always.
        """
        raise RequestError("chat_internvl has no loglikelihood; choose a task that generates")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> Any:  # noqa: ARG002
        """Not supported.

        Raises:
            RequestError: Always.
        """
        raise RequestError("chat_internvl has no multi-round generation; choose another task")

    def _messages(self, request: Any) -> list[BaseMessage]:
        _, to_messages, _, doc_id, task, split = request.args
        given = to_messages(self.task_dict[task][split][doc_id])
        images = sum(part["type"] == "image" for one in given for part in one["content"])
        most = self._max_tiles or max_tiles_of(task, images)
        return [
            _ROLES[one["role"]]([_block(part, most) for part in one["content"]]) for one in given
        ]


def _block(part: Mapping[str, Any], max_tiles: int) -> Any:
    kind = part["type"]
    if kind == "text":
        return {"type": "text", "text": part["text"]}
    if kind == "image":
        return {**image_block(part["url"]), "max_tiles": max_tiles}
    if kind == "video":
        # Under the names that lmms-eval gives them in its own blocks for Qwen's processor.
        times = {"video_start": part.get("start_time"), "video_end": part.get("end_time")}
        return {**video_block(part["url"]), **times}
    raise RequestError(f"chat_internvl takes text, images and videos, not {kind!r}")


def _grouped(all_settings: Iterable[Mapping[str, Any]]) -> list[tuple[dict[str, Any], list[int]]]:
    """Distinct settings, each with the indices of the requests that have them."""
    groups: list[tuple[dict[str, Any], list[int]]] = []
    for place, given in enumerate(all_settings):
        settings = _settings(given)
        for other, places in groups:
            if other == settings:
                places.append(place)
                break
        else:
            groups.append((settings, [place]))
    return groups


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """lmms-eval's generation arguments as settings of a call; greedy unless it samples."""
    temperature = given.get("temperature")
    samples = given.get("do_sample", bool(temperature)) and temperature != 0
    settings: dict[str, Any] = {"max_tokens": given.get("max_new_tokens", 1024)}
    settings["temperature"] = (1.0 if temperature is None else temperature) if samples else 0
    if samples:
        settings |= {key: given[key] for key in ("top_p", "top_k") if given.get(key) is not None}
    until = given.get("until") or []
    stop = [until] if isinstance(until, str) else [text for text in until if text]
    return {**settings, **({"stop": stop} if stop else {})}


def _result(reply: AIMessage) -> Any:
    usage = reply.usage_metadata
    counts = usage and TokenCounts(usage["input_tokens"], usage["output_tokens"])
    return GenerationResult(text=reply.text.strip(), token_counts=counts or None)
