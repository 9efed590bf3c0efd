"""Registry of loaded tokenizers, engines and media, each loaded once.

Each chat model and each copy has its own `Engines`, so closing or changing one does not affect the
others. Tokenizers and engines of the same checkpoint and settings are shared by the whole process,
media and servers by a model and its copies.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from langchain_internvl._optional import require
from langchain_internvl.backends.base import EngineStats
from langchain_internvl.backends.lmdeploy.options import EngineOptions
from langchain_internvl.backends.served import Prompts, Served, Servers
from langchain_internvl.backends.transformers.limits import Limits
from langchain_internvl.checkpoint import Checkpoint, open_checkpoint
from langchain_internvl.errors import RequestError
from langchain_internvl.forks import renew_after_fork
from langchain_internvl.media.reader import MediaReader
from langchain_internvl.model_files.generation import warn_of_unapplied
from langchain_internvl.model_files.hub import local_folder
from langchain_internvl.prompting.tokenization import PromptTokenizer, load_tokenizer
from langchain_internvl.template_choice import choose_template

if TYPE_CHECKING:
    from langchain_internvl.backends.base import Backend


class Engines:
    """Loads tokenizers and engines on demand, and keeps them.

    Attributes:
        media: Reader of videos and PDFs.
        without_prompts: Checkpoints whose tokenizer is not available, for backends that do not
            need it.
    """

    def __init__(self) -> None:
        self.without_prompts: set[Hashable] = set()
        self._prompts: dict[Hashable, Prompts] = {}
        # Arguments of `_share` to the key in `SHARED` and the backend.
        self._backends: dict[Hashable, tuple[Hashable, Backend]] = {}
        self._servers = Servers()
        self.media = MediaReader()
        self._renew_lock()
        renew_after_fork(self, Engines._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()

    def for_copy(self) -> Engines:
        """The engines of a copy of the model, which loads nothing twice and closes on its own."""
        copied = Engines()
        copied._prompts = self._prompts.copy()
        copied._servers = self._servers
        copied.media = self.media
        return copied

    def __deepcopy__(self, _memo: dict[int, Any]) -> Engines:
        return self.for_copy()

    def __reduce__(self) -> tuple[type[Engines], tuple[()]]:
        """Pickle as empty: another process loads its own engines."""
        return Engines, ()

    def prompts(
        self, model: str, revision: str | None, template: str | None, *, runs_here: bool = True
    ) -> Prompts:
        """The checkpoint's description, tokenizer and chat template.

        Args:
            model: The checkpoint; see `open_checkpoint`.
            revision: Branch, tag or commit on the hub.
            template: Name of a template; None: the checkpoint's own.
            runs_here: Whether the transformers backend will run the checkpoint.

        Raises:
            CheckpointError: The checkpoint cannot be opened.
        """
        key = model, revision, template, runs_here
        with self._lock:
            if key not in self._prompts:
                checkpoint = open_checkpoint(model, revision, runs_here=runs_here)
                folder = checkpoint.folder.resolve()
                tokenizer = _tokenizer(folder, _state(folder, "*.json", "*.model", "*.txt"))
                self._prompts[key] = (
                    checkpoint,
                    tokenizer,
                    choose_template(checkpoint, tokenizer, template),
                )
            return self._prompts[key]

    def transformers(
        self,
        checkpoint: Checkpoint,
        tokenizer: PromptTokenizer,
        limits: Mapping[str, Any],
        adapter: str | None = None,
        **options: Any,
    ) -> Backend:
        """The transformers backend of a checkpoint, shared by all models with the same options.

        Args:
            checkpoint: The checkpoint.
            tokenizer: Its tokenizer.
            limits: Fields of `backends.transformers.limits.Limits`; empty: keep the limits of an
                engine that is already loaded.
            adapter: LoRA adapter: a folder, or an id on the hub; None: there is none.
            **options: Other fields of `backends.transformers.loading.LoadOptions`.

        Raises:
            ImportError: The extra `transformers` is not installed.
            RequestError: A limit is unknown or out of range, or another chat model uses the
                engine with other limits.
        """
        require("torch", extra="transformers")
        # Imported here: only this backend needs torch.
        from langchain_internvl.backends.transformers.backend import (  # noqa: PLC0415
            TransformersBackend,
        )
        from langchain_internvl.backends.transformers.loading import LoadOptions  # noqa: PLC0415

        checked = Limits.from_options(limits)

        def make(found: str | None) -> Backend:
            chosen = LoadOptions(adapter=found, **options)
            return TransformersBackend(checkpoint, tokenizer, chosen, checked)

        chosen = repr(sorted(options.items(), key=lambda item: item[0]))
        return self._share(checkpoint, chosen, make, checked, adapter, is_strict=bool(limits))

    def lmdeploy(
        self,
        checkpoint: Checkpoint,
        tokenizer: PromptTokenizer,
        dtype: str,
        options: Mapping[str, Any],
    ) -> Backend:
        """The LMDeploy backend of a checkpoint, shared by all models with the same options.

        Args:
            checkpoint: The checkpoint.
            tokenizer: Its tokenizer.
            dtype: Data type of the weights.
            options: Fields of LMDeploy's engine config; see `backends.lmdeploy.options`.

        Raises:
            ImportError: The extra `lmdeploy` is not installed.
            RequestError: The data type or the engine is unknown.
        """
        require("lmdeploy", extra="lmdeploy")
        # Imported here: only this backend needs LMDeploy.
        from langchain_internvl.backends.lmdeploy.backend import LMDeployBackend  # noqa: PLC0415

        chosen = EngineOptions.from_mapping(dtype, options)

        def make(_: str | None) -> Backend:
            return LMDeployBackend(checkpoint, tokenizer, chosen)

        return self._share(checkpoint, f"lmdeploy {chosen!r}", make, is_strict=False)

    def served(
        self, name: Hashable, make: Callable[[], Served], timeout: float | None = None
    ) -> Served:
        """A server, shared by the model and its copies; see `Servers.get`."""
        return self._servers.get(name, self, make, timeout)

    def _share(
        self,
        checkpoint: Checkpoint,
        chosen: str,
        make: Callable[[str | None], Backend],
        limits: Limits | None = None,
        adapter: str | None = None,
        *,
        is_strict: bool,
    ) -> Backend:
        asked = checkpoint.folder, chosen, limits, adapter, is_strict
        with self._lock:
            if asked not in self._backends:
                warn_of_unapplied(checkpoint.generation, checkpoint.folder)
                folder = checkpoint.folder.resolve()
                found, files = _adapter_files(adapter)
                name = folder, _state(folder, "*.json", "*.safetensors"), chosen, found, files
                backend = SHARED.get(name, self, partial(make, found), limits, is_strict=is_strict)
                # A backend with other limits under this key was replaced and closed.
                for key, (known, _) in list(self._backends.items()):
                    if known == name and self._backends[key][1] is not backend:
                        del self._backends[key]
                self._backends[asked] = name, backend
            return self._backends[asked][1]

    @property
    def stats(self) -> EngineStats:
        """The counters of all engines of this model, added up."""
        with self._lock:
            all_ = [backend for _, backend in self._backends.values()]
            all_ += self._servers.backends(self)
            backends = {id(backend): backend for backend in all_}
        known = [getattr(one, "stats", EngineStats()) for one in backends.values()]
        return EngineStats(
            *(sum(getattr(one, field.name) for one in known) for field in fields(EngineStats))
        )

    def clear_caches(self) -> None:
        """Clear the prefix and feature caches of all engines that have any."""
        with self._lock:
            backends = [backend for _, backend in self._backends.values()]
        for backend in backends:
            clear = getattr(backend, "clear_caches", None)
            if clear is not None:
                clear()

    def close(self) -> None:
        """Release all engines, and close those without other users; tokenizers are kept."""
        with self._lock:
            names = {name for name, _ in self._backends.values()}
            self._backends.clear()
            unused = [SHARED.release(name, self) for name in names]
        for backend in (*filter(None, unused), *self._servers.release(self)):
            backend.close()


def _state(folder: Path, *patterns: str) -> tuple[tuple[str, int, int], ...]:
    """Fingerprint of files: name, size in bytes and modification time of each."""
    files = sorted(file for pattern in patterns for file in folder.glob(pattern))
    states = [(file.name, file.stat()) for file in files if file.is_file()]
    return tuple((name, state.st_size, state.st_mtime_ns) for name, state in states)


def _adapter_files(name: str | None) -> tuple[str | None, Hashable]:
    """An adapter, with the absolute path of its folder, and the fingerprint of its files.

    An id on the hub stays as it is: its files do not change.
    """
    folder = None if name is None else local_folder(name)
    if folder is None:
        return name, ()
    folder = folder.resolve()
    return str(folder), _state(folder, "*.json", "*.safetensors")


@lru_cache(maxsize=8)
def _tokenizer(folder: Path, _state: Hashable) -> PromptTokenizer:
    return load_tokenizer(folder)


@dataclass(frozen=True)
class _Shared:
    """A backend and its users."""

    backend: Backend
    limits: Limits | None
    users: WeakSet[Engines] = field(default_factory=WeakSet)


class _SharedBackends:
    """The loaded backends of this process.

    A backend whose last user was garbage-collected stays loaded for the next user of the same key.
    It is closed when another backend is made, which may need its memory.
    """

    def __init__(self) -> None:
        self._backends: dict[Hashable, _Shared] = {}
        self._renew_lock()
        renew_after_fork(self, _SharedBackends._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def get(
        self,
        name: Hashable,
        user: Engines,
        make: Callable[[], Backend],
        limits: Limits | None,
        *,
        is_strict: bool,
    ) -> Backend:
        """The backend of a key, made if there is none.

        Args:
            name: Key of the backend: checkpoint, state of its files and options.
            user: The engines that will use it.
            make: Makes the backend.
            limits: Limits of the engine; None: it has none.
            is_strict: Whether a backend with other limits must be replaced.

        Raises:
            RequestError: Another chat model uses the backend with other limits.
        """
        idle: list[Backend] = []
        with self._lock:
            shared = self._backends.get(name)
            if shared is not None and is_strict and shared.limits != limits:
                if set(shared.users) - {user}:
                    raise RequestError(
                        f"the model is in use with {shared.limits}; give this instance the same "
                        "engine_options or none, or close() the others first"
                    )
                idle.append(self._backends.pop(name).backend)
                shared = None
            if shared is None:
                unused = [key for key, one in self._backends.items() if not one.users]
                idle += [self._backends.pop(key).backend for key in unused]
                shared = self._backends[name] = _Shared(make(), limits)
            shared.users.add(user)
        for backend in idle:  # without the lock: closing may wait for a running step
            backend.close()
        return shared.backend

    def release(self, name: Hashable, user: Engines) -> Backend | None:
        """End a user's use of a backend.

        Returns:
            The backend, for the caller to close, if it has no users left; else None.
        """
        with self._lock:
            shared = self._backends.get(name)
            if shared is None:
                return None
            shared.users.discard(user)
            if shared.users:
                return None
            return self._backends.pop(name).backend


SHARED = _SharedBackends()
