"""What is special to LMDeploy in this process."""

import os
import threading

import pytest
from engine_support import wait_until
from golden import checkpoint_folder
from langchain_core.messages import HumanMessage
from lmdeploy import PytorchEngineConfig, TurbomindEngineConfig
from lmdeploy.serve.core.exceptions import ErrorCode
from lmdeploy.serve.core.exceptions import RequestError as TheirError
from nano_training.trials import draw_trials
from patience import PATIENCE

from langchain_internvl import ChatInternVL, image_block, video_block
from langchain_internvl.backends.base import Request
from langchain_internvl.backends.lmdeploy.options import EngineOptions
from langchain_internvl.checkpoint import read_checkpoint
from langchain_internvl.errors import (
    BackendError,
    CheckpointError,
    ContextOverflowError,
    EngineUnavailableError,
    PromptError,
    RequestError,
)

EXACT = {
    "invalid_request": RequestError,
    "unauthorized": BackendError,
    "model_not_found": RequestError,
    "request_conflict": BackendError,
    "context_length_exceeded": ContextOverflowError,
    "unsupported_feature": RequestError,
    "preprocess_failed": PromptError,
    "request_cancelled": BackendError,
    "engine_unavailable": EngineUnavailableError,
    "internal_error": BackendError,
}


@pytest.mark.parametrize("code", list(ErrorCode))
def test_each_error_code_is_one_type(code, backends, pipes, monkeypatch):
    backend = backends("qwen2")
    list(backend.stream(Request([5], max_tokens=1)))

    async def fail(*_, **__):
        raise TheirError(code, "in words")

    monkeypatch.setattr(pipes("qwen2").async_engine, "preprocess", fail)
    with pytest.raises(EXACT[code.value], match="in words") as caught:
        list(backend.stream(Request([5])))
    assert type(caught.value) is EXACT[code.value]
    assert wait_until(lambda: not pipes("qwen2").session_mgr.sessions)


def test_a_fault_without_a_code(backends, pipes, monkeypatch):
    list(backends("qwen2").stream(Request([5], max_tokens=1)))

    async def fail(*_, **__):
        raise ZeroDivisionError("inside")

    monkeypatch.setattr(pipes("qwen2").async_engine, "preprocess", fail)
    with pytest.raises(BackendError, match="ZeroDivisionError: inside"):
        list(backends("qwen2").stream(Request([5])))


def config_of(name, **options):
    checkpoint = read_checkpoint(checkpoint_folder(name))
    return EngineOptions.from_mapping("auto", options).config(checkpoint, 4096)


def test_the_engine_that_runs_a_model_and_its_options():
    config = config_of("internlm2", tp=2, session_len=1000, quant_policy=8, model_format="awq")
    assert isinstance(config, TurbomindEngineConfig)
    told = config.tp, config.session_len, config.quant_policy, config.model_format
    assert told == (2, 1000, 8, "awq")
    assert config.enable_prefix_caching
    assert not config_of("qwen2", enable_prefix_caching=False).enable_prefix_caching
    assert config_of("qwen2").session_len == 4096
    # InternVL2-4B, which TurboMind has not.
    assert isinstance(config_of("phi3", tp=2), PytorchEngineConfig)
    assert isinstance(config_of("qwen2", engine="pytorch"), PytorchEngineConfig)


def test_options_that_are_none():
    with pytest.raises(RequestError, match="no option 'sesion_len'; did you mean 'session_len'"):
        config_of("qwen2", sesion_len=3)
    with pytest.raises(RequestError, match="turbomind engine"):
        config_of("qwen2", tp="many")


def make(**settings):
    return ChatInternVL(
        model=str(checkpoint_folder("qwen2")), backend="lmdeploy", temperature=0, max_tokens=400,
        **settings,
    )  # fmt: skip


def engine_of(llm):
    return llm._backend(llm._renderer(llm))._load().result()._pipe.async_engine.engine


def test_instances_share_an_engine_and_the_last_one_frees_it():
    one, other = (
        make(engine_options={"session_len": 999}),
        make(engine_options={"session_len": 999}),
    )
    assert one.invoke("Hello", max_tokens=2).content
    engine = engine_of(one)
    assert engine_of(other) is engine
    one.close()
    assert not engine.is_closed
    other.close()
    assert engine.is_closed


def test_closing_ends_what_runs_and_the_next_reply_loads_again():
    llm = make(engine_options={"session_len": 998})
    llm.invoke("Hello", max_tokens=1)
    engine = engine_of(llm)
    engine.hold_after = 2
    stream = llm._backend(llm._renderer(llm)).stream(Request([5, 6, 8], max_tokens=400))
    next(stream)
    closing = threading.Thread(target=llm.close)
    closing.start()
    with pytest.raises(BackendError, match="closed"):
        list(stream)
    closing.join(PATIENCE)
    assert not closing.is_alive()
    assert engine.is_closed
    assert llm.invoke("Hello", max_tokens=2).content
    llm.close()


def test_views_are_not_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    llm = make(engine_options={"session_len": 997})
    llm.invoke("Hello", max_tokens=1)
    assert list(tmp_path.glob("internvl-view-*"))
    llm.close()
    del llm
    assert wait_until(lambda: not list(tmp_path.glob("internvl-view-*")))


def test_a_model_that_lmdeploy_cannot_load(monkeypatch):
    def fail(*_, **__):
        raise MemoryError("no room")

    monkeypatch.setattr("lmdeploy.pipeline", fail)
    llm = make(engine_options={"session_len": 996})
    with pytest.raises(CheckpointError, match=r"LMDeploy cannot load .*MemoryError: no room"):
        llm.invoke("Hello")
    monkeypatch.undo()
    assert llm.invoke("Hello", max_tokens=1).usage_metadata["output_tokens"] == 1
    llm.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_process_says_that_it_has_no_engine(backends):
    backend = backends("qwen2")
    list(backend.stream(Request([5], max_tokens=1)))
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            list(backend.stream(Request([5], max_tokens=1)))
            said = "a reply"
        except BaseException as error:  # noqa: BLE001 - told to the parent
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        assert b"BackendError: LMDeploy does not survive os.fork()" in told.read()
    os.waitpid(pid, 0)


@pytest.mark.parametrize("job", ["describe", "ask", "few lines", "video", "ground"])
def test_nano_sees_the_same_on_every_backend(job, inside, outside, here):
    """Real pictures of the trials that it is measured by, and real answers."""
    for trial in draw_trials(job, 3):
        pictures = [image_block(one) for one in trial.pictures]
        shown = [video_block(list(trial.pictures))] if trial.is_video else pictures
        message = [HumanMessage([*shown, {"type": "text", "text": trial.question}])]
        said = [
            llm("nano", max_tokens=60).invoke(message).content for llm in (inside, outside, here)
        ]
        assert said[0] == said[1] == said[2]
        assert said[0]
