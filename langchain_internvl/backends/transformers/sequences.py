"""State of one sequence: its prompt, tokens, text and slot of the KV cache."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from langchain_internvl.backends.base import Delta, FinishReason, Request, Usage
from langchain_internvl.backends.transformers.prefixes import TokenRun, spans_of
from langchain_internvl.backends.transformers.sampling import SamplerState
from langchain_internvl.errors import BackendError, PromptError
from langchain_internvl.reply_text.detokenization import TextStream, with_markup

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch

    from langchain_internvl.backends.transformers.grammars import GrammarState
    from langchain_internvl.backends.transformers.sampling import Sampled
    from langchain_internvl.backends.transformers.slots import Slot


class PromptPlan:
    """The tokens, images and features of a prompt.

    Args:
        request: The request.
        context_id: Id of the context token.
        tokens_per_tile: Number of features of a tile.

    Attributes:
        run: Tokens and images.
        features: Available features by index of the image.

    Raises:
        PromptError: The number of context tokens differs from the number of image features.
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
        # Number of context tokens before each position, and of features before each image.
        self._before = np.concatenate([[0], np.cumsum(is_context)])
        self._offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

    def __len__(self) -> int:
        return len(self.run.ids)

    def images_of(self, start: int, end: int) -> Iterator[tuple[int, slice]]:
        """The images of a part of the prompt, with the slice of their features in it."""
        first, last = int(self._before[start]), int(self._before[end])
        for index in range(len(self.images)):
            low, high = int(self._offsets[index]), int(self._offsets[index + 1])
            if low < last and high > first:
                yield index, slice(max(first, low) - low, min(last, high) - low)

    def features_of(self, start: int, end: int) -> list[torch.Tensor]:
        """The features of a part of the prompt, all of which must be available."""
        return [self.features[index][rows] for index, rows in self.images_of(start, end)]


class Sequence:
    """One reply being generated.

    Args:
        request: The request.
        prompt: Its prompt.
        token_bytes: Bytes of each token id.
        grammar: Initial grammar state; None: unconstrained.

    Attributes:
        reply: Token ids of the reply so far.
        length: Number of tokens whose keys and values are in the slot.
        cached: Number of these tokens that came from the prefix cache.
        slot: Slot of the KV cache; None after the end.
        grammar: Current grammar state; None: unconstrained.
        sampler: Sampling state.
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
        """Whether the prefill of the prompt is not complete."""
        return not self.reply

    @property
    def full_length(self) -> int:
        """Maximum number of tokens of prompt and reply."""
        return full_length(self.request)

    @property
    def run(self) -> TokenRun:
        """The tokens whose keys and values are in the slot."""
        ids = np.concatenate([self.prompt.run.ids, np.asarray(self.reply, np.int64)])
        return TokenRun(ids[: self.length], self.prompt.run.images)

    def accept(self, sampled: Sampled) -> Delta:
        """Add a token to the reply.

        Raises:
            BackendError: The logits were not finite, or the grammar forbids the token.
        """
        if not sampled.is_finite:
            raise _no_numbers()
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
            logprobs: Natural logarithms of their probabilities.

        Raises:
            BackendError: One is not finite, because the logits were not.
        """
        if not all(map(isfinite, logprobs)):
            raise _no_numbers()
        best = max(range(len(logprobs)), key=logprobs.__getitem__)
        choice = self.request.choices[best]
        self.reply += choice.ids
        return Delta(
            choice.ids[-1], choice.text, "stop", choice_logprobs=tuple(logprobs),
            usage=self._usage(),
        )  # fmt: skip

    def _usage(self) -> Usage:
        return Usage(len(self.prompt), len(self.reply), self.cached)


def _no_numbers() -> BackendError:
    """The error of a sequence whose logits are not finite."""
    return BackendError(
        "the model's scores are no numbers: its weights are damaged, or dtype is too small for "
        "them (float16 for a model made in bfloat16); try dtype='float32'"
    )


def full_length(request: Request) -> int:
    """Maximum number of tokens of a sequence in the KV cache.

    The last token of a reply or of a choice is never in the cache; its place stays free.
    """
    choices = max((len(choice.ids) for choice in request.choices), default=0)
    return len(request.prompt_ids) + max(request.max_tokens, choices)
