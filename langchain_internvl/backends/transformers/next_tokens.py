"""Chooses the next token of every sequence, or one of the choices of its request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_internvl.backends.base import Delta
from langchain_internvl.backends.transformers.grammars import apply_masks
from langchain_internvl.backends.transformers.sampling import sample
from langchain_internvl.backends.transformers.sequences import Sequence

if TYPE_CHECKING:
    import torch

    from langchain_internvl.backends.transformers.forward import LanguageModel


@dataclass(frozen=True)
class Failure:
    """The error that ended a sequence."""

    error: Exception


Event = tuple[Sequence, Delta | Failure]


def add_next_tokens(sequences: list[Sequence], logits: torch.Tensor) -> list[Event]:
    """Sample the next token of every sequence, within its grammar, and add it to the reply.

    Args:
        sequences: The sequences.
        logits: Logits of their next tokens, float32 [sequences, vocabulary].

    Returns:
        The delta of each sequence, or its error; an error of one does not affect the others.
    """
    masks: dict[int, torch.Tensor] = {}
    failures: dict[int, Failure] = {}
    for row, sequence in enumerate(sequences):
        if sequence.grammar is not None:
            try:
                masks[row] = sequence.grammar.mask()
            except Exception as error:  # noqa: BLE001 - fails this sequence only
                failures[row] = Failure(error)
    states = [one.sampler for one in sequences]
    before = [state.position for state in states]
    try:
        sampled = sample(apply_masks(logits, masks), states)
    except BaseException:
        for state, position in zip(states, before, strict=True):  # the step may be repeated
            state.return_to(position)
        raise
    return [
        (one, failures.get(row) or _accept(one, sampled[row])) for row, one in enumerate(sequences)
    ]


def begin_reply(
    sequence: Sequence, logits: torch.Tensor, language_model: LanguageModel
) -> Delta | Failure:
    """The first token of a reply, or the whole reply if the request has choices.

    Args:
        sequence: A sequence whose prefill is complete.
        logits: Logits of its next token, float32 [1, vocabulary].
        language_model: Weighs the choices.
    """
    choices = sequence.request.choices
    if choices:
        weights = [language_model.weigh(sequence, logits[0], one.ids) for one in choices]
        return sequence.choose(weights)
    ((_, event),) = add_next_tokens([sequence], logits)
    return event


def _accept(sequence: Sequence, sampled: Any) -> Delta | Failure:
    try:
        return sequence.accept(sampled)
    except Exception as error:  # noqa: BLE001 - such as logits that are not finite
        return Failure(error)
