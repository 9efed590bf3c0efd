"""A reply in the making: its prompt, its tokens, its text, and where its keys and values are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from langchain_internvl.backends.base import Delta, FinishReason, Request, Usage
from langchain_internvl.backends.transformers.prefixes import TokenRun, spans_of
from langchain_internvl.backends.transformers.sampling import SamplerState, no_numbers
from langchain_internvl.errors import PromptError
from langchain_internvl.reply_text.detokenization import TextStream, with_markup

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch

    from langchain_internvl.backends.transformers.grammars import GrammarState
    from langchain_internvl.backends.transformers.sampling import Sampled
    from langchain_internvl.backends.transformers.slots import Slot


class PromptPlan:
    """What a prompt is made of.

    Args:
        request: The request.
        context_id: Id of a context token.
        tokens_per_tile: Features of a tile.

    Attributes:
        run: Its tokens and images.
        features: Of each image that is at hand, by index.

    Raises:
        PromptError: It has another number of context tokens than its images have features.
    """

    def __init__(self, request: Request, context_id: int, tokens_per_tile: int) -> None:
        self.images = request.images
        self.features: dict[int, torch.Tensor] = {}
        ids = np.asarray(request.prompt_ids, np.int64)
        lengths = [image.count * tokens_per_tile for image in self.images]
        spans = spans_of(ids, context_id, [image.key for image in self.images], lengths)
        is_context = ids == context_id
        if spans is None:
            raise PromptError(
                f"the prompt has {int(is_context.sum())} context tokens, its images give "
                f"{sum(lengths)} features"
            )
        self.run = TokenRun(ids, spans)
        # Context tokens before each place, and features before each image.
        self._before = np.concatenate([[0], np.cumsum(is_context)])
        self._offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

    def __len__(self) -> int:
        return len(self.run.ids)

    def images_of(self, start: int, end: int) -> Iterator[tuple[int, slice]]:
        """The images of a part of the prompt, and which of their features belong there."""
        first, last = int(self._before[start]), int(self._before[end])
        for index in range(len(self.images)):
            low, high = int(self._offsets[index]), int(self._offsets[index + 1])
            if low < last and high > first:
                yield index, slice(max(first, low) - low, min(last, high) - low)

    def features_of(self, start: int, end: int) -> list[torch.Tensor]:
        """The features of a part of the prompt, whose images are all at hand."""
        return [self.features[index][rows] for index, rows in self.images_of(start, end)]


class Sequence:
    """One reply being generated.

    Args:
        request: The request.
        prompt: Its prompt.
        token_bytes: The bytes of each token id.
        grammar: What the reply may be, at its beginning; None: anything.

    Attributes:
        reply: Tokens of the reply so far.
        length: Tokens whose keys and values are in the slot.
        cached: Of these, tokens that were found rather than computed.
        slot: Where they are; None after the end.
        grammar: Where the reply is in its grammar; None: there is none.
        sampler: How its tokens are chosen.
    """

    def __init__(
        self,
        request: Request,
        prompt: PromptPlan,
        token_bytes: Mapping[int, bytes],
        grammar: GrammarState | None = None,
    ) -> None:
        self.request = request
        self.prompt = prompt
        self.reply: list[int] = []
        self.length = 0
        self.cached = 0
        self.slot: Slot | None = None
        self.grammar = grammar
        self.sampler = SamplerState(request.sampling, request.top_logprobs)
        self._text = TextStream(with_markup(token_bytes, request.markup), request.stop)

    @property
    def is_reading(self) -> bool:
        """Whether its prompt is not read to the end yet."""
        return not self.reply

    @property
    def full_length(self) -> int:
        """Tokens of the prompt and of the longest reply."""
        return full_length(self.request)

    @property
    def run(self) -> TokenRun:
        """The tokens whose keys and values are in the slot."""
        ids = np.concatenate([self.prompt.run.ids, np.asarray(self.reply, np.int64)])
        return TokenRun(ids[: self.length], self.prompt.run.images)

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
        usage = None if reason is None else self._usage()
        return Delta(token_id, text, reason, sampled.logprob, sampled.top, usage=usage)

    def choose(self, logprobs: list[float]) -> Delta:
        """End the reply with the likeliest of the request's choices.

        Args:
            logprobs: Logarithms of their probabilities.
        """
        best = max(range(len(logprobs)), key=logprobs.__getitem__)
        choice = self.request.choices[best]
        self.reply += choice.ids
        return Delta(
            choice.ids[-1], choice.text, "stop", choice_logprobs=tuple(logprobs),
            usage=self._usage(),
        )  # fmt: skip

    def _usage(self) -> Usage:
        return Usage(len(self.prompt), len(self.reply), self.cached)


def full_length(request: Request) -> int:
    """Tokens of a sequence when its reply has become as long as it may.

    The last token of a reply is never read, but those of choices are.
    """
    choices = max((len(choice.ids) for choice in request.choices), default=0)
    return len(request.prompt_ids) + max(request.max_tokens, choices)
