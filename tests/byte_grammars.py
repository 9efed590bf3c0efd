"""Grammars over a vocabulary of bytes: what they let through, drawn by chance or tried out."""

import json

import torch

from langchain_internvl.backends.transformers.grammars import Grammars, apply_masks
from langchain_internvl.errors import BackendError
from langchain_internvl.grammars.grammar import json_grammar
from langchain_internvl.grammars.schemas import check_schema

END = 256
BYTES = {**{byte: bytes([byte]) for byte in range(256)}, END: b""}
GRAMMARS = Grammars(BYTES)


def draw(schema, seed, most=400):
    """A reply of chance that a schema lets through, as bytes; None if it got long."""
    state = GRAMMARS.follow(json_grammar(check_schema(schema)), [END])
    chance = torch.Generator().manual_seed(seed)
    data = b""
    for _ in range(most):
        odds = apply_masks(torch.zeros(1, END + 1), {0: state.mask()})[0].softmax(-1)
        token = int(torch.multinomial(odds, 1, generator=chance))
        state.accept(token)
        if token == END:
            return data
        data += BYTES[token]
    return None


def accepts(schema, text):
    """Whether a schema lets a reply through."""
    state = GRAMMARS.follow(json_grammar(check_schema(schema)), [END])
    try:
        for byte in text.encode("utf-8", "surrogatepass"):
            state.accept(byte)
        state.accept(END)
    except BackendError:
        return False
    return True


def accepts_value(schema, value):
    """Whether a schema lets a value through, as compact JSON."""
    return accepts(schema, json.dumps(value, ensure_ascii=False, separators=(",", ":")))
