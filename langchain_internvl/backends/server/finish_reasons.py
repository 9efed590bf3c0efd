"""Finish reasons of servers, in the words of this package.

OpenAI's protocol has five reasons. Servers and gateways that only resemble it pass on those of
their engines and models. Case and punctuation do not matter (`MAX_TOKENS`, `maxTokens`).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

from langchain_internvl.errors import BrokenReplyError

_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "stop": (
        *("stop", "tool_calls", "function_call"),  # OpenAI, LMDeploy, vLLM, SGLang, llama.cpp
        *("eos_token", "stop_sequence"),  # TGI before 2.3
        *("eos", "eos_token_id", "stop_token", "stop_string", "stop_str"),  # Together and others
        *("end_turn", "tool_use"),  # Claude's, at gateways
        *("complete", "completed", "tool_call"),  # Cohere's, and those of the Responses API
        *("eog_token", "stop_trigger"),  # node-llama-cpp
    ),
    "length": (
        "length",
        *("max_tokens", "model_context_window_exceeded"),  # Claude's and Gemini's, at gateways
        *("model_length", "max_length"),  # Mistral and others
        *("max_output_tokens", "max_new_tokens", "max_completion_tokens"),
        *("context_length", "context_length_exceeded", "token_limit"),
    ),
    "content_filter": (
        *("content_filter", "content_filtered", "guardrail_intervened"),  # OpenAI, Bedrock
        *("refusal", "sensitive", "error_toxic"),  # Claude, Zhipu, Cohere
        *("safety", "recitation", "blocklist", "prohibited_content", "spii"),  # Gemini
    ),
    "repetition": ("repetition",),  # vLLM
}
"""Spellings of each reason that this package knows."""

_GIVEN_UP = (
    *("abort", "aborted", "error"),  # LMDeploy, vLLM, SGLang, OpenRouter
    *("cancel", "cancelled", "canceled", "failed", "timeout"),
    *("insufficient_system_resource", "network_error", "server_error", "internal_error"),
)
"""Reasons that are errors: the server stopped before the reply was whole."""

_UNFINISHED = ("", "null", "none")
"""Text that some servers send in every chunk before the last."""


def _key(reason: str) -> str:
    """The letters of a reason, in lower case."""
    return re.sub(r"[\W_]", "", reason.lower())


_KNOWN = {_key(one): reason for reason, spelled in _SPELLINGS.items() for one in spelled}
_ERRORS = frozenset(map(_key, _GIVEN_UP))


def sent_reason(choice: Mapping[str, Any]) -> str | None:
    """The finish reason of a choice as the server spells it; None: the reply continues.

    Raises:
        BrokenReplyError: It is neither text nor an object with a `type` (SGLang's own API).
    """
    reason = choice.get("finish_reason")
    if isinstance(reason, Mapping):
        reason = reason.get("type")
    if not isinstance(reason, (str, type(None))):
        raise BrokenReplyError(f"the server's finish reason is {reason!r}, which is none")
    return None if reason is None or reason.strip().lower() in _UNFINISHED else reason


def finish_reason(reason: str) -> str:
    """The finish reason of a server in the words of this package; an unknown one stays as it is.

    Raises:
        BrokenReplyError: The server aborted the reply.
    """
    key = _key(reason)
    if key in _ERRORS:
        raise BrokenReplyError(f"the server gave up the reply: {reason}")
    return _KNOWN.get(key, reason)


def is_known(reason: str) -> bool:
    """Whether the finish reason of a reply is one of this package's words."""
    return reason in _SPELLINGS


def warn_of_unknown(reason: str) -> None:
    """Warn about the finish reason of a reply that this package does not know.

    Args:
        reason: The reason, with secrets masked.
    """
    warnings.warn(
        f"the server ended the reply with the finish reason {reason!r}, which is not known here: "
        "the reply is kept as if it were whole, and the reason is in its response_metadata",
        stacklevel=2,
    )
