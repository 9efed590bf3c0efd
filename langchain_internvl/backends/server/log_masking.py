"""Masks secrets in the log records of the HTTP libraries.

At levels INFO and DEBUG they write reason phrases and headers of responses, and errors that quote
them. A server may echo the API key there.
"""

from __future__ import annotations

import logging
import traceback
import weakref

from langchain_internvl.backends.server.redaction import MOST_READ, Redactor

_LOGGERS = (
    "openai", "openai._base_client", "openai._response", "openai._legacy_response",
    "httpx", "httpx2",
    *(f"{library}.{module}" for library in ("httpcore", "httpcore2")
      for module in ("connection", "http11", "http2", "proxy", "socks")),
)  # fmt: skip
"""Loggers with records of responses. (A filter of a logger does not see its children's records.)"""


class _Mask(logging.Filter):
    """Masks the secrets of one backend in all records; it removes none.

    Args:
        redactor: The secrets; referenced weakly, because loggers live as long as the process.
    """

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = weakref.ref(redactor)

    def filter(self, record: logging.LogRecord) -> bool:
        redactor = self._redactor()
        if redactor is None:
            return True
        if record.exc_info:  # some releases of openai log errors with tracebacks
            said = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
            masked = redactor.mask(said)
            if masked != said:
                record.exc_info, record.exc_text = None, masked
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - arguments that do not fit; logging would print them
            try:
                text = f"{record.msg} with the arguments {record.args}"
            except Exception:  # noqa: BLE001 - nor have they a text
                return True
            record.msg, record.args = text, ()
        masked = redactor.mask(text[:MOST_READ])
        if masked != text[:MOST_READ]:
            record.msg, record.args = masked, ()
        elif len(text) > MOST_READ:  # for example a request with images
            record.msg, record.args = masked + "...", ()
        return True


def mask_logs(redactor: Redactor) -> None:
    """Mask secrets in the records of the HTTP libraries, as long as the redactor is in use."""
    mask = _Mask(redactor)
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.addFilter(mask)
        weakref.finalize(redactor, logger.removeFilter, mask)
