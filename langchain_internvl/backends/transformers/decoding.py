"""The decode loop: sequences are added, advance together by one token a step, and are removed.

It knows tokens, tiles and tensors, and neither threads nor messages. One thread owns it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from langchain_internvl.backends.base import Delta, Request
from langchain_internvl.backends.transformers.features import FeatureCache
from langchain_internvl.backends.transformers.forward import LanguageModel
from langchain_internvl.backends.transformers.grammars import GrammarBook, apply_masks
from langchain_internvl.backends.transformers.limits import Limits
from langchain_internvl.backends.transformers.memory import free_for_cache, is_out_of_memory
from langchain_internvl.backends.transformers.rope import batch_key
from langchain_internvl.backends.transformers.sampling import is_greedy, sample
from langchain_internvl.backends.transformers.sequences import Sequence, full_length
from langchain_internvl.backends.transformers.slots import DecodePass, KVShape, Slot, SlotCache
from langchain_internvl.backends.transformers.vision import encode_image
from langchain_internvl.errors import EngineMemoryError


@dataclass(frozen=True)
class Failure:
    """A sequence ended by an error."""

    error: Exception


class DecodeLoop:
    """Decodes any number of sequences on one model.

    Args:
        model: A native InternVL, in evaluation mode.
        token_bytes: The bytes of each token id.
        limits: What it takes on at once; `add` itself refuses only what finds no memory.
        grammars: Grammars of the vocabulary; None: its own.
        shared_slots: As of `slots.SlotCache`.

    Attributes:
        steps: Forward passes so far that gave sequences their next token.
        features: Vision features of images that were asked about.
    """

    def __init__(
        self,
        model: Any,
        token_bytes: Mapping[int, bytes],
        limits: Limits | None = None,
        grammars: GrammarBook | None = None,
        shared_slots: int | None = None,
    ) -> None:
        self.steps = 0
        self.features = FeatureCache((limits or Limits()).feature_cache_bytes)
        self._limits = limits or Limits()
        self._model = model
        self._language_model = LanguageModel(model)
        most = self._limits.max_kv_bytes
        self._slots = SlotCache(
            KVShape.of_model(model), free_for_cache(model) if most is None else most, shared_slots
        )
        self._text_config = model.config.get_text_config()
        # In 16 bits the size of a batch changes the last digits of scores, and with them, now and
        # then, a word. So a sequence that shall be repeatable decodes by itself.
        self._rounds = model.dtype.itemsize < 4
        self._token_bytes = token_bytes
        self._grammars = grammars or GrammarBook(token_bytes)
        self._keys: dict[Sequence, Hashable] = {}  # from the oldest to the youngest

    @property
    def sequences(self) -> tuple[Sequence, ...]:
        """The sequences that are being decoded, from the oldest to the youngest."""
        return tuple(self._keys)

    @property
    def kv_bytes(self) -> int:
        """Memory of the keys and values of all sequences, in bytes; any thread may ask."""
        return sum(one.slot.nbytes for one in self.sequences if one.slot is not None)

    def can_admit(self, request: Request) -> bool:
        """Whether a request may begin now, under the limits.

        Raises:
            EngineMemoryError: It never may.
        """
        length, most = full_length(request), self._slots.max_bytes
        needed = length * self._slots.shape.token_bytes
        if needed > most:
            raise EngineMemoryError(
                f"keys and values of {length} tokens need {needed:,} bytes, over the limit of "
                f"{most:,}; lower max_tokens or max_tiles, or raise max_kv_bytes of engine_options"
            )
        return len(self._keys) < self._limits.max_rows and self._slots.fits(length)

    @torch.inference_mode()
    def add(self, request: Request) -> tuple[Sequence, Delta]:
        """Read a prompt; its sequence takes part in the next steps unless its reply ends at once.

        Returns:
            The sequence, and the first token of its reply.

        Raises:
            BackendError: The model gives scores that are no numbers.
            EngineMemoryError: There is no room within the limits.
            SchemaError: The grammar cannot be made.
            PromptError: The tiles do not fit the context tokens of the prompt.
            RuntimeError: Whatever else goes wrong in torch, full memory too; other sequences are
                as they were.
        """
        sequence = Sequence(request, self._token_bytes, self._grammars.begin(request))
        sequence.slot = self._slots.allocate(sequence.full_length)
        try:
            first = self._first_token(sequence)
        except BaseException:
            self._release(sequence)
            raise
        if first.finish_reason is None:
            self._keys[sequence] = self._key(sequence)
        else:
            self._release(sequence)
        return sequence, first

    @torch.inference_mode()
    def step(self) -> list[tuple[Sequence, Delta | Failure]]:
        """Give every sequence its next token; those whose reply ended are gone afterwards.

        What fails for one sequence ends that one. For want of memory the youngest ends, and the
        others try again; a pass that fails for another reason ends the sequences of its batch.
        """
        batches: dict[Hashable, list[Sequence]] = {}
        for sequence, key in self._keys.items():
            batches.setdefault(key, []).append(sequence)
        return [event for batch in batches.values() for event in self._step(batch)]

    def remove(self, sequence: Sequence) -> None:
        """Drop a sequence, if it is still there."""
        self._keys.pop(sequence, None)
        self._release(sequence)

    def clear(self) -> None:
        """Drop all sequences."""
        for sequence in self.sequences:
            self.remove(sequence)

    def _release(self, sequence: Sequence) -> None:
        slot, sequence.slot = sequence.slot, None
        if slot is not None:
            self._slots.release(slot)

    def _key(self, sequence: Sequence) -> Hashable:
        """Sequences with equal keys may decode together."""
        sampling = sequence.request.sampling
        if sampling.seed is not None and self._rounds and not is_greedy(sampling):
            return "seeded", sequence
        request = sequence.request
        return batch_key(self._text_config, len(request.prompt_ids), request.max_tokens, sequence)

    def _first_token(self, sequence: Sequence) -> Delta:
        request = sequence.request
        features = self._features_of(request)
        scores = self._read_prompt(
            sequence, self._language_model.embed(request.prompt_ids, features)
        )
        if request.choices:
            return sequence.choose(
                [
                    self._language_model.weigh(sequence, scores[0], choice.ids)
                    for choice in request.choices
                ]
            )
        ((_, event),) = self._sample([sequence], scores)
        if isinstance(event, Failure):
            raise event.error
        return event

    def _features_of(self, request: Request) -> torch.Tensor | None:
        """The features of all images of a request, in order; None if it has none."""
        found = []
        for image in request.images:
            features = self.features.get(image.key)
            if features is None:
                features = encode_image(self._model, image.cut())
                self.features.put(image.key, features)
            found.append(features)
        return torch.cat(found) if found else None

    def _read_prompt(self, sequence: Sequence, embeddings: torch.Tensor) -> torch.Tensor:
        """Run a prompt through the model; the scores of the next token [1, vocabulary]."""
        return self._language_model.read(sequence, embeddings)

    def _step(self, batch: list[Sequence]) -> list[tuple[Sequence, Delta | Failure]]:
        """Advance a batch, whose sequences are sorted by age."""
        events: list[tuple[Sequence, Delta | Failure]] = []
        while batch:
            try:
                ordered = sorted(batch, key=_place)
                events += self._sample(ordered, self._language_model.decode(ordered))
                self.steps += 1
                break
            except Exception as error:  # noqa: BLE001 - whatever it is, the callers must know
                lost = batch[-1:] if is_out_of_memory(error) else list(batch)
                events += [(one, Failure(error)) for one in lost]
                batch = [one for one in batch if one not in lost]
                for one in lost:  # before the others try again: it holds memory
                    self.remove(one)
        for sequence, event in events:
            if isinstance(event, Failure) or event.finish_reason is not None:
                self.remove(sequence)
        return events

    def _sample(
        self, sequences: list[Sequence], logits: torch.Tensor
    ) -> list[tuple[Sequence, Delta | Failure]]:
        """Choose the next token of every sequence from its scores."""
        masks: dict[int, torch.Tensor] = {}
        failures: dict[int, Failure] = {}
        for row, sequence in enumerate(sequences):
            if sequence.grammar is not None:
                try:
                    masks[row] = sequence.grammar.mask()
                except Exception as error:  # noqa: BLE001 - it fails for this one
                    failures[row] = Failure(error)
        sampled = sample(apply_masks(logits, masks), [one.sampler for one in sequences])
        return [
            (one, failures.get(row) or _accept(one, sampled[row]))
            for row, one in enumerate(sequences)
        ]


def _place(sequence: Sequence) -> tuple[int, int]:
    slot: Slot = sequence.slot  # type: ignore[assignment] # those that decode have one
    return DecodePass.order(slot)


def _accept(sequence: Sequence, sampled: Any) -> Delta | Failure:
    try:
        return sequence.accept(sampled)
    except Exception as error:  # noqa: BLE001 - such as scores that are no numbers
        return Failure(error)
