"""What a backend says, as LangChain's chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from langchain_internvl.backends.base import Delta

PROVIDER = "internvl"


def to_chunks(
    deltas: Iterable[Delta], *, model: str, prompt_tokens: int, token_bytes: Mapping[int, bytes]
) -> Iterator[ChatGenerationChunk]:
    """LangChain chunks of a reply.

    Usage, the name of the model and the finish reason are in the last chunk only: merging adds
    up what several chunks say.

    Args:
        deltas: The reply.
        model: Name of the model.
        prompt_tokens: Number of tokens of the prompt.
        token_bytes: The bytes of each token id, for log probabilities.
    """
    for number, delta in enumerate(deltas, 1):
        metadata: dict[str, Any] = {}
        usage = None
        if delta.logprob is not None:
            metadata["logprobs"] = {"content": [_logprob(delta, token_bytes)]}
        if delta.finish_reason is not None:
            metadata["finish_reason"] = delta.finish_reason
            metadata["model_name"] = model
            metadata["model_provider"] = PROVIDER
            usage = UsageMetadata(
                input_tokens=prompt_tokens,
                output_tokens=number,
                total_tokens=prompt_tokens + number,
            )
        if delta.text or metadata:
            message = AIMessageChunk(
                content=delta.text,
                response_metadata=metadata,
                usage_metadata=usage,
                chunk_position="last" if usage else None,
            )
            yield ChatGenerationChunk(message=message)


def _logprob(delta: Delta, token_bytes: Mapping[int, bytes]) -> dict[str, Any]:
    """One token in the shape of OpenAI's `logprobs.content`."""

    def entry(token_id: int, logprob: float | None) -> dict[str, Any]:
        data = token_bytes.get(token_id, b"")
        return {
            "token": data.decode("utf-8", "replace"),
            "bytes": list(data),
            "logprob": logprob,
        }

    likeliest = [entry(top.token_id, top.logprob) for top in delta.top_logprobs]
    return {**entry(delta.token_id, delta.logprob), "top_logprobs": likeliest}
