"""The decode loop: continuous batching with chunked prefill.

Sequences are added and removed between steps, and each step decodes one token of every sequence
whose prefill is complete. Prefill runs in chunks: a long prompt delays others by one chunk only.
The loop handles tokens, tiles and tensors, not threads or messages; one thread owns it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from time import perf_counter
from typing import Any

import torch

from langchain_internvl.backends.base import Delta, Request
from langchain_internvl.backends.transformers.batch_rules import BatchRules
from langchain_internvl.backends.transformers.chunks import ChunkSizes
from langchain_internvl.backends.transformers.forward import LanguageModel
from langchain_internvl.backends.transformers.grammars import GrammarBook
from langchain_internvl.backends.transformers.graph_rules import make_graphs
from langchain_internvl.backends.transformers.graphs import Recorder
from langchain_internvl.backends.transformers.image_features import ImageFeatures
from langchain_internvl.backends.transformers.kv_passes import DecodePass
from langchain_internvl.backends.transformers.kv_room import KVRoom, slots_of
from langchain_internvl.backends.transformers.limits import Limits
from langchain_internvl.backends.transformers.memory import forget_locals, is_out_of_memory
from langchain_internvl.backends.transformers.next_tokens import (
    Event,
    Failure,
    add_next_tokens,
    begin_reply,
)
from langchain_internvl.backends.transformers.prefixes import PrefixCache
from langchain_internvl.backends.transformers.rope import SHORT
from langchain_internvl.backends.transformers.sequences import (
    PromptPlan,
    Sequence,
    full_length,
)
from langchain_internvl.backends.transformers.slots import Slot

_PREFIX_SHARE = 4
"""Largest share of the KV-cache budget that the prefix cache may take."""

_PATIENCE = 0.02
"""Seconds that a step waits for an image if there is nothing else to do. Cancellations are handled
between steps."""


class DecodeLoop:
    """Runs prefill and decode steps of all sequences of one model.

    Args:
        model: A native InternVL, in evaluation mode.
        token_bytes: The bytes of each token id.
        limits: Limits on concurrent sequences and memory, which `can_admit` checks; `begin`
            itself raises only if memory is insufficient.
        grammars: Compiler of grammars for the vocabulary; None: a new one.
        shared_slots: See `slots.SlotCache`.
        recorder: Captures decode steps; None: CUDA graphs where the model allows them.
        images_at_once: Maximum number of images that are encoded at the same time.

    Attributes:
        steps: Number of decode steps (forward passes of a batch) so far.
        images: Cache of vision features.
        prefixes: Prefix cache: keys and values of sequences that have ended.
        graphs: CUDA graphs of decode steps; None: there are none.
    """

    def __init__(
        self,
        model: Any,
        token_bytes: Mapping[int, bytes],
        limits: Limits | None = None,
        grammars: GrammarBook | None = None,
        shared_slots: int | None = None,
        *,
        recorder: Recorder | None = None,
        images_at_once: int = 1,
    ) -> None:
        self.steps = 0
        self._limits = limits or Limits()
        self._model = model
        self.graphs = make_graphs(model, recorder, wanted=self._limits.cuda_graphs)
        self._language_model = LanguageModel(model, self.graphs)
        self.images = ImageFeatures(model, self._limits.feature_cache_bytes, images_at_once)
        forget = None if self.graphs is None else self.graphs.forget
        self._slots = slots_of(model, self._limits.max_kv_bytes, shared_slots, forget)
        kept = self._slots.max_bytes // _PREFIX_SHARE if self._limits.prefix_cache else 0
        self.prefixes = PrefixCache(self._slots, kept)
        self._room = KVRoom(self._slots, self.prefixes, self._free_more)
        self._rules = BatchRules(model.config.get_text_config(), model.dtype)
        self._token_bytes = token_bytes
        self._grammars = grammars or GrammarBook(token_bytes)
        self._chunks = ChunkSizes(
            self._limits.prefill_chunk, is_timed=self._language_model.device.type == "cpu"
        )
        self._turn = 0
        self._owes_step = False
        self._keys: dict[Sequence, Hashable] = {}  # oldest first

    @property
    def sequences(self) -> tuple[Sequence, ...]:
        """The running sequences, in prefill or decoding, oldest first."""
        return tuple(self._keys)

    @property
    def kv_bytes(self) -> int:
        """KV cache of all running sequences, in bytes. Thread-safe."""
        slots = [one.slot for one in self.sequences]
        return sum(slot.nbytes for slot in slots if slot is not None)

    def can_admit(self, request: Request) -> bool:
        """Admission control: whether a request fits the limits now.

        Raises:
            EngineMemoryError: The request exceeds the limits even when nothing else runs.
        """
        length = full_length(request)
        self._slots.check(length)
        if len(self._keys) >= self._limits.max_rows:
            return False
        # If nothing else runs, waiting would free nothing: the request is tried.
        return not self._keys or self._slots.fits(length, self.prefixes.freeable())

    @torch.inference_mode()
    def begin(self, request: Request) -> Sequence:
        """Add a sequence for a request; the next steps prefill its prompt and decode.

        Raises:
            EngineMemoryError: The request does not fit the KV-cache budget.
            SchemaError: The grammar cannot be compiled.
            PromptError: The tiles do not fit the context tokens of the prompt.
            RuntimeError: Torch is out of memory; other sequences are unchanged.
        """
        language_model = self._language_model
        prompt = PromptPlan(request, language_model.context_id, self._model.config.image_seq_length)
        sequence = Sequence(request, prompt, self._token_bytes, self._grammars.begin(request))
        self._room.assign(sequence, may_reuse=self._may_keep(sequence))
        self._keys[sequence] = self._rules.key(sequence)
        return sequence

    @torch.inference_mode()
    def add(self, request: Request) -> tuple[Sequence, Delta]:
        """Add a sequence and run its whole prefill at once; all other sequences wait.

        Returns:
            The sequence, and the first token of its reply.

        Raises:
            BackendError: The logits are not finite.
            MediaError: An image cannot be decoded.
            RuntimeError: Another failure of torch, such as lack of memory; other sequences are
                unchanged.
            InternVLError: See `begin`.
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
        """Run one step: prefill chunks, then one token for every sequence past its prefill.

        If the prefill yields first tokens, the step returns them at once; the next step decodes
        only. Finished sequences are removed.

        An error of one sequence ends that sequence only. If memory runs out, the caches are
        emptied, then the youngest sequence fails, and the pass is repeated for the others. A
        forward pass that fails for another reason ends all sequences of its batch.
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
        """Remove a sequence, if it still runs; the prefix cache may keep its keys and values."""
        if sequence in self._keys:
            self._end(sequence)

    def clear(self) -> None:
        """Remove all sequences and empty the caches."""
        for sequence in self.sequences:
            self._end(sequence, keep=False)
        self.images.stop()
        self.clear_caches()

    @property
    def model(self) -> weakref.ref[Any]:
        """Weak reference to the model, which the loop owns."""
        return weakref.ref(self._model)

    def clear_caches(self) -> bool:
        """Drop CUDA graphs, the prefix cache and vision features; whether there were any."""
        had_others, had_prefixes = self._free_more(), self.prefixes.clear()
        return had_others or had_prefixes

    def _free_more(self) -> bool:
        """Free what is neither keys nor values; whether there was anything."""
        had_graphs = self.graphs is not None and self.graphs.clear()
        return self.images.clear() or had_graphs

    # End of sequences.

    def _end(self, sequence: Sequence, *, keep: bool = True) -> None:
        self._keys.pop(sequence, None)
        self._room.release(sequence, keep=keep and self._may_keep(sequence))

    def _may_keep(self, sequence: Sequence) -> bool:
        return self._limits.prefix_cache and self._rules.may_reuse(sequence)

    def _make_room(self, error: Exception, events: list[Event]) -> None:
        """Free memory: empty the caches, or if they are empty fail the youngest sequence."""
        forget_locals(error)
        if not self.clear_caches():
            self._fail(self.sequences[-1], error, events)

    def _fail(self, sequence: Sequence, error: Exception, events: list[Event]) -> None:
        events.append((sequence, Failure(error)))
        self._end(sequence, keep=False)

    # Prefill.

    def _read_prompts(self, events: list[Event]) -> None:
        """Prefill up to one step's budget of prompt tokens."""
        reading = [one for one in self.sequences if one.is_reading]
        if not reading:
            return
        others_wait = len(reading) < len(self._keys)
        self._turn += 1
        if self._turn % 2:  # steps alternate: shortest prompt first, oldest sequence first
            reading.sort(key=lambda one: len(one.prompt) - one.length)
        self._collect_images(reading, events)
        budget, has_progress = self._chunks.budget(others_wait=others_wait), False
        begun = perf_counter()
        for sequence in reading:
            most = budget
            if others_wait:
                most = self._chunks.share(budget, len(sequence.prompt) - sequence.length)
            used = self._read_until(sequence, most, events)
            budget -= used
            has_progress |= used > 0
            if used > 0 and others_wait:
                budget = self._chunks.left(budget, perf_counter() - begun)
        if not (has_progress or others_wait or events):
            self.images.wait(_PATIENCE)

    def _collect_images(self, reading: list[Sequence], events: list[Event]) -> None:
        waiting, error = self.images.collect(reading)
        if error is not None and is_out_of_memory(error):
            self._make_room(error, events)  # the remaining sequences retry the image
        elif error is not None:
            for one in waiting:
                self._fail(one, error, events)
        self.images.begin((one for one in reading if one in self._keys),
                          is_lone=len(self._keys) == 1)  # fmt: skip

    def _read_until(self, sequence: Sequence, budget: int, events: list[Event]) -> int:
        """Prefill a sequence within a budget; the number of tokens that were read."""
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
                break  # the sequence waits for an image, or has ended
        return sequence.length - start

    def _attempt(
        self, run: Callable[[], Any], concerned: list[Sequence], events: list[Event]
    ) -> Any:
        """Call `run`, and repeat it after freeing memory if torch is out of memory.

        Any other error fails all sequences in `concerned`.

        Returns:
            The result of `run`; None: no sequence in `concerned` is left.
        """
        while any(one in self._keys for one in concerned):
            try:
                return run()
            except Exception as error:  # noqa: BLE001 - reported to the callers
                if is_out_of_memory(error):
                    self._make_room(error, events)
                    continue
                for one in concerned:
                    if one in self._keys:
                        self._fail(one, error, events)
        return None

    def _read_part(self, sequence: Sequence, most: int) -> Delta | Failure | None:
        """Run one prefill chunk of at most `most` tokens.

        Returns:
            The first token of the reply, if the prefill is complete; None: tokens are left, or an
            image is not encoded yet.
        """
        prompt, start = sequence.prompt, sequence.length
        is_whole = self._rules.reads_whole(sequence)
        end = len(prompt) if is_whole else min(start + most, len(prompt))
        rest = prompt.images_of(start, len(prompt))
        missing = next((one for one, _ in rest if not self.images.find(prompt, one)), None)
        if missing is not None:
            others_wait = any(not one.is_reading for one in self._keys)
            if is_whole or not self._chunks.reads_beside_images(others_wait=others_wait):
                return None
            end = min(end, prompt.run.images[missing].start)
        if end <= start:
            return None
        begun = perf_counter()
        embeddings = self._language_model.embed(
            prompt.run.ids[start:end].tolist(), prompt.features_of(start, end)
        )
        scores = self._read_prompt(sequence, embeddings)
        if end < len(prompt):
            self._chunks.time_read(end - start, perf_counter() - begun)
            return None
        try:
            event = begin_reply(sequence, scores, self._language_model)
        except BaseException:
            sequence.length = start  # undo the chunk: it is repeated or dropped
            raise
        prompt.features.clear()
        return event

    def _read_prompt(self, sequence: Sequence, embeddings: torch.Tensor) -> torch.Tensor:
        """Forward pass of a prefill chunk; logits of the next token [1, vocabulary]."""
        return self._language_model.read(sequence, embeddings)

    # Decode steps.

    def _decode(self, batch: list[Sequence], events: list[Event]) -> None:
        """Decode one token of each sequence of a batch."""
        begun = perf_counter()
        ordered = batch

        def run() -> list[Event]:
            nonlocal ordered
            ordered = sorted((one for one in batch if one in self._keys), key=_place)
            # Reproducible sequences decode alone, and a graph's RoPE does not depend on the length.
            may_replay = self._keys[ordered[0]] == SHORT
            logits = self._language_model.step(ordered, may_replay=may_replay)
            try:
                return add_next_tokens(ordered, logits)
            except BaseException:
                for one in ordered:  # undo the step: it is repeated or dropped
                    one.length -= 1
                raise

        new: list[Event] = self._attempt(run, batch, events) or []
        self.steps += bool(new)
        self._chunks.time_step(perf_counter() - begun)
        for sequence, event in new:
            if isinstance(event, Failure) or event.finish_reason is not None:
                self._end(sequence, keep=isinstance(event, Delta))
        events += new


def _place(sequence: Sequence) -> tuple[int, int]:
    slot: Slot = sequence.slot  # type: ignore[assignment] # decoding sequences have a slot
    return DecodePass.order(slot)
