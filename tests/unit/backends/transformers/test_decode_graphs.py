"""CUDA graphs of decode steps, with a stand-in that repeats a step on the same buffers."""

from types import SimpleNamespace

import pytest
import torch
from engine_support import solo, words

from langchain_internvl.backends.base import Request
from langchain_internvl.backends.transformers.decode_graphs import _width, can_capture
from langchain_internvl.backends.transformers.decoding import DecodeLoop
from langchain_internvl.backends.transformers.limits import Limits
from langchain_internvl.errors import RequestError


class FakeGraph:
    """Records, and fills the captured tensor again as a graph does."""

    made = 0
    replays = 0

    def __init__(self):
        type(self).made += 1

    def capture(self, step):
        self.step = step
        self.result = step().clone()
        return self.result

    def replay(self):
        type(self).replays += 1
        with torch.inference_mode():
            self.result.copy_(self.step())


@pytest.fixture
def graph():
    class Fresh(FakeGraph):
        pass

    return Fresh


def loop_of(engine, make_graph, slots=8, **limits):
    loop = DecodeLoop(engine.model, engine.tokenizer.token_bytes, Limits(**limits), None, slots)
    loop._language_model.use_graphs(make_graph)
    return loop


@pytest.mark.parametrize("name", ["qwen2", "llama"])
def test_replies_are_those_without_graphs(name, loops, graph):
    """While sequences begin and end, and beside slots whose sequences are kept."""
    engine = loops(name)
    loop = loop_of(engine, graph)
    requests = [Request(words(engine, 40 + n, n), max_tokens=5 + 6 * (n % 3)) for n in range(9)]
    alone = [solo(engine, request) for request in requests]
    waiting, begun = list(requests), []
    while waiting or loop.sequences:
        begun += [loop.add(request)[0] for request in waiting[:2]]
        del waiting[:2]
        loop.step()
    assert [one.reply for one in begun] == alone
    assert graph.replays > 5
    assert graph.made < graph.replays
    assert loop.prefixes.nbytes > 0
    kept = [loop.add(Request([*one.prompt.run.ids, *one.reply, 5], max_tokens=6)) for one in begun]
    assert all(sequence.cached > 30 for sequence, _ in kept)
    while loop.sequences:
        loop.step()
    for one, (sequence, _) in zip(begun, kept, strict=True):
        prompt = [*one.prompt.run.ids.tolist(), *one.reply, 5]
        assert sequence.reply == solo(engine, Request(prompt, max_tokens=6))
    loop.clear()


def test_there_is_a_graph_for_each_block_and_width(loops, graph):
    engine = loops("qwen2")
    loop = loop_of(engine, graph)
    request = Request(words(engine, 100), max_tokens=200)
    sequence, _ = loop.add(request)
    loop.add(request)
    while loop.sequences:
        loop.step()
    assert sequence.reply == solo(engine, request)
    assert graph.made <= 3 * 2
    assert [_width(length, 1000) for length in (1, 128, 129, 257, 600)] == [
        128,
        128,
        256,
        512,
        1000,
    ]


def test_a_step_that_cannot_be_captured_runs_without_a_graph(loops, caplog):
    engine = loops("qwen2")
    tries = []

    class Refusing(FakeGraph):
        def capture(self, step):
            tries.append(True)
            raise RuntimeError("operation not permitted when stream is capturing")

    loop = loop_of(engine, Refusing)
    request = Request(words(engine, 20), max_tokens=8)
    begun = [loop.add(request)[0] for _ in range(3)]
    while loop.sequences:
        loop.step()
    assert [one.reply for one in begun] == [solo(engine, request)] * 3
    assert len(tries) == 1
    assert "without CUDA graphs" in caplog.text


def test_full_memory_during_capture_is_no_reason_to_give_up_graphs(loops):
    engine = loops("qwen2")
    full = [True]

    class Full(FakeGraph):
        def capture(self, step):
            if full.pop() if full else False:
                raise torch.OutOfMemoryError("full")
            return super().capture(step)

    loop = loop_of(engine, Full)
    loop.remove(loop.add(Request(words(engine, 90), max_tokens=3))[0])  # kept, and then dropped
    request = Request(words(engine, 20, 1), max_tokens=8)
    begun = [loop.add(request)[0] for _ in range(3)]
    while loop.sequences:
        loop.step()
    assert [one.reply for one in begun] == [solo(engine, request)] * 3
    assert Full.replays > 0


def test_blocks_of_one_slot_have_no_graphs(loops, graph):
    engine = loops("qwen2")
    loop = loop_of(engine, graph, slots=1)
    loop.add(Request([1, 2], max_tokens=4))
    while loop.sequences:
        loop.step()
    assert graph.made == 0


CPU, FIRST, SECOND = torch.device("cpu"), torch.device("cuda:0"), torch.device("cuda:1")


@pytest.mark.parametrize(
    ("devices", "rope", "reason"),
    [
        ([FIRST, FIRST], "default", None),
        ([CPU], "default", "not on a GPU"),
        ([FIRST, CPU], "default", "not on a GPU"),
        ([FIRST, SECOND], "default", "several GPUs"),
        ([FIRST], "dynamic", "rope"),
    ],
)
def test_where_steps_are_captured(devices, rope, reason, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    text = SimpleNamespace(rope_parameters={"rope_type": rope}, max_position_embeddings=9)
    assert can_capture(devices, text, option=False) is False
    assert can_capture(devices, text, option="auto") is (reason is None)
    if reason is None:
        assert can_capture(devices, text, option=True)
    else:
        with pytest.raises(RequestError, match=reason):
            can_capture(devices, text, option=True)


def test_the_option_is_checked():
    assert Limits().cuda_graphs is False
    assert Limits.from_options({"cuda_graphs": "auto"}).cuda_graphs == "auto"
    with pytest.raises(RequestError, match="cuda_graphs is True, False or 'auto', not 'yes'"):
        Limits(cuda_graphs="yes")
