"""What chat models have loaded: tokenizers, engines and media, each once.

A chat model and its copies, deep ones too, share one `Engines`. Tokenizers and engines of the
same checkpoint and settings are shared by all in the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from langchain_internvl._optional import require
from langchain_internvl.backends.base import EngineStats
from langchain_internvl.backends.bridge import ReplyDeadline
from langchain_internvl.backends.lmdeploy.options import EngineOptions
from langchain_internvl.backends.transformers.limits import Limits
from langchain_internvl.checkpoint import Checkpoint, choose_template, open_checkpoint
from langchain_internvl.errors import BackendError, RequestError, RequestTimeoutError
from langchain_internvl.forks import renew_after_fork
from langchain_internvl.media.reader import MediaReader
from langchain_internvl.prompting.tokenization import PromptTokenizer, load_tokenizer

if TYPE_CHECKING:
    from langchain_internvl.backends.base import Backend
    from langchain_internvl.prompting.templates import ChatTemplate

Prompts = tuple[Checkpoint, PromptTokenizer, "ChatTemplate"]


@dataclass(frozen=True)
class Served:
    """A server, and how it is asked.

    Attributes:
        backend: Asks it.
        prompts: What prompts are made with, if that is at hand.
        takes_turns: Whether it is asked by messages rather than by ids.
    """

    backend: Backend
    prompts: Prompts | None
    takes_turns: bool


class Engines:
    """Loads what is asked for, and keeps it."""

    def __init__(self) -> None:
        self._prompts: dict[Hashable, Prompts] = {}
        # By what was asked for: the name among the shared ones, and the backend.
        self._backends: dict[Hashable, tuple[Hashable, Backend]] = {}
        self._servers: dict[Hashable, Future[Served]] = {}
        self.media = MediaReader()
        self._renew_lock()
        renew_after_fork(self, Engines._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()
        # Who finds out about the others is a thread that a forked process has not got.
        self._servers = {name: one for name, one in self._servers.items() if one.done()}

    def __deepcopy__(self, _memo: dict[int, Any]) -> Engines:
        return self

    def __reduce__(self) -> tuple[type[Engines], tuple[()]]:
        """Another process loads for itself."""
        return Engines, ()

    def prompts(
        self, model: str, revision: str | None, template: str | None, *, runs_here: bool = True
    ) -> Prompts:
        """What prompts are made with: the checkpoint's description, tokenizer and template.

        Args:
            model: The checkpoint; see `open_checkpoint`.
            revision: Branch, tag or commit on the hub.
            template: Name of a template; None: the checkpoint's own.
            runs_here: Whether the transformers backend shall run it.
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
        **options: Any,
    ) -> Backend:
        """The transformers backend of a checkpoint, one for all who ask for the same.

        Args:
            checkpoint: The checkpoint.
            tokenizer: Its tokenizer.
            limits: Fields of `backends.transformers.limits.Limits`; without any, those of an
                engine that is there already will do.
            **options: Fields of `backends.transformers.loading.LoadOptions`.

        Raises:
            ImportError: The extra `transformers` is not installed.
            RequestError: A limit is unknown or out of range, or others use the model with
                other limits.
        """
        require("torch", extra="transformers")
        # Imported here: only this backend needs torch.
        from langchain_internvl.backends.transformers.backend import (  # noqa: PLC0415
            TransformersBackend,
        )
        from langchain_internvl.backends.transformers.loading import LoadOptions  # noqa: PLC0415

        checked = Limits.from_options(limits)

        def make() -> Backend:
            return TransformersBackend(checkpoint, tokenizer, LoadOptions(**options), checked)

        chosen = repr(sorted(options.items(), key=lambda item: item[0]))
        return self._share(checkpoint, chosen, make, checked, is_strict=bool(limits))

    def lmdeploy(
        self,
        checkpoint: Checkpoint,
        tokenizer: PromptTokenizer,
        dtype: str,
        options: Mapping[str, Any],
    ) -> Backend:
        """The LMDeploy backend of a checkpoint, one for all who ask for the same.

        Args:
            checkpoint: The checkpoint.
            tokenizer: Its tokenizer.
            dtype: Type of its weights.
            options: Fields of LMDeploy's engine config; see `backends.lmdeploy.options`.

        Raises:
            ImportError: The extra `lmdeploy` is not installed.
            RequestError: An option is wrong.
        """
        require("lmdeploy", extra="lmdeploy")
        # Imported here: only this backend needs LMDeploy.
        from langchain_internvl.backends.lmdeploy.backend import LMDeployBackend  # noqa: PLC0415

        chosen = EngineOptions.from_mapping(dtype, options)

        def make() -> Backend:
            return LMDeployBackend(checkpoint, tokenizer, chosen)

        return self._share(checkpoint, f"lmdeploy {chosen!r}", make, None, is_strict=False)

    def served(
        self, name: Hashable, make: Callable[[], Served], timeout: float | None = None
    ) -> Served:
        """A server that this instance asks; it is not shared, as nothing is loaded for it.

        One caller finds out, without the lock; others wait for that, each as long as it may.

        Args:
            name: What it is known by.
            make: Finds out how it is asked; keeps to the timeout by itself.
            timeout: Seconds until it is given up; None: never.

        Raises:
            RequestTimeoutError: It took too long.
            InternVLError: What finding out failed with, for those who waited too.
        """
        deadline = ReplyDeadline(timeout)
        while True:
            with self._lock:
                found = self._servers.get(name)
                mine: Future[Served] | None = None
                if found is None:
                    found = mine = self._servers[name] = Future()
            if mine is not None:
                return self._find_out(name, make, mine)
            if not wait([found], deadline.for_thread()).done:
                raise deadline.error()
            error = found.exception()
            if error is None:
                return found.result()
            if isinstance(error, Exception) and not isinstance(error, RequestTimeoutError):
                raise error
            # That caller had less time, or was interrupted: it is for another one to find out.

    def _find_out(self, name: Hashable, make: Callable[[], Served], mine: Future[Served]) -> Served:
        """Find out for all who wait; a failure is not kept."""
        try:
            served = make()
        except BaseException as error:
            with self._lock:
                if self._servers.get(name) is mine:
                    del self._servers[name]
            mine.set_exception(error)
            raise
        with self._lock:
            is_wanted = self._servers.get(name) is mine
            if is_wanted:
                mine.set_result(served)
        if is_wanted:
            return served
        served.backend.close()
        closed = BackendError("the model was closed while its server was looked for")
        mine.set_exception(closed)
        raise closed

    def _share(
        self,
        checkpoint: Checkpoint,
        chosen: str,
        make: Callable[[], Backend],
        limits: Limits | None,
        *,
        is_strict: bool,
    ) -> Backend:
        asked = checkpoint.folder, chosen, limits, is_strict
        with self._lock:
            if asked not in self._backends:
                folder = checkpoint.folder.resolve()
                name = folder, _state(folder, "*.json", "*.safetensors"), chosen
                backend = SHARED.get(name, self, make, limits, is_strict=is_strict)
                self._backends[asked] = name, backend
            return self._backends[asked][1]

    @property
    def stats(self) -> EngineStats:
        """What the engines are doing, all together."""
        with self._lock:
            all_ = [*(backend for _, backend in self._backends.values()), *self._asked()]
            backends = {id(backend): backend for backend in all_}
        known = [getattr(one, "stats", EngineStats()) for one in backends.values()]
        return EngineStats(
            *(sum(getattr(one, field.name) for one in known) for field in fields(EngineStats))
        )

    def close(self) -> None:
        """Give up all engines; those that nobody else uses are closed. Tokenizers are kept."""
        with self._lock:
            names = {name for name, _ in self._backends.values()}
            self._backends.clear()
            servers = self._asked()
            self._servers.clear()
            unused = [SHARED.release(name, self) for name in names]
        for backend in (*filter(None, unused), *servers):
            backend.close()

    def _asked(self) -> list[Backend]:
        return [one.result().backend for one in self._servers.values() if one.done()]


def _state(folder: Path, *patterns: str) -> tuple[tuple[str, int, int], ...]:
    """What changes if one of these files does."""
    files = sorted(file for pattern in patterns for file in folder.glob(pattern))
    states = [(file.name, file.stat()) for file in files if file.is_file()]
    return tuple((name, state.st_size, state.st_mtime_ns) for name, state in states)


@lru_cache(maxsize=8)
def _tokenizer(folder: Path, _state: Hashable) -> PromptTokenizer:
    return load_tokenizer(folder)


@dataclass(frozen=True)
class _Shared:
    """A backend and those who use it."""

    backend: Backend
    limits: Limits | None
    users: WeakSet[Engines] = field(default_factory=WeakSet)


class _SharedBackends:
    """The loaded backends of this process.

    One that has lost its last user stays, for the next who asks for the same, until another is
    made: then its memory may be needed.
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
        """The backend of a name, made if there is none.

        Args:
            name: What it is known by.
            user: Who will use it.
            make: Makes it.
            limits: What it was asked to take on.
            is_strict: Whether one with other limits will not do.

        Raises:
            RequestError: Others use it with other limits.
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
        for backend in idle:  # which may have to finish a step first
            backend.close()
        return shared.backend

    def release(self, name: Hashable, user: Engines) -> Backend | None:
        """Use it no more.

        Returns:
            The backend, to be closed, if nobody uses it now.
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
