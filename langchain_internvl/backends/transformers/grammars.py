"""Constrained decoding: grammars are compiled once for a vocabulary; each sequence has its state.

xgrammar (https://xgrammar.mlc.ai) computes the mask of permitted tokens for every decode step.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping
from concurrent.futures import Future
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from langchain_internvl._optional import require
from langchain_internvl.errors import BackendError, SchemaError
from langchain_internvl.forks import renew_after_fork
from langchain_internvl.grammars.json_rules import with_rules
from langchain_internvl.reply_text.detokenization import with_markup

if TYPE_CHECKING:
    from langchain_internvl.backends.base import Request
    from langchain_internvl.grammars.grammar import Grammar

MOST_COMPILED = 256
"""Maximum number of cached grammars of a vocabulary."""

_MOST_VOCABULARIES = 8


class Grammars:
    """The grammars of one vocabulary, each compiled once; thread-safe.

    Args:
        token_bytes: Bytes of each token id; tokens without bytes are never permitted.

    Attributes:
        compilations: Number of compilations so far.
    """

    def __init__(self, token_bytes: Mapping[int, bytes]) -> None:
        self.compilations = 0
        self._token_bytes = token_bytes
        self._compiled: OrderedDict[str, Future[Any]] = OrderedDict()
        self._renew()
        renew_after_fork(self, Grammars._renew)

    def _renew(self) -> None:
        """New locks; a forked process compiles anew what no thread of it is compiling."""
        self._lock, self._compiling = threading.Lock(), threading.Lock()
        for form, result in list(self._compiled.items()):
            if not result.done():
                del self._compiled[form]

    def has(self, grammar: Grammar) -> bool:
        """Whether a grammar has been compiled."""
        with self._lock:
            result = self._compiled.get(grammar.format)
            return result is not None and result.done()

    def compile(self, grammar: Grammar) -> Any:
        """A grammar, compiled for the vocabulary.

        Raises:
            ImportError: The extra `transformers` is not installed.
            SchemaError: It cannot be compiled.
        """
        with self._lock:
            result = self._compiled.get(grammar.format)
            is_new = result is None
            if result is None:
                result = self._compiled[grammar.format] = Future()
            self._compiled.move_to_end(grammar.format)
            if len(self._compiled) > MOST_COMPILED:
                self._compiled.popitem(last=False)
        if is_new:
            self._fulfil(result, grammar.format)
        return result.result()

    def _fulfil(self, result: Future[Any], form: str) -> None:
        """Compile for all waiting requests; sequences with compiled grammars do not wait."""
        try:
            with self._compiling:
                compiled = self._compile(form)
                self.compilations += 1
        except BaseException as error:  # noqa: BLE001 - they raise it
            with self._lock:
                self._compiled.pop(form, None)
            result.set_exception(error)
        else:
            result.set_result(compiled)

    def follow(self, grammar: Grammar, stop_ids: Iterable[int]) -> GrammarState:
        """The initial state of a grammar; raises the errors of `compile`.

        Args:
            grammar: The grammar.
            stop_ids: Token ids that end the reply, permitted where the grammar is complete.
        """
        return GrammarState(self.compile(grammar), stop_ids)

    @cached_property
    def _compiler(self) -> Any:
        xgrammar = require("xgrammar", extra="transformers")
        table = [self._token_bytes.get(one, b"") for one in range(max(self._token_bytes) + 1)]
        info = xgrammar.TokenizerInfo(table, xgrammar.VocabType.RAW, stop_token_ids=[])
        threads = min(8, os.cpu_count() or 1)
        return xgrammar.GrammarCompiler(info, max_threads=threads, cache_enabled=False)

    def _compile(self, form: str) -> Any:
        xgrammar = require("xgrammar", extra="transformers")
        tag = {"type": "structural_tag", "format": with_rules(json.loads(form))}
        try:
            return self._compiler.compile_grammar(xgrammar.Grammar.from_structural_tag(tag))
        except (RuntimeError, ValueError) as error:  # of any kind, from C++
            raise SchemaError(f"the schema cannot be made into a grammar: {error}") from error


class GrammarState:
    """State of a grammar within one reply.

    Args:
        compiled: The compiled grammar.
        stop_ids: Token ids that end the reply.
    """

    def __init__(self, compiled: Any, stop_ids: Iterable[int]) -> None:
        xgrammar = require("xgrammar", extra="transformers")
        known = sorted(one for one in stop_ids if one < compiled.tokenizer_info.vocab_size)
        self._matcher = xgrammar.GrammarMatcher(compiled, override_stop_tokens=known or None)
        self._mask: torch.Tensor = xgrammar.allocate_token_bitmask(
            1, compiled.tokenizer_info.vocab_size
        )

    def mask(self) -> torch.Tensor:
        """Bit mask of the permitted next tokens, int32 [1, vocabulary / 32]; valid until `accept`.

        Raises:
            BackendError: No token of the vocabulary is permitted.
        """
        self._matcher.fill_next_token_bitmask(self._mask)
        if not self._mask.any():
            raise BackendError("the vocabulary cannot spell what the grammar asks for")
        return self._mask

    def accept(self, token_id: int) -> None:
        """Advance the state by a permitted token."""
        if not self._matcher.accept_token(token_id):
            raise BackendError(f"token {token_id} is not in the grammar")


def apply_masks(logits: torch.Tensor, masks: Mapping[int, torch.Tensor]) -> torch.Tensor:
    """Set the logits of forbidden tokens to minus infinity.

    Args:
        logits: float32 [sequences, vocabulary]; not changed.
        masks: `GrammarState.mask` by row, for rows with a grammar.

    Returns:
        Logits of the same shape. Columns beyond the mask (padding of the embedding) are forbidden.
    """
    if not masks:
        return logits
    scores = logits.clone()
    if scores.device.type == "cpu":
        xgrammar = require("xgrammar", extra="transformers")
        for row, mask in masks.items():
            size = min(32 * mask.shape[-1], scores.shape[-1])
            xgrammar.apply_token_bitmask_inplace(scores[row : row + 1], mask, vocab_size=size)
            scores[row, size:] = float("-inf")
        return scores
    # Not xgrammar's GPU kernels: they are compiled at run time, and need a compiler.
    words = -(-scores.shape[-1] // 32)
    packed = torch.zeros(len(masks), words, dtype=torch.int32)
    for place, mask in enumerate(masks.values()):
        count = min(words, mask.shape[-1])
        packed[place, :count] = mask[0, :count]
    bits = torch.arange(32, dtype=torch.int32, device=scores.device)
    allowed = (packed.to(scores.device)[:, :, None] >> bits & 1).bool().flatten(1)
    rows = torch.tensor(list(masks), device=scores.device)
    forbidden = ~allowed[:, : scores.shape[-1]]
    scores[rows] = scores[rows].masked_fill(forbidden, float("-inf"))
    return scores


_KNOWN: OrderedDict[tuple[bytes, int], Grammars] = OrderedDict()
_KNOWN_LOCK = threading.Lock()


class GrammarBook:
    """The grammars of one tokenizer, with a vocabulary for each set of markup tokens of requests.

    Args:
        token_bytes: Bytes of each token id.
    """

    def __init__(self, token_bytes: Mapping[int, bytes]) -> None:
        self._token_bytes = token_bytes
        self._grammars: dict[Hashable, Grammars] = {}

    def has(self, request: Request) -> bool:
        """Whether a request has no grammar, or a compiled one."""
        if request.grammar is None:
            return True
        known = self._grammars.get(self._key(request))
        return known is not None and known.has(request.grammar)

    def compile(self, request: Request) -> None:
        """Compile the grammar of a request before its sequence begins.

        Raises:
            ImportError: The extra `transformers` is not installed.
            SchemaError: It cannot be compiled.
        """
        if request.grammar is not None:
            self._of(request).compile(request.grammar)

    def begin(self, request: Request) -> GrammarState | None:
        """The initial grammar state of a request; None: no grammar. Raises as `compile`."""
        if request.grammar is None:
            return None
        return self._of(request).follow(request.grammar, request.stop_ids)

    def _key(self, request: Request) -> Hashable:
        return tuple(sorted(request.markup.items()))

    def _of(self, request: Request) -> Grammars:
        key = self._key(request)
        if key not in self._grammars:
            self._grammars[key] = grammars_of(with_markup(self._token_bytes, request.markup))
        return self._grammars[key]


def grammars_of(token_bytes: Mapping[int, bytes]) -> Grammars:
    """The grammars of a vocabulary, shared by engines with the same vocabulary."""
    digest = hashlib.sha256()
    for token_id, data in sorted(token_bytes.items()):
        digest.update(b"%d %d " % (token_id, len(data)) + data)
    key = digest.digest(), os.getpid()
    with _KNOWN_LOCK:
        if key not in _KNOWN:
            _KNOWN[key] = Grammars(token_bytes)
            if len(_KNOWN) > _MOST_VOCABULARIES:
                _KNOWN.popitem(last=False)
        _KNOWN.move_to_end(key)
        return _KNOWN[key]
