"""How a reply is made, in LMDeploy's terms; the same for its pipeline and its server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from langchain_internvl.errors import RequestError
from langchain_internvl.grammars.json_rules import with_rules

if TYPE_CHECKING:
    from langchain_internvl.backends.base import Request, Sampling
    from langchain_internvl.checkpoint import Checkpoint
    from langchain_internvl.prompting.tokenization import PromptTokenizer

COLDEST = 1e-5
"""Below this temperature only the likeliest token is left, and LMDeploy would divide by it."""

_HOTTEST = 2.0
"""LMDeploy takes no higher temperature."""

_SEEDS = 2**64
"""It takes seeds from 0 up to this; negative ones are counted back from it."""


def is_greedy(sampling: Sampling) -> bool:
    """Whether the likeliest token is taken always."""
    return sampling.temperature < COLDEST or sampling.top_k == 1


def sampling_parameters(sampling: Sampling) -> dict[str, Any]:
    """LMDeploy's names for how tokens are chosen.

    Greedy is `top_k=1`: its server always samples, at temperature 0 too, and its pipeline forgets
    the repetition penalty where it does not.

    Raises:
        RequestError: The temperature is higher than LMDeploy takes.
    """
    parameters: dict[str, Any] = {"repetition_penalty": float(sampling.repetition_penalty)}
    if is_greedy(sampling):
        return {**parameters, "top_k": 1, "top_p": 1.0, "temperature": 1.0}
    if sampling.temperature > _HOTTEST:
        raise RequestError(
            f"LMDeploy takes temperatures up to {_HOTTEST:g}, not {sampling.temperature:g}"
        )
    return {
        **parameters,
        "top_k": int(sampling.top_k),
        "top_p": float(sampling.top_p),
        "temperature": float(sampling.temperature),
    }


def seed_of(sampling: Sampling) -> int | None:
    """The seed as LMDeploy takes it."""
    return None if sampling.seed is None else sampling.seed % _SEEDS


def eos_ids(checkpoint: Checkpoint, tokenizer: PromptTokenizer) -> frozenset[int]:
    """The end tokens that LMDeploy adds to those that it is told."""
    own = tokenizer.eos_id
    return frozenset(checkpoint.eos_ids) | (frozenset() if own is None else {own})


class StopRule:
    """Who ends a reply: the engine, or we.

    LMDeploy adds the end tokens of the tokenizer and of the generation config to all others, and
    takes none at all if it is to ignore them (`ignore_eos`). The reference stops at the template's
    separator only. So where the separator is the only end token the engine stops; else it ignores
    all, and the reply is cut here.

    Args:
        request: The request.
        eos_ids: The end tokens that LMDeploy adds.

    Attributes:
        ids: Tokens that end the reply.
        ignores_eos: Whether the engine is told to ignore end tokens.
    """

    def __init__(self, request: Request, eos_ids: frozenset[int]) -> None:
        # After a whole JSON value a grammar allows the tokenizer's own end token and nothing else.
        is_bound = request.grammar is not None or request.has_to_call
        self.ids = request.stop_ids | eos_ids if is_bound else request.stop_ids
        self.ignores_eos = not eos_ids <= self.ids


def response_format(request: Request) -> dict[str, Any] | None:
    """What the reply may be, for LMDeploy's guided decoding in this process.

    Raises:
        SchemaError: It cannot be made into rules.
    """
    if request.grammar is None:
        return None
    return {"type": "structural_tag", "format": with_rules(json.loads(request.grammar.format))}


def schema_format(request: Request) -> dict[str, Any] | None:
    """What the reply may be, for servers, which enforce JSON schemas and no other grammar.

    Where words are let through too, the reply is free: a call that is malformed is told as such.

    Raises:
        RequestError: The grammar is another one.
    """
    grammar = request.grammar
    if grammar is None or grammar.allows_words or request.has_to_call:
        return None
    if grammar.schema is None:
        raise RequestError(
            "a server enforces replies that are one JSON value, and calls of tools; this reply may "
            "be something else. Leave out the tools or the response_format, or use a backend in "
            "this process"
        )
    return json_schema_format(grammar.schema)


def json_schema_format(schema: str) -> dict[str, Any]:
    """OpenAI's `response_format` for a JSON schema, given as JSON."""
    named = {"name": "reply", "schema": json.loads(schema), "strict": True}
    return {"type": "json_schema", "json_schema": named}


def refuse_choices(request: Request) -> None:
    """Refuse to choose among texts, which LMDeploy and servers cannot weigh.

    Raises:
        RequestError: There are some.
    """
    if request.choices:
        raise RequestError('this backend cannot weigh choices; use backend="transformers"')
