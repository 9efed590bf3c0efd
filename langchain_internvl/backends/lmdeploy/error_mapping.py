"""Error codes of LMDeploy, mapped to errors of this package."""

from __future__ import annotations

from collections.abc import Mapping

from langchain_internvl.errors import (
    BackendError,
    ContextOverflowError,
    EngineUnavailableError,
    InternVLError,
    PromptError,
    RequestError,
)

_TYPES: Mapping[str, type[InternVLError]] = {
    "invalid_request": RequestError,
    "unauthorized": BackendError,
    "model_not_found": RequestError,
    "request_conflict": BackendError,
    "context_length_exceeded": ContextOverflowError,
    "unsupported_feature": RequestError,
    "preprocess_failed": PromptError,
    "request_cancelled": BackendError,
    "engine_unavailable": EngineUnavailableError,
    "internal_error": BackendError,
}
"""Error types by LMDeploy's `ErrorCode`."""


def to_error(code: str, message: str) -> InternVLError:
    """The error for a code of LMDeploy; unknown codes give a `BackendError`."""
    return _TYPES.get(code, BackendError)(f"LMDeploy: {message} ({code})")
