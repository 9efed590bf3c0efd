"""Prompts are read in chunks between the steps of others."""

import threading

import numpy as np
import pytest
import torch
from patience import PATIENCE
from support import decode
from test_prefixes import prompt_of, tiles_of, words

from langchain_internvl.backends.base import Delta, Request
from langchain_internvl.backends.transformers import decoding
from langchain_internvl.backends.transformers.chunks import ChunkSizes
from langchain_internvl.backends.transformers.decoding import DecodeLoop
from langchain_internvl.backends.transformers.limits import Limits
from langchain_internvl.backends.transformers.next_tokens import Failure
from langchain_internvl.errors import MediaError, PromptError
from langchain_internvl.media.lazy_tiles import ImageTiles, TileList


def loop_of(engine, chunk, **limits):
    limits = Limits(prefill_chunk=chunk, prefix_cache=False, **limits)
    loop = DecodeLoop(engine.model, engine.tokenizer.token_bytes, limits)
    loop._chunks = ChunkSizes(chunk, is_timed=False)
    return loop


def finish(loop, *begun):
    """Step until all have ended; their events in order."""
    events = {one: [] for one in begun}
    while loop.sequences:
        for sequence, event in loop.step():
            events[sequence].append(event)
    return [events[one] for one in begun]


@pytest.mark.parametrize("chunk", [7, 64, 300])
def test_prompts_in_chunks_say_what_they_say_whole(chunk, tiny, loops):
    """Also where an image or the limit of the rope lies across the chunks."""
    engine = loops(tiny)
    one, two = tiles_of(0, 2), tiles_of(1)
    requests = [
        Request(words(500), max_tokens=8),
        Request(prompt_of(engine, one, two), [one, two], max_tokens=8, top_logprobs=3),
        Request(words(2100), max_tokens=8),
        Request(words(1), max_tokens=8),
    ]
    whole = decode(loop_of(engine, 10**6), *requests)
    loop = loop_of(engine, chunk)
    begun = [loop.begin(request) for request in requests]
    events = finish(loop, *begun)
    assert [one.reply for one in begun] == [ids for ids, _ in whole]
    assert all(isinstance(event, Delta) for list_ in events for event in list_)


def test_running_sequences_wait_for_a_chunk_at_most(loops):
    engine = loops("qwen2")
    loop = loop_of(engine, 50)
    running, _ = loop.add(Request(words(10), max_tokens=500))
    long = loop.begin(Request(words(1000), max_tokens=5))
    pauses, pause = [], 0
    while long.is_reading:
        stepped = any(sequence is running for sequence, _ in loop.step())
        pause = 0 if stepped else pause + 1
        pauses.append(pause)
    assert max(pauses) <= 1  # the step that gave the first token
    assert len(pauses) >= 20
    loop.clear()


def test_a_late_short_prompt_does_not_wait_for_a_long_one(loops):
    engine = loops("qwen2")
    loop = loop_of(engine, 50)
    loop.add(Request(words(10), max_tokens=500))
    loop.begin(Request(words(2000), max_tokens=5))
    loop.step()
    late = loop.begin(Request(words(20), max_tokens=5))
    steps = 0
    while late.is_reading:
        loop.step()
        steps += 1
    assert steps <= 2
    loop.clear()


def test_a_long_prompt_is_read_however_many_short_ones_come(loops):
    engine = loops("qwen2")
    loop = loop_of(engine, 50)
    long = loop.begin(Request(words(400), max_tokens=5))
    for n in range(60):
        if not long.is_reading:
            break
        loop.begin(Request(words(40, n), max_tokens=1))
        loop.step()
    assert not long.is_reading
    loop.clear()


def test_a_cancelled_prompt_is_read_no_further(loops, monkeypatch):
    engine = loops("qwen2")
    loop = loop_of(engine, 50)
    sequence = loop.begin(Request(words(1000), max_tokens=5))
    loop.step()
    assert sequence.length == 50
    loop.remove(sequence)
    monkeypatch.setattr(loop, "_read_prompt", lambda *_: 1 / 0)
    assert loop.step() == []
    assert loop.kv_bytes == 0


def test_a_prompt_that_fails_fails_alone(loops, monkeypatch):
    engine = loops("qwen2")
    loop = loop_of(engine, 50)
    good = Request(words(120), max_tokens=6)
    ((expected, _),) = decode(loop, good)
    read = loop._read_prompt

    def fail(sequence, embeddings):
        return 1 / 0 if sequence.length == 100 and sequence is bad else read(sequence, embeddings)

    monkeypatch.setattr(loop, "_read_prompt", fail)
    begun = [loop.begin(good), loop.begin(Request(words(300), max_tokens=6)), loop.begin(good)]
    bad = begun[1]
    first, failed, last = finish(loop, *begun)
    assert begun[0].reply == begun[2].reply == expected
    assert [type(event) for event in failed] == [Failure]
    assert len(first) == len(last) == 6


def test_full_memory_while_a_prompt_is_read_ends_the_youngest(loops, monkeypatch):
    engine = loops("qwen2")
    loop = loop_of(engine, 50)
    old = loop.begin(Request(words(300), max_tokens=6))
    middle, _ = loop.add(Request(words(10), max_tokens=60))
    young, _ = loop.add(Request(words(10), max_tokens=60))
    read = loop._read_prompt

    def limited(sequence, embeddings):
        if len(loop.sequences) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return read(sequence, embeddings)

    monkeypatch.setattr(loop, "_read_prompt", limited)
    events = finish(loop, old, middle, young)
    assert [type(event) for event in events[2]] == [Failure]
    assert len(events[0]) == 6
    assert len(events[1]) == 59


# Images are cut and encoded in a thread beside the loop.


GATES = []


@pytest.fixture(autouse=True)
def _open_gates():
    """No thread may wait after a test."""
    yield
    for gate in GATES:
        gate.open.set()
    GATES.clear()


class Gate:
    """An image that is decoded when the test says so."""

    def __init__(self, tiles, error=None):
        GATES.append(self)
        self.tiles, self.error = tiles, error
        self.asked, self.open = threading.Event(), threading.Event()
        self.image = ImageTiles(bytes([len(tiles)]), len(tiles), self.cut)

    def cut(self):
        self.asked.set()
        assert self.open.wait(PATIENCE)
        if self.error:
            raise self.error
        return self.tiles

    def request(self, engine, **settings):
        return Request(prompt_of(engine, self.tiles), TileList([self.image]), **settings)


def test_sequences_go_on_while_an_image_is_decoded(loops):
    engine = loops("qwen2")
    loop = loop_of(engine, 512)
    gate = Gate(tiles_of(0))
    ((expected, _),) = decode(
        loop, Request(prompt_of(engine, gate.tiles), [gate.tiles], max_tokens=6)
    )
    running, _ = loop.add(Request(words(10), max_tokens=500))
    waiting = loop.begin(gate.request(engine, max_tokens=6))
    loop.step()
    assert gate.asked.wait(PATIENCE)
    late = loop.begin(Request(words(9), max_tokens=3))
    for _ in range(6):
        loop.step()
    assert (waiting.length, len(late.reply), len(running.reply)) == (40, 3, 7)
    gate.open.set()
    loop.remove(running)
    finish(loop, waiting)
    assert waiting.reply == expected


def test_on_a_cpu_prompts_beside_replies_are_read_once_their_images_are_encoded(loops):
    """The encoder and a chunk would share the processor, and the replies wait for both."""
    engine = loops("qwen2")
    loop = loop_of(engine, 512)
    loop._chunks = ChunkSizes(512, is_timed=True)
    first, second = Gate(tiles_of(0)), Gate(tiles_of(1, 2))
    prompt = prompt_of(engine, first.tiles, second.tiles)
    ((expected, _),) = decode(loop, Request(prompt, [first.tiles, second.tiles], max_tokens=6))
    running, _ = loop.add(Request(words(10), max_tokens=5000))
    images = TileList([first.image, second.image])
    waiting = loop.begin(Request(prompt, images, max_tokens=6))
    for gate in (first, second):
        while not gate.asked.is_set():
            loop.step()
        assert waiting.length == 0
        gate.open.set()
    loop.remove(running)
    while waiting.is_reading:  # also if the other has ended before
        loop.step()
    finish(loop, waiting)
    assert waiting.reply == expected


@pytest.mark.parametrize("error", [MediaError("page", "is torn"), torch.OutOfMemoryError("full")])
def test_an_image_that_fails_ends_its_own_request(error, loops):
    engine = loops("qwen2")
    loop = loop_of(engine, 512)
    gate = Gate(tiles_of(0), error)
    gate.open.set()
    other = loop.begin(Request(words(9), max_tokens=30))
    waiting = loop.begin(gate.request(engine, max_tokens=6))
    first, failed = finish(loop, other, waiting)
    assert len(first) == 30
    assert [event.error for event in failed] == [error]


def test_nobody_waits_for_the_image_of_a_cancelled_request(loops):
    engine = loops("qwen2")
    loop = loop_of(engine, 512)
    gate, other = Gate(tiles_of(0)), Gate(tiles_of(1, 2))
    first = loop.begin(gate.request(engine, max_tokens=6))
    loop.step()
    assert gate.asked.wait(PATIENCE)
    loop.remove(first)
    second = loop.begin(other.request(engine, max_tokens=6))
    loop.step()
    assert not other.asked.is_set()  # one at a time
    for one in (gate, other):
        one.open.set()
    (events,) = finish(loop, second)
    assert len(events) == 6
    again = loop.begin(gate.request(engine, max_tokens=6))  # whose features were given up
    (events,) = finish(loop, again)
    assert len(events) == 6


def test_one_image_in_eight_requests_at_once_is_encoded_once(loops):
    engine = loops("qwen2")
    for size in (1 << 20, 0):
        loop = loop_of(engine, 512, feature_cache_bytes=size)
        tiles = tiles_of(4)
        begun = [
            loop.begin(Request([*prompt_of(engine, tiles), n], [tiles], max_tokens=4))
            for n in range(1, 9)
        ]
        finish(loop, *begun)
        assert loop.images.cache.misses == 1
        assert all(len(one.reply) == 4 for one in begun)


def test_tiles_that_are_not_as_many_as_said(loops):
    engine = loops("qwen2")
    loop = loop_of(engine, 512)
    image = ImageTiles(b"k", 2, lambda: tiles_of(0, 1))
    request = Request([1, *[engine.tokenizer.image_context_id] * 512], TileList([image]))
    (events,) = finish(loop, loop.begin(request))
    assert isinstance(events[0].error, PromptError)
    with pytest.raises(PromptError, match="256 features where its prompt has 512"):
        loop.add(request)


@torch.inference_mode()
def test_short_prompts_beside_a_reply_share_the_time_of_one_chunk(loops, monkeypatch):
    """A clock that each forward pass moves by one second."""
    engine = loops("qwen2")
    loop = DecodeLoop(engine.model, engine.tokenizer.token_bytes, Limits(prefix_cache=False))
    loop._chunks = ChunkSizes(512, is_timed=True)
    now = [0.0]
    run = loop._language_model._run

    def timed_run(*args, **kwargs):
        now[0] += 1
        return run(*args, **kwargs)

    monkeypatch.setattr(loop._language_model, "_run", timed_run)
    monkeypatch.setattr(decoding, "perf_counter", lambda: now[0])
    running, _ = loop.add(Request(words(10), max_tokens=500))
    loop.step()
    begun = [loop.begin(Request(words(4, n), max_tokens=3)) for n in range(10)]
    begun.append(loop.begin(Request(words(300, 77), max_tokens=3)))
    pauses, last = [], now[0]
    while any(one in loop.sequences for one in begun):
        if any(one is running for one, _ in loop.step()):
            pauses.append(now[0] - last)
            last = now[0]
    assert max(pauses) <= 3
    assert all(len(one.reply) == 3 for one in begun)
    loop.clear()


def test_places_of_features_in_chunks(loops):
    """Chunks that begin and end within images get just their features."""
    engine = loops("qwen2")
    loop = loop_of(engine, 512)
    tiles = [tiles_of(0), tiles_of(1)]
    sequence = loop.begin(Request(prompt_of(engine, *tiles), tiles, max_tokens=1))
    prompt = sequence.prompt
    for index in range(2):
        prompt.features[index] = torch.arange(256)[:, None] + 1000 * index
    for start, end in ((0, 40), (30, 50), (50, 295), (290, 310), (0, len(prompt))):
        ids = np.asarray(prompt.run.ids[start:end])
        found = [int(one) for part in prompt.features_of(start, end) for one in part[:, 0]]
        assert len(found) == int((ids == engine.tokenizer.image_context_id).sum())
        assert found == sorted(found)
    assert prompt.features_of(290, 310)[0][:, 0].tolist() == [250, 251, 252, 253, 254, 255]
    assert prompt.features_of(290, 310)[1][0, 0] == 1000
    loop.clear()
