"""Rows that decode together: one forward pass adds a token to each of them.

Rows come and go between two passes. Their keys and values lie in one tensor per layer, padded on
the left to the longest; a mask hides the padding and every row counts its own positions, so each
gets what it would get alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache

from langchain_internvl.backends.base import Delta, FinishReason, Request, TokenLogprob
from langchain_internvl.backends.transformers.devices import execution_device
from langchain_internvl.backends.transformers.sampling import Sampler, logprobs_of
from langchain_internvl.reply_text.detokenization import TextStream, with_markup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_internvl.backends.transformers.grammars import GrammarState


class Sequence:
    """One reply in the making.

    Args:
        request: What is asked.
        token_bytes: The bytes of each token id.
        grammar: What the reply may be, at its beginning; None: anything.

    Attributes:
        reply: Tokens of the reply so far.
        length: Tokens whose keys and values are kept.
        logits: Scores of the next token, float32 [vocabulary]; None before the prompt was read.
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
        self.logits: torch.Tensor | None = None
        self._grammar = grammar
        self._sampler = Sampler(request.sampling)
        self._text = TextStream(with_markup(token_bytes, request.markup), request.stop)

    def advance(self) -> Delta:
        """Choose the next token from the scores at hand.

        Raises:
            BackendError: The scores are no numbers, or the grammar cannot be spelled.
        """
        if self.logits is None:
            raise RuntimeError("the row's prompt has not been read")
        scores = self.logits if self._grammar is None else self._grammar.allow(self.logits)
        token_id = self._sampler.choose(scores, self.reply)
        if self._grammar is not None:
            self._grammar.accept(token_id)
        logprob: float | None = None
        top: tuple[TokenLogprob, ...] = ()
        if self.request.top_logprobs is not None:
            logprob, top = logprobs_of(self.logits, token_id, self.request.top_logprobs)
        self.reply.append(token_id)
        ends = token_id in self.request.stop_ids
        full = len(self.reply) >= self.request.max_tokens
        text = "" if ends else self._text.push(token_id)
        if ends or full:
            text += self._text.finish()
        stopped = ends or self._text.stopped_at is not None
        reason: FinishReason | None = "stop" if stopped else "length" if full else None
        return Delta(token_id, text, reason, logprob, top)

    def choose(self, logprobs: list[float]) -> Delta:
        """End the reply with the likeliest of the request's choices.

        Args:
            logprobs: Logarithms of their probabilities.
        """
        best = max(range(len(logprobs)), key=logprobs.__getitem__)
        choice = self.request.choices[best]
        self.reply += choice.ids
        return Delta(choice.ids[-1], choice.text, "stop", choice_logprobs=tuple(logprobs))


@dataclass
class DecodeBatch:
    """Rows that share forward passes.

    Attributes:
        rows: The rows that are still being made.
        cache: Keys and values; each layer [held rows, heads, longest length, head size].
        is_whole: Whether it can be used; false after a pass that failed in the middle and could
            not be taken back.
    """

    rows: list[Sequence] = field(default_factory=list)
    cache: DynamicCache | None = None
    is_whole: bool = True
    _held: list[Sequence] = field(default_factory=list)  # in the order of the cache; some have left

    def join(self, row: Sequence, cache: DynamicCache) -> None:
        """Add a row whose prompt has been read; if that fails, the others stay as they were.

        Args:
            row: The row.
            cache: Its keys and values alone, of `row.length` tokens.
        """
        if self.cache is None:
            self.cache = cache
        else:
            self._extend(self.cache, cache)
        self.rows.append(row)
        self._held.append(row)

    @property
    def held(self) -> int:
        """Number of rows whose keys and values are held; some may have left."""
        return len(self._held)

    @property
    def kv_bytes(self) -> int:
        """Memory of the keys and values, in bytes; may be asked for by other threads."""
        cache = self.cache
        layers = [] if cache is None else _layers(cache)
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)

    @property
    def width(self) -> int:
        """Tokens that the rows are padded to."""
        return 0 if self.cache is None else int(_layers(self.cache)[0].keys.shape[-2])

    def leave(self, row: Sequence) -> None:
        """Drop a row.

        Its keys and values go before the next pass: freeing them takes memory for a moment, so
        it may fail, and a row must be able to leave whatever happens. Those of the last row go
        at once.
        """
        self.rows = [other for other in self.rows if other is not row]
        if not self.rows:
            self.cache, self._held = None, []

    def _extend(self, cache: DynamicCache, new: DynamicCache) -> None:
        count, _, longest, _ = _layers(cache)[0].keys.shape
        stacked: list[Any] = []
        try:
            for mine, other in zip(_layers(cache), _layers(new), strict=True):
                keys, values = _stack(mine.keys, other.keys), _stack(mine.values, other.values)
                mine.keys, mine.values = keys, values
                stacked.append(mine)
        except BaseException:
            for mine in stacked:  # views, for which memory is not needed
                mine.keys = mine.keys[:count, :, -longest:]
                mine.values = mine.values[:count, :, -longest:]
            raise

    def _compact(self) -> None:
        """Forget the keys and values of rows that left, and the padding that only they needed."""
        if self.cache is None or len(self.rows) == len(self._held):
            return
        kept = [index for index, row in enumerate(self._held) if row in self.rows]
        longest = max(row.length for row in self.rows)
        for layer in _layers(self.cache):
            start = layer.keys.shape[-2] - longest
            layer.keys = layer.keys[kept, :, start:]
            layer.values = layer.values[kept, :, start:]
        self._held = list(self.rows)

    def forward(self, model: Any) -> None:
        """Add the last token of every row's reply, and leave the scores of the next in the row.

        If it fails, the rows are as they were, if `is_whole`.

        Args:
            model: A native InternVL.
        """
        self.is_whole = False
        self._compact()
        width = self.width
        try:
            output = self._pass(model)
        except BaseException:
            if self.cache is not None:
                shorten(self.cache, width)
            self.is_whole = True
            raise
        self.is_whole = True
        for row, logits in zip(self.rows, output, strict=True):
            row.length += 1
            row.logits = logits

    def _pass(self, model: Any) -> torch.Tensor:
        """The scores of the next tokens, float32 [rows, vocabulary]."""
        device = execution_device(model.get_input_embeddings())
        tokens = torch.tensor([[row.reply[-1]] for row in self.rows], device=device)
        positions = torch.tensor([[row.length] for row in self.rows], device=device)
        output = model(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=self._mask(device),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        scores: torch.Tensor = output.logits[:, -1].float()
        return scores

    def _mask(self, device: torch.device) -> torch.Tensor | None:
        """1 where a row has a token, the new one included; None if no row is padded."""
        lengths = torch.tensor([row.length + 1 for row in self.rows], device=device)
        longest = int(lengths.max())
        if int(lengths.min()) == longest:
            return None
        columns = torch.arange(longest, device=device)
        return (columns[None] >= longest - lengths[:, None]).long()


def shorten(cache: DynamicCache, length: int) -> None:
    """Forget what a cache holds beyond a length; takes no memory."""
    for layer in _layers(cache):
        layer.keys, layer.values = layer.keys[..., :length, :], layer.values[..., :length, :]


def _layers(cache: DynamicCache) -> list[Any]:
    """The layers of a cache; each has `keys` and `values`."""
    return list(cache.layers)


def _stack(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Put tensors [rows, heads, length, size] under each other, padded on the left with zeros."""
    longest = max(one.shape[-2], other.shape[-2])
    padded = (
        torch.nn.functional.pad(part, (0, 0, longest - part.shape[-2], 0)) for part in (one, other)
    )
    return torch.cat(list(padded))
