"""Copies of a tokenizer, as the JSON of the `tokenizers` library, that recognise no control tokens.

Added tokens and merges that lead to them are removed, so that no text becomes one of them; the
prefix of SentencePiece is removed for text inside a prompt.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langchain_internvl.errors import UnsupportedCheckpointError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def without_added_tokens(state: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer (as JSON) without its added tokens, so that no text becomes one of them."""
    model = dict(state["model"])
    if model["type"] != "BPE":
        raise UnsupportedCheckpointError(
            f"tokenizers of type {model['type']} are not supported; InternVL's are BPE"
        )
    control = {token["id"] for token in state["added_tokens"]}
    vocabulary: dict[str, int] = model["vocab"]
    # SentencePiece vocabularies have control tokens as pieces, under their own or an older name.
    model["merges"] = [
        (left, right)
        for left, right in map(_merge_pair, model["merges"])
        if not control & {vocabulary.get(piece) for piece in (left, right, left + right)}
    ]
    if model.get("ignore_merges"):  # whole words are looked up before merging
        model["vocab"] = {piece: id_ for piece, id_ in vocabulary.items() if id_ not in control}
    return {**state, "added_tokens": [], "post_processor": None, "model": model}


def build_tokenizer(state: dict[str, Any]) -> Tokenizer:
    """A tokenizer of the `tokenizers` library, from its JSON."""
    from tokenizers import Tokenizer  # noqa: PLC0415 - part of an optional extra

    return Tokenizer.from_str(json.dumps(state))


def _merge_pair(merge: str | Sequence[str]) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def adds_prefix(pre_tokenizer: Any) -> bool:
    """Whether the first text of a prompt gets SentencePiece's dummy prefix."""
    if not isinstance(pre_tokenizer, dict):
        return False
    inner = pre_tokenizer.get("pretokenizers", ())
    return pre_tokenizer.get("prepend_scheme") == "first" or any(map(adds_prefix, inner))


def without_first_prefix(pre_tokenizer: Any) -> Any:
    """A pre-tokenizer for text inside a prompt, where the prefix scheme "first" adds no prefix."""
    if not isinstance(pre_tokenizer, dict):
        return pre_tokenizer
    changed = dict(pre_tokenizer)
    if changed.get("prepend_scheme") == "first":
        changed["prepend_scheme"] = "never"
    if "pretokenizers" in changed:
        changed["pretokenizers"] = [without_first_prefix(one) for one in changed["pretokenizers"]]
    return changed
