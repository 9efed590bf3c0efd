"""LMDeploy's real front end over an engine that runs on a CPU, in an environment of its own."""

import sys
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from golden import checkpoint_folder

from langchain_internvl._optional import is_installed

HERE = Path(__file__).parent
HAS_LMDEPLOY = is_installed("lmdeploy")
# Elsewhere there is nothing to collect: `make test-lmdeploy` has the environment.
collect_ignore_glob = [] if HAS_LMDEPLOY else ["*"]

sys.path.insert(0, str(HERE))
if HAS_LMDEPLOY:
    import cpu_engine
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    cpu_engine.install()

from nodes import Nodes
from patience import PATIENCE

from langchain_internvl import ChatInternVL
from langchain_internvl.backends.lmdeploy.view import make_view
from langchain_internvl.checkpoint import open_checkpoint
from langchain_internvl.prompting.tokenization import load_tokenizer
from langchain_internvl.template_choice import choose_template


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.lmdeploy)


@pytest.fixture(scope="session")
def prompts():
    """What prompts of a checkpoint are made with, by its name."""
    kept = {}

    def get(name):
        if name not in kept:
            checkpoint = open_checkpoint(name if name == "nano" else str(checkpoint_folder(name)))
            tokenizer = load_tokenizer(checkpoint.folder)
            template = choose_template(checkpoint, tokenizer)
            kept[name] = SimpleNamespace(
                checkpoint=checkpoint,
                tokenizer=tokenizer,
                template=template,
                stop_ids=frozenset([tokenizer.stop_id(template.stop)]),
            )
        return kept[name]

    return get


@pytest.fixture(scope="session")
def inside():
    """Greedy chat models over LMDeploy's pipeline, by the name of the checkpoint."""
    kept = {}

    def get(name, **settings):
        if name not in kept:
            kept[name] = ChatInternVL(
                model=name if name == "nano" else str(checkpoint_folder(name)),
                backend="lmdeploy",
                # The engine that stands for TurboMind: LMDeploy's own for Phi-3 needs a GPU.
                engine_options={"engine": "turbomind"},
                temperature=0,
                max_tokens=24,
            )
        return kept[name].model_copy(update=settings)

    yield get
    for llm in kept.values():
        llm.close()


@pytest.fixture(scope="session")
def backends(inside):
    """The LMDeploy backend of a checkpoint, by its name."""

    def get(name):
        llm = inside(name)
        return llm._backend(llm._renderer(llm))

    return get


@pytest.fixture(scope="session")
def pipes(backends):
    """LMDeploy's own pipeline of a checkpoint, by its name."""
    return lambda name: backends(name)._load().result()._pipe


@pytest.fixture(scope="session")
def engines(pipes):
    """The engine of a checkpoint, by its name."""
    return lambda name: pipes(name).async_engine.engine


@pytest.fixture(scope="session")
def nodes(tmp_path_factory):
    park = Nodes(tmp_path_factory.mktemp("nodes"))
    yield park
    park.close()


@pytest.fixture(scope="session")
def views(tmp_path_factory, prompts):
    """Views of checkpoints, by name."""
    kept = {}

    def get(name):
        if name not in kept:
            own = prompts(name)
            folder = tmp_path_factory.mktemp("views") / name
            kept[name] = make_view(own.checkpoint, own.tokenizer, folder)
        return kept[name]

    return get


@pytest.fixture(scope="session")
def servers(nodes, views, prompts):
    """An API server of each checkpoint, by its name."""
    kept = {}

    def get(name):
        if name not in kept:
            own = prompts(name)
            kept[name] = nodes.serve(
                views(name),
                model_name=name,
                tool_call_parser="qwen3",
                api_keys=["secret"],
                # LMDeploy's guess leaves out the factor of InternLM2's dynamic rope.
                engine_config={
                    "session_len": own.checkpoint.max_length,
                    "enable_metrics": False,  # of TurboMind's, which this engine does not have
                },
            ).wait()
        return kept[name]

    return get


@pytest.fixture(scope="session")
def outside(servers):
    """Greedy chat models that ask a server, by the name of the checkpoint."""
    kept = {}

    def get(name, **settings):
        if name not in kept:
            kept[name] = ChatInternVL(
                model=name if name == "nano" else str(checkpoint_folder(name)),
                base_url=servers(name).url,
                served_model=name,
                api_key="secret",
                temperature=0,
                max_tokens=24,
            )
        return kept[name].model_copy(update=settings)

    yield get
    for llm in kept.values():
        llm.close()


class Way:
    """LMDeploy in this process, or behind HTTP: a chat model, and what the engine saw."""

    def __init__(self, llms, states, set_pace, keeps_compact):
        self.llm = llms
        self.keeps_compact = keeps_compact
        self.state = states
        self.set_pace = set_pace

    def seen(self, name):
        return self.state(name)["seen"][-1]

    def backend(self, name, **settings):
        llm = self.llm(name, **settings)
        return llm._backend(llm._renderer(llm))

    def is_idle(self, name):
        state = self.state(name)
        return not (state["active"] or state["sessions"] or state["dispatched"])


@pytest.fixture(params=["pipeline", "server"])
def way(request, inside, outside, pipes, servers):
    """Both ways; every test that takes it runs on both."""
    if request.param == "server":

        def set_server_pace(name, **pace):
            url = f"{servers(name).root}/test/pace"
            httpx.post(url, json=pace, timeout=PATIENCE).raise_for_status()

        return Way(outside, lambda name: servers(name).state, set_server_pace, keeps_compact=False)

    def state(name):
        front = pipes(name).async_engine
        return cpu_engine.state_of(front)

    def set_pace(name, **pace):
        vars(pipes(name).async_engine.engine).update(pace)

    return Way(inside, state, set_pace, keeps_compact=True)


def _paced(way, setting, value, usual):
    """Gives what changes a pace of engines, and takes that back at the end."""
    changed = []

    def change(name, to=value):
        changed.append(name)
        way.set_pace(name, **{setting: to})

    yield change
    for name in changed:
        way.set_pace(name, **{setting: usual})


@pytest.fixture
def slow(way):
    """Makes an engine take its time with every token, for this test."""
    yield from _paced(way, "step_seconds", 0.02, 0.0)


@pytest.fixture
def held(way):
    """Makes an engine pause before each token after the first ones, for this test: no reply of
    hundreds of tokens ends by itself meanwhile.
    """
    yield from _paced(way, "hold_after", 8, None)


@pytest.fixture(scope="session")
def here():
    """Chat models of the transformers backend, to compare with."""
    kept = {}

    def get(name, **settings):
        if name not in kept:
            kept[name] = ChatInternVL(
                model=name if name == "nano" else str(checkpoint_folder(name)),
                dtype="float32",
                temperature=0,
                max_tokens=24,
            )
        return kept[name].model_copy(update=settings)

    yield get
    for llm in kept.values():
        llm.close()
