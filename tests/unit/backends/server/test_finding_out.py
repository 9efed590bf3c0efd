"""Callers who need to know how a server is asked: one finds out, the others wait for it."""

import threading

import pytest
from patience import PATIENCE

from langchain_internvl.backends import served
from langchain_internvl.backends.base import EngineStats
from langchain_internvl.backends.registry import Engines
from langchain_internvl.backends.served import Served
from langchain_internvl.errors import BackendError, RequestTimeoutError, ServerUnavailableError


class Asked:
    """A backend that is only closed."""

    def __init__(self):
        self.closed = 0

    def close(self):
        self.closed += 1


class Finding:
    """Finds out in its own time."""

    def __init__(self, outcome):
        self.outcome = outcome
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.times = 0

    def __call__(self):
        self.times += 1
        self.begun.set()
        assert self.may_end.wait(PATIENCE)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


def start(engines, make, told, timeout=None):
    """A thread that asks, and tells what it got."""

    def run():
        try:
            told.append(engines.served("x", make, timeout))
        except Exception as error:  # noqa: BLE001 - told to the test
            told.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.fixture
def slow():
    """Engines, a server that is being looked for, and what the first caller is told."""
    engines, finding, told = Engines(), Finding(Served(Asked(), None, takes_turns=True)), []
    thread = start(engines, finding, told)
    assert finding.begun.wait(PATIENCE)
    yield engines, finding, told, thread
    finding.may_end.set()
    thread.join(PATIENCE)


def test_others_wait_for_their_own_time_only(slow):
    engines, finding, _, _ = slow
    with pytest.raises(RequestTimeoutError, match=r"timeout=0\.1 s"):
        engines.served("x", finding, 0.1)
    assert not finding.may_end.is_set()
    assert finding.times == 1


def test_nobody_else_is_held_up_meanwhile(slow):
    engines, finding, told, thread = slow
    assert engines.stats == EngineStats()
    engines.close()
    finding.may_end.set()
    thread.join(PATIENCE)
    (error,) = told
    assert isinstance(error, BackendError)
    assert finding.outcome.backend.closed == 1


def test_all_get_what_one_found(slow):
    engines, finding, told, thread = slow
    others = [start(engines, finding, told) for _ in range(3)]
    finding.may_end.set()
    for one in (thread, *others):
        one.join(PATIENCE)
    assert told == [finding.outcome] * 4
    assert finding.times == 1
    engines.close()
    assert finding.outcome.backend.closed == 1


@pytest.mark.parametrize(
    ("error", "again"), [(ServerUnavailableError("x"), False), (RequestTimeoutError("x"), True)]
)
def test_a_failure_is_told_and_not_kept(error, again, monkeypatch):
    engines, finding, told = Engines(), Finding(error), []
    good = Served(Asked(), None, takes_turns=True)
    first = start(engines, finding, told)
    assert finding.begun.wait(PATIENCE)
    waits, wait = threading.Event(), served.wait
    monkeypatch.setattr(served, "wait", lambda *asked: waits.set() or wait(*asked))
    second = start(engines, lambda: good, told)
    assert waits.wait(PATIENCE)
    finding.may_end.set()
    first.join(PATIENCE)
    second.join(PATIENCE)
    assert error in told
    assert (good in told) is again
    assert engines.served("x", lambda: good) is good
