"""Token ids of one reply to deltas, for engines that sample outside this package."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from langchain_internvl.backends.base import NO_TOKEN, Delta, FinishReason, TokenLogprob
from langchain_internvl.reply_text.detokenization import TextStream, with_markup

if TYPE_CHECKING:
    from langchain_internvl.backends.base import Request, Usage

Logprobs = Mapping[int, float]
"""Log probabilities at one position by token id: the sampled token and the likeliest ones."""


class TokenReply:
    """Converts the token ids of one reply to deltas, with stop strings and `max_tokens` applied.

    Args:
        request: The request.
        token_bytes: Bytes of each token id.
        stop_ids: Token ids that end the reply.

    Attributes:
        is_over: Whether the last delta was produced.
    """

    def __init__(
        self, request: Request, token_bytes: Mapping[int, bytes], stop_ids: frozenset[int]
    ) -> None:
        self._request = request
        self._stop_ids = stop_ids
        self._text = TextStream(with_markup(token_bytes, request.markup), request.stop)
        self._count = 0
        self.is_over = False

    def push(
        self, token_ids: Iterable[int], logprobs: Sequence[Logprobs] | None = None
    ) -> Iterator[Delta]:
        """Deltas of the next tokens; none after a delta with a finish reason."""
        for place, token_id in enumerate(token_ids):
            if self.is_over:
                return
            alternatives = (
                logprobs[place] if logprobs is not None and place < len(logprobs) else None
            )
            yield self._add(token_id, alternatives)

    def end(self, reason: str, usage: Usage | None = None) -> Delta:
        """The last delta of a reply that the engine ended without a stop token."""
        self.is_over = True
        return Delta(NO_TOKEN, self._text.finish(), reason, usage=usage)

    def _add(self, token_id: int, alternatives: Logprobs | None) -> Delta:
        self._count += 1
        ends = token_id in self._stop_ids
        text = "" if ends else self._text.push(token_id)
        stopped = ends or self._text.stopped_at is not None
        full = self._count >= self._request.max_tokens
        if stopped or full:
            text += self._text.finish()
            self.is_over = True
        reason: FinishReason | None = "stop" if stopped else "length" if full else None
        top = self._request.top_logprobs
        if top is None or alternatives is None:
            return Delta(token_id, text, reason)
        likeliest = sorted(alternatives.items(), key=lambda item: -item[1])[:top]
        return Delta(
            token_id,
            text,
            reason,
            alternatives.get(token_id),
            tuple(TokenLogprob(one, logprob) for one, logprob in likeliest),
        )
