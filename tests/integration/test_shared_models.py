"""One model for all: instances, copies and processes that share a loaded checkpoint."""

import copy
import gc
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from engine_support import FOLDER, ids, threads
from golden import checkpoint_folder
from langchain_core.messages import HumanMessage
from langchain_core.runnables import ConfigurableField
from patience import PATIENCE

from langchain_internvl import ChatInternVL
from langchain_internvl.backends.base import EngineStats
from langchain_internvl.backends.transformers import backend as backend_module
from langchain_internvl.errors import (
    BackendError,
    RequestError,
)


@pytest.fixture
def loads(monkeypatch):
    """What is loaded, by dtype."""
    loaded = []
    load_model = backend_module.load_model

    def count(checkpoint, image_token_id, options, may_stop):
        loaded.append(options.dtype)
        return load_model(checkpoint, image_token_id, options, may_stop)

    monkeypatch.setattr(backend_module, "load_model", count)
    return loaded


def chat(**settings):
    return ChatInternVL(model=str(checkpoint_folder("llama")), max_tokens=2, **settings)


def test_instances_and_copies_share_a_model(loads):
    first, second, other = chat(), chat(temperature=0.5), chat(dtype="float16")
    for llm in (
        first, second, first.bind(seed=1), first.with_config(tags=["a"]), first.model_copy(),
    ):  # fmt: skip
        llm.invoke("x")
    assert loads == ["auto"]
    other.invoke("x")
    assert loads == ["auto", "float16"]
    llm.close()
    first.close()
    second.invoke("x")
    assert loads == ["auto", "float16"]
    second.close()
    first.invoke("x")
    assert loads == ["auto", "float16", "auto"]
    for llm in (first, other):
        llm.close()
    assert first.engine_stats == EngineStats()
    assert not threads()


def test_a_checkpoint_is_known_by_what_it_holds(loads, tmp_path, monkeypatch):
    """By no spelling of its folder, and not when its files have changed."""
    folder = tmp_path / "a" / "model"
    shutil.copytree(checkpoint_folder("llama"), folder)
    monkeypatch.chdir(tmp_path / "a")
    spelled = ["model", "./model", "../a/model", str(folder)]
    llms = [ChatInternVL(model=name, max_tokens=2) for name in spelled]
    for llm in llms:
        llm.invoke("x")
    assert loads == ["auto"]
    (tmp_path / "b").mkdir()
    shutil.copytree(checkpoint_folder("qwen2"), tmp_path / "b" / "model")
    monkeypatch.chdir(tmp_path / "b")
    other = ChatInternVL(model="model", max_tokens=2)
    other.invoke("x")
    assert loads == ["auto"] * 2
    assert other.prompt_ids("x") != llms[0].prompt_ids("x")
    for llm in llms:
        llm.close()
    os.utime(folder / "model.safetensors", ns=(1, 1))
    again = ChatInternVL(model=str(folder), max_tokens=2)
    again.invoke("x")
    assert loads == ["auto"] * 3
    for llm in (other, again):
        llm.close()


def test_a_model_is_warmed_up_and_its_caches_are_cleared_for_all(loads):
    first, second = chat(), chat()
    first.warm_up()
    assert loads == ["auto"]
    long = "word " * 50
    for _ in range(2):
        reply = second.invoke(long)
    assert reply.usage_metadata["input_token_details"]["cache_read"] > 32
    first.clear_caches()
    assert "input_token_details" not in second.invoke(long).usage_metadata
    first.close()
    second.close()


def test_engine_options_are_those_of_the_shared_engine(loads):
    plain, first = chat(), chat(engine_options={"max_rows": 3})
    first.invoke("x")
    plain.invoke("x")
    assert loads == ["auto"]
    other = chat(engine_options={"max_rows": 4})
    with pytest.raises(RequestError, match=r"in use with Limits\(max_rows=3"):
        other.invoke("x")
    for llm in (first, plain):
        llm.close()
    other.invoke("x")
    assert loads == ["auto"] * 2
    other.close()


def test_a_copy_with_other_options_leaves_the_original_alone(loads):
    llm = chat()
    llm.invoke("x")
    copies = [
        llm.model_copy(update={"engine_options": {"max_rows": 4}}),
        llm.model_copy(update={"engine_options": {"max_rows": 4}}, deep=True),
        pickle.loads(pickle.dumps(llm.model_copy(update={"engine_options": {"max_rows": 4}}))),
    ]
    for other in copies:
        with pytest.raises(RequestError, match="in use with Limits"):
            other.invoke("x")
        assert llm.invoke("x").usage_metadata
    assert loads == ["auto"]
    llm.close()
    for other in copies:
        other.invoke("x")
    assert loads == ["auto"] * 2
    for other in copies:
        other.close()
    assert not threads()


@pytest.mark.parametrize(
    "copied",
    [
        lambda llm: llm.model_copy(),
        lambda llm: llm.model_copy(update={"temperature": 0.5}),
        copy.copy,
        copy.deepcopy,
        lambda llm: pickle.loads(pickle.dumps(llm)),
    ],
)
def test_closing_a_copy_leaves_running_replies_alone(loads, copied):
    llm = chat()
    running = llm.stream("x")
    next(running)
    other = copied(llm)
    other.invoke("x")
    other.close()
    list(running)
    llm.invoke("x")
    assert loads == ["auto"]
    llm.close()
    assert not threads()


def test_options_may_be_assigned_and_assigned_back(loads):
    llm = chat()
    llm.invoke("x")
    for options in ({"max_rows": 4}, {}, {"max_rows": 3}, {"max_rows": 4}):
        llm.engine_options = options
        assert llm.invoke("x").usage_metadata
    llm.close()
    assert not threads()


def test_closing_beside_calls_of_others_leaves_nothing_closed(loads):
    """A call that comes while the last one closes gets an engine that works."""
    llms = [chat(), chat()]
    with ThreadPoolExecutor(3) as pool:
        for _ in range(10):
            closing = pool.submit(llms[0].close)
            calls = [pool.submit(llm.invoke, "x") for llm in llms]
            closing.result()
            for call in calls:
                error = call.exception()
                assert error is None or "closed" in str(error)
    for llm in llms:
        assert llm.invoke("x").usage_metadata
        llm.close()


def test_configurable_fields_do_not_load_anew(loads):
    llm = chat().configurable_fields(max_tokens=ConfigurableField("length"))
    for length in (1, 2, 3):
        reply = llm.with_config(configurable={"length": length}).invoke([HumanMessage("x")])
        assert reply.usage_metadata["output_tokens"] <= length
    assert loads == ["auto"]
    gc.collect()
    other = chat(dtype="float16")
    other.invoke("x")
    assert loads == ["auto", "float16"]
    other.close()


def test_an_engine_without_users_makes_room_for_another(loads):
    llm = chat()
    llm.invoke("x")
    abandoned = llm._backend(llm._renderer(llm))
    del llm
    gc.collect()
    again = chat()
    again.invoke("x")
    assert loads == ["auto"]
    del again
    gc.collect()
    other = chat(dtype="float16")
    other.invoke("x")
    with pytest.raises(BackendError, match="closed"):
        ids(abandoned, 1, 2)
    other.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_is_told(tmp_path):
    program = f"""
import os, sys
from langchain_internvl import ChatInternVL
llm = ChatInternVL(model={str(FOLDER)!r}, max_tokens=2)
llm.prompt_ids("x")
if sys.argv[1] == "loaded":
    llm.invoke("x")
child = os.fork()
if not child:
    try:
        print("said", llm.invoke("x").usage_metadata["output_tokens"], flush=True)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print("parent", llm.invoke("x").usage_metadata["output_tokens"])
"""

    def run(state):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program, state],
            capture_output=True, text=True, timeout=PATIENCE, check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        return done.stdout

    told = run("loaded")
    assert "BackendError a model was loaded before os.fork()" in told
    assert "parent 2" in told
    told = run("not loaded")
    assert "said 2" in told
    assert "parent 2" in told


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_nothing_hangs_in_a_forked_process():
    """Not a reply that was begun before, nor whoever needs a lock that a lost thread has.

    The decode loop stands still from its second step until the process has forked: however slow
    the machine, the reply has begun and not ended.
    """
    program = f"""
import itertools, os, threading
from langchain_internvl import ChatInternVL
from langchain_internvl.backends.transformers.decoding import DecodeLoop
from langchain_internvl.backends.transformers.loading import _LOADING
from langchain_internvl.backends.registry import SHARED
step, steps, forked = DecodeLoop.step, itertools.count(), threading.Event()
def held_step(loop):
    if next(steps):
        forked.wait({PATIENCE})
    return step(loop)
DecodeLoop.step = held_step
llm = ChatInternVL(model={str(FOLDER)!r})
begun = llm.stream("x")
next(begun)
locked, done = threading.Event(), threading.Event()
def hold():
    with llm._engines._lock, SHARED._lock, _LOADING, llm._engines.media._lock:
        locked.set()
        done.wait({PATIENCE})
threading.Thread(target=hold).start()
locked.wait({PATIENCE})
child = os.fork()
if not child:
    def told(run):
        try:
            run()
        except Exception as error:
            print(type(error).__name__, error, flush=True)
    told(lambda: list(begun))
    told(lambda: llm.invoke("x"))
    told(lambda: ChatInternVL(model={str(FOLDER)!r}, dtype="bfloat16").invoke("x"))
    llm.close()
    told(lambda: llm.invoke("x"))
    os._exit(0)
os.waitpid(child, 0)
done.set()
forked.set()
llm.close()
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True, text=True, timeout=PATIENCE, check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.stdout.count("BackendError a model was loaded before os.fork()") == 4
