"""What chat models have loaded: tokenizers, engines and videos, each once.

A chat model and its copies, deep ones too, share one `Engines`. Engines of the same checkpoint
and settings are shared by all in the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from langchain_internvl._optional import require
from langchain_internvl.backends.base import EngineStats
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
        self,
        checkpoint: Checkpoint,
        tokenizer: PromptTokenizer,
        limits: Mapping[str, Any],
        **options: Any,
    ) -> Backend:
        """The transformers backend of a checkpoint, one for all who ask for the same.

        Args:
            checkpoint: The checkpoint.
            tokenizer: Its tokenizer.
            limits: Fields of `backends.transformers.admission.Limits`.
            **options: Fields of `backends.transformers.loading.LoadOptions`.

        Raises:
            ImportError: The extra `transformers` is not installed.
            RequestError: A limit is unknown or out of range.
        """
        require("torch", extra="transformers")
        # Imported here: only this backend needs torch.
        from langchain_internvl.backends.transformers.admission import Limits  # noqa: PLC0415
        from langchain_internvl.backends.transformers.backend import (  # noqa: PLC0415
            TransformersBackend,
        )
        from langchain_internvl.backends.transformers.loading import LoadOptions  # noqa: PLC0415

        checked = Limits.from_options(limits)
        key = (checkpoint.folder, checked, repr(sorted(options.items(), key=lambda item: item[0])))
        with self._lock:
            if key not in self._backends:
                self._backends[key] = SHARED.get(
                    key,
                    self,
                    lambda: TransformersBackend(
                        checkpoint, tokenizer, LoadOptions(**options), checked
                    ),
                )
            return self._backends[key]

    @property
    def stats(self) -> EngineStats:
        """What the engines are doing, all together."""
        with self._lock:
            known = [getattr(one, "stats", EngineStats()) for one in self._backends.values()]
        return EngineStats(
            *(sum(getattr(one, field.name) for one in known) for field in fields(EngineStats))
        )

    def close(self) -> None:
        """Give up all engines; those that nobody else uses are closed. Tokenizers are kept."""
        with self._lock:
            keys = list(self._backends)
            self._backends.clear()
        for key in keys:
            SHARED.release(key, self)

    def _keep(self, key: Hashable, load: Callable[[], T]) -> T:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = load()
            kept: T = self._kept[key]
            return kept


class _SharedBackends:
    """The loaded backends of this process.

    One that has lost its last user stays, for the next who asks for the same, until another is
    made: then its memory may be needed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._backends: dict[Hashable, tuple[Backend, WeakSet[Engines]]] = {}

    def get(self, key: Hashable, user: Engines, make: Callable[[], Backend]) -> Backend:
        with self._lock:
            if key not in self._backends:
                for idle in [key for key, (_, users) in self._backends.items() if not users]:
                    self._backends.pop(idle)[0].close()
                self._backends[key] = make(), WeakSet()
            backend, users = self._backends[key]
            users.add(user)
            return backend

    def release(self, key: Hashable, user: Engines) -> None:
        with self._lock:
            backend, users = self._backends.get(key, (None, WeakSet()))
            users.discard(user)
            if backend is None or users:
                return
            del self._backends[key]
        backend.close()


SHARED = _SharedBackends()
