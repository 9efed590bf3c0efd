"""Allocates slots of the KV cache, with cached prefixes of prompts, and keeps ended sequences."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_internvl.backends.transformers.memory import (
    forget_locals,
    free_on,
    is_out_of_memory,
)
from langchain_internvl.backends.transformers.slots import KVShape, SlotCache
from langchain_internvl.errors import EngineMemoryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_internvl.backends.transformers.prefixes import KeptSequence, PrefixCache
    from langchain_internvl.backends.transformers.sequences import Sequence
    from langchain_internvl.backends.transformers.slots import Block, Slot


def slots_of(
    model: Any,
    max_bytes: int | None,
    shared_slots: int | None = None,
    forget: Callable[[Block], None] | None = None,
) -> SlotCache:
    """The slots of a model, within a budget.

    Args:
        model: A native InternVL.
        max_bytes: Maximum memory of all slots, in bytes; None: what its devices have free now, and
            again for each request, because other engines may have taken memory since.
        shared_slots: See `SlotCache`.
        forget: See `SlotCache`.
    """
    shape = KVShape.of_model(model)
    if max_bytes is not None:
        return SlotCache(shape, max_bytes, shared_slots, forget=forget)
    free = partial(free_on, shape.devices)
    return SlotCache(shape, free(), shared_slots, free, forget)


class KVRoom:
    """Allocator of slots; cached prefixes are evicted for new sequences.

    Args:
        slots: All slots of the engine.
        prefixes: Prefix cache: keys and values of ended sequences, in the same slots.
        free_more: Frees other caches, and returns whether there were any; called if torch is out
            of memory.
    """

    def __init__(
        self, slots: SlotCache, prefixes: PrefixCache, free_more: Callable[[], bool]
    ) -> None:
        self._slots = slots
        self._prefixes = prefixes
        self._free_more = free_more

    def assign(self, sequence: Sequence, *, may_reuse: bool) -> None:
        """Allocate the slot of a sequence, with the cached prefix of its prompt if there is one.

        Args:
            sequence: A new sequence.
            may_reuse: Whether the prefix cache may be used.

        Raises:
            EngineMemoryError: The sequence does not fit the budget.
            RuntimeError: Torch is out of memory.
        """
        length = sequence.full_length
        found = self._prefixes.find(sequence.prompt.run) if may_reuse else None
        if found is None:
            sequence.slot = self._allocate(length)
            return
        kept, shared = found
        is_whole = shared == len(kept.run.ids)
        if is_whole and kept.slot.capacity >= length:
            sequence.slot = self._prefixes.take(kept)
        else:
            try:
                sequence.slot = self._allocate(length, kept)
            except EngineMemoryError:  # no room for both slots
                self._prefixes.drop(kept)
                sequence.slot = self._allocate(length)
                return
            sequence.slot.copy_from(kept.slot, shared)
            if is_whole:
                self._prefixes.drop(kept)
        sequence.length = sequence.cached = shared

    def release(self, sequence: Sequence, *, keep: bool) -> None:
        """Release the slot of a sequence, if it has one.

        Args:
            sequence: A sequence that has ended.
            keep: Whether its keys and values go into the prefix cache.
        """
        slot, sequence.slot = sequence.slot, None
        if slot is None:
            return
        try:
            # Logits are checked once the prompt is complete: those of a reply were finite.
            if keep and sequence.is_reading:
                keep = slot.is_finite(sequence.length)
            if not keep:  # the sequence may have failed because of its numbers
                self._slots.release(slot, is_stained=True)
                return
            self._prefixes.put(sequence.run, slot)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            forget_locals(error)
            self._slots.release(slot, is_stained=True)

    def _allocate(self, length: int, but: KeptSequence | None = None) -> Slot:
        """Allocate a slot; evicts cached prefixes, least recently used first, except `but`."""
        while not self._slots.fits(length) and self._prefixes.drop_oldest(but):
            pass
        try:
            return self._slots.allocate(length)
        except Exception as error:
            if isinstance(error, EngineMemoryError) or not is_out_of_memory(error):
                raise
            forget_locals(error)
            freed = self._free_more()
            while self._prefixes.drop_oldest(but):
                freed = True
            if not freed:
                raise
        return self._slots.allocate(length)
