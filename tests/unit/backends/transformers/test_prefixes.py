"""Later turns go on from the keys and values of earlier ones, and give what a cold run gives."""

import numpy as np
import pytest
import torch
from engine_support import make_backend
from golden import TINY, checkpoint_folder
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from PIL import Image
from support import RecordingBackend, decode

from langchain_internvl import ChatInternVL, image_block, video_block
from langchain_internvl.backends.base import Choice, Request, Sampling
from langchain_internvl.backends.transformers.decoding import DecodeLoop
from langchain_internvl.backends.transformers.limits import Limits
from langchain_internvl.backends.transformers.prefixes import LEAST, ImageSpan, TokenRun, spans_of
from langchain_internvl.errors import BackendError

COLD = Limits(prefix_cache=False, feature_cache_bytes=0)


def picture(seed=0, size=(900, 450)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels)


def words(count, seed=0):
    return np.random.default_rng(seed).integers(300, 900, count).tolist()


def loop_of(engine, limits=None, **options):
    return DecodeLoop(engine.model, engine.tokenizer.token_bytes, limits, **options)


@pytest.fixture(params=["qwen2", "llama"])
def pair(request, loops):
    """A loop that keeps things, and one that keeps nothing."""
    engine = loops(request.param)
    return loop_of(engine), loop_of(engine, COLD), engine


def both(pair, request):
    """The reply of both, and how much was cached."""
    warm, cold, _ = pair
    sequence, first = warm.add(request)
    other, expected = cold.add(request)
    if first.logprob is not None:
        tops = [[one.logprob for one in delta.top_logprobs] for delta in (first, expected)]
        assert tops[0] == pytest.approx(tops[1], abs=1e-4)
    while warm.sequences or cold.sequences:
        warm.step(), cold.step()
    assert sequence.reply == other.reply
    assert other.cached == 0
    return sequence.reply, sequence.cached


def test_a_conversation_goes_on_where_it_ended(pair):
    prompt = words(100)
    for turn in range(4):
        reply, cached = both(pair, Request(prompt, max_tokens=9, top_logprobs=5))
        assert cached == (0 if turn == 0 else before)  # noqa: F821
        before = len(prompt) + len(reply) - 1  # noqa: F841 - the last token was never read
        prompt = [*prompt, *reply, *words(12, turn)]
    stats = pair[0].prefixes
    assert (stats.hits, stats.misses) == (3, 1)
    assert len(stats._kept) == 1  # each turn replaced the one before


def test_a_prompt_that_is_known_whole_computes_its_last_token(pair):
    request = Request(words(80), max_tokens=5, top_logprobs=5)
    assert both(pair, request)[1] == 0
    assert both(pair, request)[1] == 79
    assert both(pair, Request(words(80)[:50], max_tokens=5))[1] == 49


def test_another_question_leaves_the_first_conversation_as_it_was(pair):
    start = words(60)
    first, _ = both(pair, Request([*start, 1, 2], max_tokens=9))
    assert both(pair, Request([*start, 3, 4, 5], max_tokens=9))[1] == 60
    assert both(pair, Request([*start, 1, 2, *first, 7], max_tokens=4))[1] == 62 + 8
    assert both(pair, Request([*start[:20], *words(50, 3)], max_tokens=4))[1] == 0  # too few


@pytest.mark.parametrize("slots", [1, 4])
def test_beginnings_are_copied_between_blocks(slots, loops):
    engine = loops("qwen2")
    warm, cold = loop_of(engine, shared_slots=slots), loop_of(engine, COLD)
    start = words(60)
    requests = [Request([*start, *words(5 + n, n)], max_tokens=6) for n in range(5)]
    decode(warm, requests[0])
    assert decode(warm, *requests) == decode(cold, *requests)
    assert warm.prefixes.hits == 5


# Images.


def prompt_of(engine, *tiles, text=40):
    context = engine.tokenizer.image_context_id
    ids = words(text)
    for n, one in enumerate(tiles):
        ids += [*[context] * 256 * len(one), *words(6, n)]
    return ids


def tiles_of(seed, count=1):
    return np.random.default_rng(seed).integers(0, 256, (count, 448, 448, 3), np.uint8)


def test_another_image_under_the_same_text_never_hits(pair):
    engine = pair[2]
    one, other = tiles_of(0, 2), tiles_of(0, 2)
    other[1, 200, 200, 0] ^= 1
    assert both(pair, Request(prompt_of(engine, one), [one], max_tokens=6))[1] == 0
    assert (
        both(pair, Request(prompt_of(engine, one), [one], max_tokens=6))[1]
        == len(prompt_of(engine, one)) - 1
    )
    assert both(pair, Request(prompt_of(engine, one), [other], max_tokens=6))[1] == 40
    third = tiles_of(1)
    ids = prompt_of(engine, third, third)
    assert both(pair, Request(ids, [third, tiles_of(2)], max_tokens=6))[1] == 40
    assert both(pair, Request(ids, [tiles_of(2), third], max_tokens=6))[1] == 40
    assert both(pair, Request(ids, [third, tiles_of(3)], max_tokens=6))[1] == 40 + 256 + 6
    # As many context tokens, otherwise cut up.
    split = [one[:1], one[1:]]
    assert both(pair, Request(prompt_of(engine, one), split, max_tokens=6))[1] == 40


def test_runs_share_what_is_equal_in_ids_and_images():
    def run(ids, *spans):
        return TokenRun(np.array(ids), tuple(ImageSpan(*one) for one in spans))

    a = run([1, 9, 9, 2, 3], (1, 2, b"a"))
    assert a.shared_with(a) == 5
    assert a.shared_with(run([1, 9, 9, 2, 4], (1, 2, b"a"))) == 4
    assert a.shared_with(run([1, 9, 9, 2, 3], (1, 2, b"b"))) == 1
    assert a.shared_with(run([1, 9, 9, 9, 3], (1, 3, b"a"))) == 1
    assert a.shared_with(run([1, 9], (1, 2, b"a"))) == 2  # cut off within the image
    assert a.shared_with(run([2, 9, 9, 2, 3], (1, 2, b"a"))) == 0
    assert a.shared_with(run([1, 9, 9, 2, 3], (1, 1, b"a"), (2, 1, b"a"))) == 1
    ids = np.array([5, 9, 6, 9, 9])
    assert spans_of(ids, 9, [b"x", b"y"], [2, 1]) == (ImageSpan(1, 3, b"x"), ImageSpan(4, 1, b"y"))
    assert spans_of(ids, 9, [b"x"], [2]) is None


@pytest.mark.parametrize("name", TINY)
def test_conversations_of_all_kinds_say_what_a_cold_engine_says(name):
    """Several images, joined ones, a video, a system text, tools, and tiles that change."""
    folder = checkpoint_folder(name)
    warm = RecordingBackend(make_backend(folder))
    llm = ChatInternVL(model=str(folder), backend=warm, temperature=0, max_tokens=7)
    sizes = [
        (900, 450),
        (400, 400),
        (448, 448),
    ]  # with the frame 6 tiles: a short rope
    pictures = [image_block(picture(n, size)) for n, size in enumerate(sizes)]
    clip = video_block([picture(7, (64, 48))])

    def look(where: str) -> str:
        """Look somewhere."""
        return where

    history = [
        SystemMessage("Be brief."),
        HumanMessage([pictures[0], {"type": "text", "text": "A?"}]),
    ]
    usages = []
    for question in (
        HumanMessage("And then?"),
        HumanMessage([{"type": "text", "text": "And these?"}, *pictures[1:]]),
        HumanMessage([clip, {"type": "text", "text": "What happens?"}]),
        HumanMessage("Thanks."),
    ):
        reply = llm.invoke(history)
        usages.append(reply.usage_metadata.get("input_token_details", {}).get("cache_read", 0))
        history += [AIMessage(reply.content), question]
    llm.invoke(history)
    llm.invoke(history, max_tiles=1)
    llm.invoke(history, join_images=True)
    llm.bind_tools([look]).invoke(history)
    assert usages[0] == 0
    assert all(cached > 3 * 256 for cached in usages[1:])
    cold = make_backend(folder, prefix_cache=False, feature_cache_bytes=0, prefill_chunk=10**6)
    for request, reply in zip(warm.requests, warm.replies, strict=True):
        assert [delta.token_id for delta in cold.stream(request)] == reply
    assert cold.stats.prefix_hits == 0
    assert warm.backend.stats.prefix_hits >= 3
    cold.close()
    warm.close()


# What is not kept.


@pytest.mark.parametrize("name", ["internlm2", "phi3"])
def test_sequences_whose_rope_depends_on_length_keep_nothing(name, loops):
    engine = loops(name)
    warm, cold = loop_of(engine), loop_of(engine, COLD)
    long = Request(words(2100), max_tokens=5)
    nearly = Request(words(2040), max_tokens=50)
    for request in (long, long, nearly, nearly, long):
        assert decode(warm, request) == decode(cold, request)
    assert (warm.prefixes.hits, warm.prefixes.nbytes) == (0, 0)
    short = Request(words(2000), max_tokens=5)
    for request in (short, long, short, nearly):
        assert decode(warm, request) == decode(cold, request)
    assert warm.prefixes.hits == 1


def test_a_seed_in_16_bits_is_computed_alike_each_time(loops):
    engine = loops("qwen2")
    loop = loop_of(engine)
    loop._rules.rounds = True
    request = Request(words(99), max_tokens=4, sampling=Sampling(1.0, seed=3))
    assert len({tuple(decode(loop, request)[0][0]) for _ in range(3)}) == 1
    assert loop.prefixes.hits == loop.prefixes.nbytes == 0


def test_a_cancelled_sequence_is_kept_and_a_failed_one_is_not(loops, monkeypatch):
    engine = loops("qwen2")
    loop = loop_of(engine)
    sequence, _ = loop.add(Request(words(50), max_tokens=9))
    loop.step()
    loop.remove(sequence)
    assert loop.prefixes.nbytes
    again, _ = loop.add(Request([*words(50), *sequence.reply, 5], max_tokens=9))
    assert again.cached == 51
    monkeypatch.setattr(again, "accept", lambda _: 1 / 0)
    loop.step()
    assert loop.prefixes.nbytes == 0
    assert loop._slots.nbytes == 0


def test_what_is_kept_goes_when_room_is_needed(loops):
    engine = loops("qwen2")
    token = engine.loop._slots.shape.token_bytes
    loop = loop_of(engine, Limits(max_kv_bytes=1000 * token))
    for n in range(5):
        decode(loop, Request(words(90, n), max_tokens=10))
    assert loop.prefixes.nbytes == 200 * token  # a quarter, of sequences that hold 100
    large = Request(words(700), max_tokens=300)
    assert loop.can_admit(large)
    sequence, _ = loop.add(large)
    assert loop.prefixes.nbytes == 0
    assert not loop.can_admit(Request(words(5), max_tokens=5))
    loop.remove(sequence)
    assert loop._slots.nbytes == 0  # too large to keep


def test_memory_that_is_full_takes_what_is_kept_before_any_sequence(loops, monkeypatch):
    engine = loops("qwen2")
    loop = loop_of(engine)
    decode(loop, Request(words(90), max_tokens=10))
    begun = [loop.add(Request(words(90, n + 1), max_tokens=10))[0] for n in range(3)]
    run = loop._language_model.decode

    def limited(sequences):
        if loop.prefixes.nbytes:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(sequences)

    monkeypatch.setattr(loop._language_model, "decode", limited)
    assert len(loop.step()) == 3
    assert loop.sequences == tuple(begun)
    assert loop.clear_caches() is False


def test_an_engine_may_keep_nothing(loops):
    loop = loop_of(loops("qwen2"), COLD)
    for _ in range(2):
        decode(loop, Request(words(90), max_tokens=10))
    assert (loop.prefixes.hits, loop._slots.nbytes) == (0, 0)


def nan(slot):
    with torch.inference_mode():
        for tensors in slot.block.layers:
            for tensor in tensors:
                tensor[slot.index] = float("nan")


@pytest.mark.parametrize("is_damaged", [True, False])
def test_a_prompt_cancelled_in_its_prefill_is_kept_if_its_keys_are_numbers(is_damaged, loops):
    engine = loops("qwen2")
    loop = loop_of(engine, Limits(prefill_chunk=50), shared_slots=4)
    others = [loop.add(Request(words(90, n), max_tokens=30))[0] for n in range(2)]
    sequence = loop.begin(Request(words(120, 7), max_tokens=9))
    while sequence.length < LEAST:
        loop.step()
    assert sequence.is_reading
    slot = sequence.slot
    if is_damaged:
        nan(slot)
    loop.remove(sequence)
    assert bool(loop.prefixes.nbytes) is not is_damaged
    assert (slot.index in slot.block.stained) is is_damaged
    again, _ = loop.add(sequence.request)
    assert bool(again.cached) is not is_damaged
    assert len(others) == 2


def test_choices_without_numbers_fail_and_are_not_kept(loops, monkeypatch):
    loop = loop_of(loops("qwen2"))
    monkeypatch.setattr(loop._language_model, "weigh", lambda *_: float("nan"))
    choices = (Choice("a", (5, 6)), Choice("b", (7,)))
    with pytest.raises(BackendError, match="no numbers"):
        loop.add(Request(words(50), choices=choices))
    assert (loop.sequences, loop._slots.nbytes) == ((), 0)
