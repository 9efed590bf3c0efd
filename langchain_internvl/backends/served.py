"""Servers of a chat model and its copies: contacted once, closed by the last user."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakSet

from langchain_internvl.backends.bridge import ReplyDeadline
from langchain_internvl.errors import BackendError, RequestTimeoutError
from langchain_internvl.forks import renew_after_fork

if TYPE_CHECKING:
    from langchain_internvl.backends.base import Backend
    from langchain_internvl.checkpoint import Checkpoint
    from langchain_internvl.prompting.templates import ChatTemplate
    from langchain_internvl.prompting.tokenization import PromptTokenizer

Prompts = tuple["Checkpoint", "PromptTokenizer", "ChatTemplate"]
"""Checkpoint, tokenizer and chat template of the prompts."""


@dataclass(frozen=True)
class Served:
    """A server and the form of its prompts.

    Attributes:
        backend: The backend that sends the requests.
        prompts: Checkpoint, tokenizer and template, if they are on this machine.
        takes_turns: Whether it is prompted by messages rather than by token ids.
    """

    backend: Backend
    prompts: Prompts | None
    takes_turns: bool


class Servers:
    """The servers of a chat model and its copies.

    A user is any object that stands for one chat model; it is not kept alive.
    """

    def __init__(self) -> None:
        self._found: dict[Hashable, Future[Served]] = {}
        self._users: dict[Hashable, WeakSet[object]] = {}
        self._renew_lock()
        renew_after_fork(self, Servers._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()
        # The threads that contact the others do not exist in a forked process.
        self._found = {name: one for name, one in self._found.items() if one.done()}

    def get(
        self,
        name: Hashable,
        user: object,
        make: Callable[[], Served],
        timeout: float | None = None,
    ) -> Served:
        """The server of a name, contacted if it is not known yet.

        One caller contacts it, without the lock; others wait for the result, each within its own
        timeout.

        Args:
            name: Key of the server: address and settings.
            user: The chat model that uses it.
            make: Contacts the server; keeps to the timeout by itself.
            timeout: Seconds until the caller gives up; None: never.

        Raises:
            RequestTimeoutError: The server was not ready within the timeout.
            InternVLError: Contacting it failed; raised for all callers that waited.
        """
        deadline = ReplyDeadline(timeout)
        while True:
            with self._lock:
                found = self._found.get(name)
                mine: Future[Served] | None = None
                if found is None:
                    found = mine = self._found[name] = Future()
                self._users.setdefault(name, WeakSet()).add(user)
            if mine is not None:
                return self._find(name, make, mine)
            if not wait([found], deadline.for_thread()).done:
                raise deadline.error()
            error = found.exception()
            if error is None:
                return found.result()
            if isinstance(error, Exception) and not isinstance(error, RequestTimeoutError):
                raise error
            # The first caller had less time, or was interrupted: another one tries.

    def release(self, user: object) -> list[Backend]:
        """End a user's use of all servers.

        Returns:
            Backends without users, for the caller to close.
        """
        unused: list[Backend] = []
        with self._lock:
            for name, users in list(self._users.items()):
                users.discard(user)
                if users:
                    continue
                del self._users[name]
                found = self._found.pop(name, None)
                if found is not None and found.done():
                    unused.append(found.result().backend)
        return unused

    def backends(self, user: object) -> list[Backend]:
        """The backends that a user has."""
        with self._lock:
            return [
                found.result().backend
                for name, found in self._found.items()
                if found.done() and user in self._users.get(name, ())
            ]

    def _find(self, name: Hashable, make: Callable[[], Served], mine: Future[Served]) -> Served:
        """Contact a server for all callers that wait; a failure is not kept."""
        try:
            served = make()
        except BaseException as error:
            with self._lock:
                if self._found.get(name) is mine:
                    del self._found[name]
            mine.set_exception(error)
            raise
        with self._lock:
            is_wanted = self._found.get(name) is mine
            if is_wanted:
                mine.set_result(served)
        if is_wanted:
            return served
        served.backend.close()
        closed = BackendError("the model was closed while its server was being contacted")
        mine.set_exception(closed)
        raise closed
