"""The decode loop: rows join, advance together by one token a step, and leave.

It knows tokens, tiles and tensors, and neither threads nor messages. One thread owns it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from langchain_internvl.backends.base import Delta, Request
from langchain_internvl.backends.transformers.devices import execution_device
from langchain_internvl.backends.transformers.grammars import GrammarBook
from langchain_internvl.backends.transformers.kv_budget import KVBudget, Load, full_length
from langchain_internvl.backends.transformers.limits import Limits
from langchain_internvl.backends.transformers.memory import is_out_of_memory
from langchain_internvl.backends.transformers.rope import DynamicRope, batch_key
from langchain_internvl.backends.transformers.sequences import DecodeBatch, Sequence, shorten
from langchain_internvl.backends.transformers.vision import encode_tiles
from langchain_internvl.errors import PromptError


@dataclass(frozen=True)
class Failure:
    """A row ended by an error."""

    error: Exception


class DecodeLoop:
    """Decodes any number of rows on one model.

    Args:
        model: A native InternVL, in evaluation mode.
        token_bytes: The bytes of each token id.
        limits: What it takes on at once; `add` itself refuses nothing.
        grammars: Grammars of the vocabulary; None: its own.

    Attributes:
        steps: Forward passes so far that gave rows their next token.
    """

    def __init__(
        self,
        model: Any,
        token_bytes: Mapping[int, bytes],
        limits: Limits | None = None,
        grammars: GrammarBook | None = None,
    ) -> None:
        self.steps = 0
        self._model = model
        self._budget = KVBudget(model, limits or Limits())
        self._text_config = model.config.get_text_config()
        self._rope = DynamicRope(model)
        # In 16 bits the size of a batch changes the last digits of scores, and with them, now and
        # then, a word. So a row that shall be repeatable decodes by itself.
        self._rounds = model.dtype.itemsize < 4
        self._token_bytes = token_bytes
        self._grammars = grammars or GrammarBook(token_bytes)
        self._batches: dict[Hashable, DecodeBatch] = {}
        self._keys: dict[Sequence, Hashable] = {}

    @property
    def rows(self) -> tuple[Sequence, ...]:
        """The rows that are being decoded."""
        return tuple(self._keys)

    @property
    def kv_bytes(self) -> int:
        """Memory of the keys and values of all rows, in bytes."""
        return sum(batch.kv_bytes for batch in list(self._batches.values()))

    def can_admit(self, request: Request) -> bool:
        """Whether a request may begin now, under the limits.

        Raises:
            EngineMemoryError: It never may.
        """
        key = self._key(request, None)
        return self._budget.can_admit(
            request,
            [_load(batch, is_joined=other == key) for other, batch in self._batches.items()],
        )

    @torch.inference_mode()
    def add(self, request: Request) -> tuple[Sequence, Delta]:
        """Read a prompt, and let its row join the others unless its reply ends at once.

        Returns:
            The row, and the first token of its reply.

        Raises:
            BackendError: The model gives scores that are no numbers.
            SchemaError: The grammar cannot be made.
            PromptError: The tiles do not fit the context tokens of the prompt.
            RuntimeError: Whatever else goes wrong in torch, full memory too; other rows are as
                they were.
        """
        row = Sequence(request, self._token_bytes, self._grammars.begin(request))
        cache = self._read_prompt(row)
        first = row.choose(self._weigh(row, cache)) if request.choices else row.advance()
        if first.finish_reason is None:
            key = self._key(request, row)
            batch = self._batches.get(key, DecodeBatch())
            batch.join(row, cache)
            self._batches[key] = batch
            self._keys[row] = key
        return row, first

    @torch.inference_mode()
    def step(self) -> list[tuple[Sequence, Delta | Failure]]:
        """Give every row its next token; rows whose reply ended are gone afterwards.

        What fails for one row ends that row. For want of memory the youngest row ends, and the
        others try again; a forward pass that fails for another reason ends the rows of its batch.
        """
        return [event for batch in list(self._batches.values()) for event in self._step(batch)]

    def remove(self, row: Sequence) -> None:
        """Drop a row, if it is still there."""
        key = self._keys.pop(row, None)
        if key is None:
            return
        batch = self._batches[key]
        batch.leave(row)
        if not batch.rows:
            del self._batches[key]

    def clear(self) -> None:
        """Drop all rows."""
        self._batches.clear()
        self._keys.clear()

    def _key(self, request: Request, row: Sequence | None) -> Hashable:
        if request.sampling.seed is not None and self._rounds:
            return "seeded", id(row)
        length = len(request.prompt_ids)
        return batch_key(self._text_config, length, request.max_tokens, id(row))

    def _step(self, batch: DecodeBatch) -> list[tuple[Sequence, Delta | Failure]]:
        events: list[tuple[Sequence, Delta | Failure]] = []
        while batch.rows:
            error = self._forward(batch)
            if error is None:
                self.steps += 1
                events += [(row, _advance(row)) for row in batch.rows]
                break
            is_full = is_out_of_memory(error) and batch.is_whole
            lost = batch.rows[-1:] if is_full else list(batch.rows)
            events += [(row, Failure(error)) for row in lost]
            for row in lost:
                self.remove(row)
        for row, event in events:
            if isinstance(event, Failure) or event.finish_reason is not None:
                self.remove(row)
        return events

    def _forward(self, batch: DecodeBatch) -> Exception | None:
        """A forward pass; what went wrong, if something did: the rows must hear of it."""
        try:
            self._rope.prepare(max(row.length for row in batch.rows) + 1)
            batch.forward(self._model)
        except Exception as error:  # noqa: BLE001 - whatever it is
            return error
        return None

    def _read_prompt(self, row: Sequence) -> DynamicCache:
        """Run the prompt through the model; leaves the first scores in the row."""
        cache = DynamicCache()
        embeddings = self._embed(row.request)
        length = embeddings.shape[1]
        self._rope.prepare(length)
        output = self._model(
            inputs_embeds=embeddings,
            position_ids=torch.arange(length, device=embeddings.device)[None],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        row.length = length
        row.logits = output.logits[0, -1].float()
        return cache

    def _weigh(self, row: Sequence, cache: DynamicCache) -> list[float]:
        """Logarithms of the probabilities of the row's choices, after the same prompt."""
        if row.logits is None:
            raise RuntimeError("the row's prompt has not been read")
        device = execution_device(self._model.get_input_embeddings())
        first = row.logits.log_softmax(-1)
        weights = []
        for choice in row.request.choices:
            ids = torch.tensor([choice.ids], device=device)
            places = row.length + torch.arange(ids.shape[1] - 1, device=device)
            self._rope.prepare(row.length + ids.shape[1])
            weight = first[choice.ids[0]]
            if len(places):
                output = self._model(
                    input_ids=ids[:, :-1],
                    position_ids=places[None],
                    past_key_values=cache,
                    use_cache=True,
                )
                shorten(cache, row.length)
                rest = output.logits[0].float().log_softmax(-1)
                chosen = ids[0, 1:, None].to(rest.device)
                weight = weight + rest.gather(1, chosen).sum().to(weight.device)
            weights.append(float(weight))
        return weights

    def _embed(self, request: Request) -> torch.Tensor:
        """The prompt as embeddings [1, length, hidden size], images in their places."""
        words = self._model.get_input_embeddings()
        ids = torch.tensor([list(request.prompt_ids)], device=execution_device(words))
        places = ids == self._model.config.image_token_id
        features = encode_tiles(self._model, request.tiles)
        wanted, found = int(places.sum()), 0 if features is None else len(features)
        if wanted != found:
            raise PromptError(
                f"the prompt has {wanted} context tokens, its images give {found} features"
            )
        embeddings: torch.Tensor = words(ids)
        if features is None:
            return embeddings
        features = features.to(embeddings.device, embeddings.dtype)
        return embeddings.masked_scatter(places[..., None], features)


def _load(batch: DecodeBatch, *, is_joined: bool) -> Load:
    longest = max(full_length(row.request) for row in batch.rows)
    return Load(len(batch.rows), batch.held, max(longest, batch.width), is_joined)


def _advance(row: Sequence) -> Delta | Failure:
    try:
        return row.advance()
    except Exception as error:  # noqa: BLE001 - such as scores that are no numbers
        return Failure(error)
