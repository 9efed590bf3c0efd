"""Two nodes behind LMDeploy's proxy, one of them killed at random moments under load.

Counted by request id, at the client and at the nodes: every request has one complete reply or one
raised error, nothing is asked again after its first token, and nothing is left over.
"""

import random
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import pytest
from engine_support import wait_until
from nodes import free_port
from patience import PATIENCE

from langchain_internvl.backends.base import Request
from langchain_internvl.backends.server.backend import ServerBackend, ServerOptions
from langchain_internvl.backends.server.client import ServerAddress
from langchain_internvl.backends.server.retries import Retries
from langchain_internvl.errors import BrokenReplyError, ServerError

KILLS = 50
CALLERS = 6
RETRIES = 2
TOKENS = 12


@dataclass
class Outcome:
    """What a caller has of one request."""

    prompt: tuple[int, ...]
    ids: list[int] = field(default_factory=list)
    reason: str | None = None
    error: Exception | None = None


@dataclass
class Park:
    """Two nodes on ports that stay the same, whoever listens there."""

    nodes: object
    view: object
    proxy: object
    ports: tuple[int, int]

    def start(self, place):
        return self.nodes.serve(
            self.view,
            port=self.ports[place],
            model_name="qwen2",
            proxy_url=self.proxy.root,
            engine_config={"enable_metrics": False},
            environment={"CPU_ENGINE_STEP_SECONDS": "0.004"},
        )


@pytest.fixture(scope="module")
def park(nodes, views):
    proxy = nodes.proxy().wait()
    return Park(nodes, views("qwen2"), proxy, (free_port(), free_port()))


@pytest.fixture
def backend(park, prompts):
    own = prompts("qwen2")
    options = ServerOptions("qwen2", Retries(RETRIES, first=0.05))
    backend = ServerBackend(ServerAddress(park.proxy.url), options, (own.checkpoint, own.tokenizer))
    yield backend
    backend.close()


def prompt_of(number):
    """A prompt for each request, from tokens that mean nothing here."""
    return (5, 10 + number // 900 % 900, 10 + number % 900)


def ask(backend, number):
    outcome = Outcome(prompt_of(number))
    try:
        for delta in backend.stream(Request(outcome.prompt, max_tokens=TOKENS, timeout=PATIENCE)):
            outcome.ids.append(delta.token_id)
            outcome.reason = delta.finish_reason
    except ServerError as error:
        outcome.error = error
    return outcome


def test_every_request_has_one_reply_or_one_error(park, backend, here, prompts, capsys):
    alive = [park.start(place).wait() for place in (0, 1)]
    assert wait_until(backend.models)
    outcomes, numbers = [], iter(range(10**6))
    lock, stopped = threading.Lock(), threading.Event()

    def call():
        while not stopped.is_set():
            with lock:
                number = next(numbers)
            outcome = ask(backend, number)
            with lock:
                outcomes.append(outcome)

    callers = [threading.Thread(target=call) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    chance = random.Random(7)
    killed = set()
    for _ in range(KILLS):
        # Under load: some requests have begun since the last kill, on a slow machine too.
        begun = park.nodes.count("begun") + chance.randint(1, 12)
        assert wait_until(lambda begun=begun: park.nodes.count("begun") >= begun)
        time.sleep(chance.uniform(0, 0.05))
        place = chance.randrange(2)
        alive[place].kill()
        killed.add(alive[place].pid)
        alive[place] = park.start(place)
        alive[place].wait()
    stopped.set()
    for caller in callers:
        caller.join(PATIENCE)
    assert not any(caller.is_alive() for caller in callers)

    with lock:
        asked = next(numbers)
    assert len(outcomes) == asked  # every request has come back, once
    complete = [one for one in outcomes if one.error is None]
    failed = [one for one in outcomes if one.error is not None]
    check_replies(complete, here)
    # A node writes down that it finished after its caller has the last token.
    for node in alive:
        assert wait_until(lambda node=node: is_idle(node.state)), node.state
    check_nodes(park.nodes.read_events(), complete, failed, killed)
    with capsys.disabled():
        kinds = dict(Counter(type(one.error).__name__ for one in failed))
        print(f" {KILLS} kills, {asked} requests: {len(complete)} replies, {kinds}", end=" ")
    assert complete
    assert failed


def is_idle(state):
    return not (state["active"] or state["sessions"] or state["dispatched"])


def check_replies(complete, here):
    """Whole, and what the transformers backend says."""
    llm = here("qwen2")
    local = llm._backend(llm._renderer(llm))
    for outcome in complete:
        assert outcome.reason == "length"
        assert len(outcome.ids) == TOKENS
    for outcome in complete[:: max(1, len(complete) // 25)]:
        expected = local.stream(Request(outcome.prompt, max_tokens=TOKENS))
        assert outcome.ids == [delta.token_id for delta in expected]


def check_nodes(events, complete, failed, killed):
    """What the nodes have seen of each request."""
    ids, attempts, finished = defaultdict(set), Counter(), defaultdict(list)
    began = defaultdict(set)
    for event in events:
        if event["event"] == "begun":
            ids[tuple(event["prompt"])].add(event["request"])
            attempts[event["request"]] += 1
            began[event["request"]].add(event["node"])
        elif event["event"] == "finished":
            finished[event["request"]].append(event["node"])
    for outcome in (*complete, *failed):
        assert len(ids[outcome.prompt]) <= 1  # retries keep the id
    for outcome in complete:
        (request_id,) = ids[outcome.prompt]
        assert 1 <= attempts[request_id] <= 1 + RETRIES
        # A node that finished and died before it had sent anything is asked for nothing more.
        lost = [node for node in finished[request_id] if node in killed]
        # One that died right after its last token may not have noted that it had finished.
        assert finished[request_id] or began[request_id] & killed
        assert len(finished[request_id]) - len(lost) <= 1
    for outcome in failed:
        known = ids[outcome.prompt]
        assert known <= {outcome.error.request_id}
        begun = isinstance(outcome.error, BrokenReplyError)
        assert begun == bool(outcome.ids), outcome
        assert attempts[outcome.error.request_id] <= 1 + RETRIES
        if begun:
            assert 0 < len(outcome.ids) < TOKENS


def test_a_model_that_no_node_has(park, prompts):
    own = prompts("qwen2")
    tokens = own.checkpoint, own.tokenizer
    backend = ServerBackend(ServerAddress(park.proxy.url), ServerOptions("no-such-model"), tokens)
    with pytest.raises(ServerError, match=r"no-such-model.*It has: qwen2"):
        list(backend.stream(Request([5], max_tokens=1)))
    backend.close()
