"""What chat models have loaded: tokenizers, engines and videos, each once.

A chat model and its copies, deep ones too, share one `Engines`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_internvl._optional import require
from langchain_internvl.checkpoint import Checkpoint, choose_template, open_checkpoint
from langchain_internvl.media.video_cache import VideoCache
from langchain_internvl.tokenization import PromptTokenizer, load_tokenizer

if TYPE_CHECKING:
    from langchain_internvl.backends.base import Backend
    from langchain_internvl.templates import ChatTemplate

T = TypeVar("T")


class Engines:
    """Loads what is asked for, and keeps it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._kept: dict[Hashable, Any] = {}
        self._backends: dict[Hashable, Backend] = {}
        self.videos = VideoCache()

    def __deepcopy__(self, _memo: dict[int, Any]) -> Engines:
        return self

    def __reduce__(self) -> tuple[type[Engines], tuple[()]]:
        """Another process loads for itself."""
        return Engines, ()

    def prompts(
        self, model: str, revision: str | None, template: str | None
    ) -> tuple[Checkpoint, PromptTokenizer, ChatTemplate]:
        """What prompts are made with: the checkpoint's description, tokenizer and template."""

        def load() -> tuple[Checkpoint, PromptTokenizer]:
            checkpoint = open_checkpoint(model, revision)
            return checkpoint, load_tokenizer(checkpoint.folder)

        checkpoint, tokenizer = self._keep(("prompts", model, revision), load)
        chosen = self._keep(
            ("template", model, revision, template),
            lambda: choose_template(checkpoint, tokenizer, template),
        )
        return checkpoint, tokenizer, chosen

    def transformers(
        self, checkpoint: Checkpoint, tokenizer: PromptTokenizer, **options: Any
    ) -> Backend:
        """The transformers backend of a checkpoint.

        Args:
            checkpoint: The checkpoint.
            tokenizer: Its tokenizer.
            **options: Fields of `backends.transformers.loading.LoadOptions`.

        Raises:
            ImportError: The extra `transformers` is not installed.
        """
        require("torch", extra="transformers")
        key = (checkpoint.folder, repr(sorted(options.items(), key=lambda item: item[0])))
        with self._lock:
            if key not in self._backends:
                # Imported here: only this backend needs torch.
                from langchain_internvl.backends.transformers.backend import (  # noqa: PLC0415
                    TransformersBackend,
                )
                from langchain_internvl.backends.transformers.loading import (  # noqa: PLC0415
                    LoadOptions,
                )

                self._backends[key] = TransformersBackend(
                    checkpoint, tokenizer, LoadOptions(**options)
                )
            return self._backends[key]

    def close(self) -> None:
        """Close all engines; tokenizers are kept."""
        with self._lock:
            backends = list(self._backends.values())
            self._backends.clear()
        for backend in backends:
            backend.close()

    def _keep(self, key: Hashable, load: Callable[[], T]) -> T:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = load()
            kept: T = self._kept[key]
            return kept
