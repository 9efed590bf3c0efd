"""A reply in the making: its tokens, its text, and where its keys and values are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_internvl.backends.base import Delta, FinishReason, Request
from langchain_internvl.backends.transformers.sampling import SamplerState, no_numbers
from langchain_internvl.reply_text.detokenization import TextStream, with_markup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_internvl.backends.transformers.grammars import GrammarState
    from langchain_internvl.backends.transformers.sampling import Sampled
    from langchain_internvl.backends.transformers.slots import Slot


class Sequence:
    """One reply being generated.

    Args:
        request: The request.
        token_bytes: The bytes of each token id.
        grammar: What the reply may be, at its beginning; None: anything.

    Attributes:
        reply: Tokens of the reply so far.
        length: Tokens whose keys and values are in the slot.
        slot: Where they are; None before the prompt is read, and after the end.
        grammar: Where the reply is in its grammar; None: there is none.
        sampler: How its tokens are chosen.
    """

    def __init__(
        self,
        request: Request,
        token_bytes: Mapping[int, bytes],
        grammar: GrammarState | None = None,
    ) -> None:
        self.request = request
        self.reply: list[int] = []
        self.length = 0
        self.slot: Slot | None = None
        self.grammar = grammar
        self.sampler = SamplerState(request.sampling, request.top_logprobs)
        self._text = TextStream(with_markup(token_bytes, request.markup), request.stop)

    @property
    def full_length(self) -> int:
        """Tokens of the prompt and of the longest reply."""
        return full_length(self.request)

    def accept(self, sampled: Sampled) -> Delta:
        """Add a token to the reply.

        Raises:
            BackendError: The scores were no numbers, or the token is not in the grammar.
        """
        if not sampled.is_finite:
            raise no_numbers()
        token_id = sampled.token_id
        if self.grammar is not None:
            self.grammar.accept(token_id)
        self.sampler.see(token_id)
        self.reply.append(token_id)
        ends = token_id in self.request.stop_ids
        full = len(self.reply) >= self.request.max_tokens
        text = "" if ends else self._text.push(token_id)
        if ends or full:
            text += self._text.finish()
        stopped = ends or self._text.stopped_at is not None
        reason: FinishReason | None = "stop" if stopped else "length" if full else None
        return Delta(token_id, text, reason, sampled.logprob, sampled.top)

    def choose(self, logprobs: list[float]) -> Delta:
        """End the reply with the likeliest of the request's choices.

        Args:
            logprobs: Logarithms of their probabilities.
        """
        best = max(range(len(logprobs)), key=logprobs.__getitem__)
        choice = self.request.choices[best]
        self.reply += choice.ids
        return Delta(choice.ids[-1], choice.text, "stop", choice_logprobs=tuple(logprobs))


def full_length(request: Request) -> int:
    """Tokens of a sequence when its reply has become as long as it may.

    The last token of a reply is never read, but those of choices are.
    """
    choices = max((len(choice.ids) for choice in request.choices), default=0)
    return len(request.prompt_ids) + max(request.max_tokens, choices)
