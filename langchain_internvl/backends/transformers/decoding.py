"""The decode loop: sequences are added, advance together by one token a step, and are removed.

A sequence first reads its prompt, some tokens a step, so that others wait for a chunk and never for
a prompt; then it decodes. The loop knows tokens, tiles and tensors, and neither threads of callers
nor messages. One thread owns it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import torch

from langchain_internvl.backends.base import Delta, Request
from langchain_internvl.backends.transformers.batch_rules import BatchRules
from langchain_internvl.backends.transformers.chunks import ChunkSizes
from langchain_internvl.backends.transformers.forward import LanguageModel
from langchain_internvl.backends.transformers.grammars import GrammarBook, apply_masks
from langchain_internvl.backends.transformers.image_features import ImageFeatures
from langchain_internvl.backends.transformers.kv_passes import DecodePass
from langchain_internvl.backends.transformers.kv_room import KVRoom
from langchain_internvl.backends.transformers.limits import Limits
from langchain_internvl.backends.transformers.memory import (
    forget_locals,
    free_for_cache,
    is_out_of_memory,
)
from langchain_internvl.backends.transformers.prefixes import PrefixCache
from langchain_internvl.backends.transformers.rope import length_limit
from langchain_internvl.backends.transformers.sampling import sample
from langchain_internvl.backends.transformers.sequences import (
    PromptPlan,
    Sequence,
    full_length,
)
from langchain_internvl.backends.transformers.slots import KVShape, Slot, SlotCache
from langchain_internvl.errors import EngineMemoryError

_PREFIX_SHARE = 4
"""The kept keys and values have at most this part of the memory for keys and values."""

_PATIENCE = 0.02
"""Seconds that a step waits for an image if there is nothing else to do; cancellations come in
between."""


@dataclass(frozen=True)
class Failure:
    """A sequence ended by an error."""

    error: Exception


Event = tuple[Sequence, Delta | Failure]


class DecodeLoop:
    """Decodes any number of sequences on one model.

    Args:
        model: A native InternVL, in evaluation mode.
        token_bytes: The bytes of each token id.
        limits: What it takes on at once; `begin` itself refuses only what finds no memory.
        grammars: Grammars of the vocabulary; None: its own.
        shared_slots: As of `slots.SlotCache`.

    Attributes:
        steps: Forward passes so far that gave sequences their next token.
        images: Vision features of images.
        prefixes: Keys and values of sequences that have ended.
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
        self._limits = limits or Limits()
        self._model = model
        self._language_model = LanguageModel(model)
        self.images = ImageFeatures(model, self._limits.feature_cache_bytes)
        most = self._limits.max_kv_bytes
        self._slots = SlotCache(
            KVShape.of_model(model), free_for_cache(model) if most is None else most, shared_slots
        )
        kept = self._slots.max_bytes // _PREFIX_SHARE if self._limits.prefix_cache else 0
        self.prefixes = PrefixCache(self._slots, kept)
        self._room = KVRoom(self._slots, self.prefixes, self.images.clear)
        self._text_config = model.config.get_text_config()
        self._rules = BatchRules(self._text_config, model.dtype)
        self._token_bytes = token_bytes
        self._grammars = grammars or GrammarBook(token_bytes)
        self._chunks = ChunkSizes(
            self._limits.prefill_chunk, is_timed=self._language_model.device.type == "cpu"
        )
        self._turn = 0
        self._owes_step = False
        self._keys: dict[Sequence, Hashable] = {}  # from the oldest to the youngest

    @property
    def sequences(self) -> tuple[Sequence, ...]:
        """The sequences that are being read or decoded, from the oldest to the youngest."""
        return tuple(self._keys)

    @property
    def kv_bytes(self) -> int:
        """Memory of the keys and values of all sequences, in bytes; any thread may ask."""
        slots = [one.slot for one in self.sequences]
        return sum(slot.nbytes for slot in slots if slot is not None)

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
        if len(self._keys) >= self._limits.max_rows:
            return False
        return self._slots.fits(length, self.prefixes.freeable())

    @torch.inference_mode()
    def begin(self, request: Request) -> Sequence:
        """Take a request on; the next steps read its prompt and give it tokens.

        Raises:
            EngineMemoryError: There is no room within the limits.
            SchemaError: The grammar cannot be made.
            PromptError: The tiles do not fit the context tokens of the prompt.
            RuntimeError: Torch finds no memory; other sequences are as they were.
        """
        language_model = self._language_model
        prompt = PromptPlan(request, language_model.context_id, self._model.config.image_seq_length)
        sequence = Sequence(request, prompt, self._token_bytes, self._grammars.begin(request))
        self._room.assign(sequence, may_reuse=self._may_keep(sequence))
        self._keys[sequence] = self._rules.key(sequence)
        return sequence

    @torch.inference_mode()
    def add(self, request: Request) -> tuple[Sequence, Delta]:
        """Take a request on and read its prompt at once, while all others wait.

        Returns:
            The sequence, and the first token of its reply.

        Raises:
            BackendError: The model gives scores that are no numbers.
            MediaError: An image cannot be decoded.
            RuntimeError: Whatever else goes wrong in torch, full memory too; other sequences are
                as they were.
            InternVLError: What `begin` raises.
        """
        sequence = self.begin(request)
        try:
            self.images.encode_all(sequence.prompt)
            first = None
            while first is None:
                first = self._read_part(sequence, self._limits.prefill_chunk)
        except BaseException:
            self._end(sequence, keep=False)
            raise
        if isinstance(first, Failure):
            self._end(sequence, keep=False)
            raise first.error
        if first.finish_reason is not None:
            self._end(sequence)
        return sequence, first

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """Read some tokens of prompts, and give every sequence that has read its own a token.

        First tokens are returned at once; the next step decodes then, and reads no prompts.

        Those whose reply ended are gone afterwards. What fails for one sequence ends that one. For
        want of memory what is kept for later goes, then the youngest sequence, and the others try
        again; a pass that fails for another reason ends the sequences of its batch.
        """
        events: list[Event] = []
        if not self._owes_step:
            self._read_prompts(events)
        self._owes_step = bool(events)
        if events:
            return events
        batches: dict[Hashable, list[Sequence]] = {}
        for sequence, key in self._keys.items():
            if not sequence.is_reading:
                batches.setdefault(key, []).append(sequence)
        for batch in batches.values():
            self._decode(batch, events)
        return events

    def remove(self, sequence: Sequence) -> None:
        """Drop a sequence, if it is still there; what it has read is kept for its next turn."""
        if sequence in self._keys:
            self._end(sequence)

    def clear(self) -> None:
        """Drop all sequences, and all that is kept."""
        for sequence in self.sequences:
            self._end(sequence, keep=False)
        self.images.stop()
        self.clear_caches()

    @property
    def model(self) -> weakref.ref[Any]:
        """The model, which the loop owns."""
        return weakref.ref(self._model)

    def clear_caches(self) -> bool:
        """Forget kept keys and values and vision features; whether there were any."""
        had_prefixes, had_features = self.prefixes.clear(), self.images.clear()
        return had_prefixes or had_features

    # Ends.

    def _end(self, sequence: Sequence, *, keep: bool = True) -> None:
        self._keys.pop(sequence, None)
        self._room.release(sequence, keep=keep and self._may_keep(sequence))

    def _may_keep(self, sequence: Sequence) -> bool:
        return self._limits.prefix_cache and self._rules.may_reuse(sequence)

    def _make_room(self, error: Exception, events: list[Event]) -> None:
        """Free memory: what is kept, else the youngest sequence, which fails with the error."""
        forget_locals(error)
        if not self.clear_caches():
            self._fail(self.sequences[-1], error, events)

    def _fail(self, sequence: Sequence, error: Exception, events: list[Event]) -> None:
        events.append((sequence, Failure(error)))
        self._end(sequence, keep=False)

    # Prompts.

    def _read_prompts(self, events: list[Event]) -> None:
        """Read as many tokens of prompts as one step may."""
        reading = [one for one in self.sequences if one.is_reading]
        if not reading:
            return
        others_wait = len(reading) < len(self._keys)
        self._turn += 1
        if self._turn % 2:  # short prompts first, and in turn with them the oldest
            reading.sort(key=lambda one: len(one.prompt) - one.length)
        self._collect_images(reading, events)
        budget, has_progress = self._chunks.budget(others_wait=others_wait), False
        for sequence in reading:
            used = self._read_until(sequence, budget, events)
            budget -= used
            has_progress |= used > 0
        if not (has_progress or others_wait or events):
            self.images.wait(_PATIENCE)

    def _collect_images(self, reading: list[Sequence], events: list[Event]) -> None:
        waiting, error = self.images.collect(reading)
        if error is not None and is_out_of_memory(error):
            self._make_room(error, events)  # the image is tried again for those that are left
        elif error is not None:
            for one in waiting:
                self._fail(one, error, events)

    def _read_until(self, sequence: Sequence, budget: int, events: list[Event]) -> int:
        """Read the prompt of a sequence; how many tokens were read."""
        start = sequence.length
        if self._rules.is_repeatable(sequence.request):
            budget = self._limits.prefill_chunk if budget > 0 else 0
        while sequence.is_reading and sequence in self._keys:
            before = sequence.length
            left = budget - (before - start)
            if left <= 0:
                break
            read = partial(self._read_part, sequence, left)
            event = self._attempt(read, [sequence], events)
            if event is not None:
                events.append((sequence, event))
                if isinstance(event, Failure) or event.finish_reason is not None:
                    self._end(sequence, keep=isinstance(event, Delta))
            if sequence.length == before:
                break  # it waits for an image, or has ended
        return sequence.length - start

    def _attempt(
        self, run: Callable[[], Any], concerned: list[Sequence], events: list[Event]
    ) -> Any:
        """Run something; for want of memory make room and try again, while those concerned live.

        Returns:
            What it returns; None if it failed, and those concerned with it.
        """
        while any(one in self._keys for one in concerned):
            try:
                return run()
            except Exception as error:  # noqa: BLE001 - whatever it is, the callers must know
                if is_out_of_memory(error):
                    self._make_room(error, events)
                    continue
                for one in concerned:
                    if one in self._keys:
                        self._fail(one, error, events)
        return None

    def _read_part(self, sequence: Sequence, most: int) -> Delta | Failure | None:
        """Read the next tokens of a prompt.

        Returns:
            The first token of the reply, if the prompt is read to its end; None: there is more to
            read, or an image to wait for.
        """
        prompt, start = sequence.prompt, sequence.length
        limit = length_limit(self._text_config)
        is_whole = limit is not None and len(prompt) > limit  # its rope depends on the last token
        end = len(prompt) if is_whole else min(start + most, len(prompt))
        rest = prompt.images_of(start, len(prompt))  # the next one is encoded meanwhile
        missing = next((one for one, _ in rest if not self.images.find(prompt, one)), None)
        if missing is not None:
            end = start if is_whole else min(end, prompt.run.images[missing].start)
        if end <= start:
            return None
        begun = perf_counter()
        embeddings = self._language_model.embed(
            prompt.run.ids[start:end].tolist(), prompt.features_of(start, end)
        )
        scores = self._read_prompt(sequence, embeddings)
        self._chunks.time_read(end - start, perf_counter() - begun)
        if end < len(prompt):
            return None
        prompt.features.clear()
        if sequence.request.choices:
            weights = [
                self._language_model.weigh(sequence, scores[0], choice.ids)
                for choice in sequence.request.choices
            ]
            return sequence.choose(weights)
        ((_, event),) = self._sample([sequence], scores)
        return event

    def _read_prompt(self, sequence: Sequence, embeddings: torch.Tensor) -> torch.Tensor:
        """Run part of a prompt through the model; the scores of the next token [1, vocabulary]."""
        return self._language_model.read(sequence, embeddings)

    # Replies.

    def _decode(self, batch: list[Sequence], events: list[Event]) -> None:
        """Give each sequence of a batch its next token."""
        begun = perf_counter()
        ordered = batch

        def run() -> list[Event]:
            nonlocal ordered
            ordered = sorted((one for one in batch if one in self._keys), key=_place)
            logits = self._language_model.decode(ordered)
            try:
                return self._sample(ordered, logits)
            except BaseException:
                for one in ordered:  # the step is taken again, or not at all
                    one.length -= 1
                raise

        new: list[Event] = self._attempt(run, batch, events) or []
        self.steps += bool(new)
        self._chunks.time_step(perf_counter() - begun)
        for sequence, event in new:
            if isinstance(event, Failure) or event.finish_reason is not None:
                self._end(sequence, keep=isinstance(event, Delta))
        events += new

    def _sample(self, sequences: list[Sequence], logits: torch.Tensor) -> list[Event]:
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
