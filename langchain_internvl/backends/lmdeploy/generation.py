"""Generation parameters of LMDeploy, shared by its pipeline and its server."""

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
"""Temperatures below this are greedy decoding; LMDeploy would divide by them."""

_HOTTEST = 2.0
"""Maximum temperature of LMDeploy."""

_SEEDS = 2**64
"""Upper bound of LMDeploy's seeds, exclusive; negative seeds are taken modulo this."""


def is_greedy(sampling: Sampling) -> bool:
    """Whether decoding is greedy."""
    return sampling.temperature < COLDEST or sampling.top_k == 1


def sampling_parameters(sampling: Sampling) -> dict[str, Any]:
    """Sampling parameters under LMDeploy's names.

    Greedy decoding is `top_k=1`: the server always samples, even at temperature 0, and the pipeline
    ignores the repetition penalty when it does not sample.

    Raises:
        RequestError: The temperature is above LMDeploy's maximum.
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
    """The seed in LMDeploy's range; None: random."""
    return None if sampling.seed is None else sampling.seed % _SEEDS


def eos_ids(checkpoint: Checkpoint, tokenizer: PromptTokenizer) -> frozenset[int]:
    """The end tokens that LMDeploy adds to those of a request."""
    own = tokenizer.eos_id
    return frozenset(checkpoint.eos_ids) | (frozenset() if own is None else {own})


class StopRule:
    """Whether the engine or this package ends a reply.

    LMDeploy adds the end tokens of the tokenizer and of the generation config to the given ones,
    or ignores all of them (`ignore_eos`). The reference stops at the template's separator only. So
    the engine ends the reply if the separator is the only end token; otherwise the engine ignores
    end tokens, and the reply is cut here.

    Args:
        request: The request.
        eos_ids: The end tokens that LMDeploy adds.

    Attributes:
        ids: Token ids that end the reply.
        ignores_eos: Value of `ignore_eos`.
    """

    def __init__(self, request: Request, eos_ids: frozenset[int]) -> None:
        # After a complete JSON value a grammar allows only the tokenizer's own end token.
        is_bound = request.grammar is not None or request.has_to_call
        self.ids = request.stop_ids | eos_ids if is_bound else request.stop_ids
        self.ignores_eos = not eos_ids <= self.ids


def response_format(request: Request) -> dict[str, Any] | None:
    """`response_format` of LMDeploy's guided decoding in this process; None: unconstrained.

    Raises:
        SchemaError: The grammar cannot be compiled.
    """
    if request.grammar is None:
        return None
    return {"type": "structural_tag", "format": with_rules(json.loads(request.grammar.format))}


def schema_format(request: Request) -> dict[str, Any] | None:
    """`response_format` of a server, which enforces JSON schemas only; None: unconstrained.

    A reply that may also be plain text is not constrained; malformed tool calls in it are reported.

    Raises:
        RequestError: The grammar is not a JSON schema.
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
    """Refuse requests with `choices`: LMDeploy and servers cannot score given texts.

    Raises:
        RequestError: The request has choices.
    """
    if request.choices:
        raise RequestError('this backend cannot weigh choices; use backend="transformers"')
