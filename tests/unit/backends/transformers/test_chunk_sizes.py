"""Sizes of prefill chunks from measured times."""

import pytest

from langchain_internvl.backends.transformers.chunks import ChunkSizes


def timed_sizes(most=512, step=0.1):
    sizes = ChunkSizes(most, is_timed=True)
    sizes.time_step(step)
    return sizes


def read_often(sizes, seconds_of, times=40):
    """Read chunks of the chosen sizes; the durations in steps of 0.1 s."""
    durations = []
    for _ in range(times):
        size = sizes.budget(others_wait=True)
        sizes.time_read(size, seconds_of(size))
        durations.append(seconds_of(size) / 0.1)
    return durations


def test_chunks_take_about_one_and_three_quarter_steps():
    sizes = ChunkSizes(512, is_timed=True)
    assert sizes.budget(others_wait=False) == 512
    assert sizes.budget(others_wait=True) == 16
    sizes.time_read(16, 9.0)  # nothing to compare it with
    assert sizes.budget(others_wait=True) == 16
    # What a chunk costs besides its tokens keeps no chunk small, and none is much longer.
    durations = read_often(timed_sizes(), lambda size: 0.05 + 0.001 * size)
    assert max(durations) < 1.75
    assert durations[-1] > 1.5  # the next multiple would take 1.78
    assert read_often(timed_sizes(), lambda size: 0.0001 * size)[-1] == pytest.approx(0.512)


def test_chunks_are_whole_blocks_of_rows_and_grow_from_the_smallest():
    sizes, met = timed_sizes(), []
    for _ in range(9):
        met.append(sizes.budget(others_wait=True))
        sizes.time_read(met[-1], 0.001)
    assert met == [16, 16, 32, 48, 80, 112, 176, 272, 400]


def test_chunks_shrink_at_once_and_grow_slowly():
    sizes = timed_sizes()
    read_often(sizes, lambda size: 0.0001 * size)
    assert sizes.budget(others_wait=True) == 512
    sizes.time_read(512, 0.41)
    assert sizes.budget(others_wait=True) == 256
    sizes.time_read(10, 9.0)  # a short one says nothing
    assert sizes.budget(others_wait=True) == 256
    sizes.time_read(256, 0.001)
    assert sizes.budget(others_wait=True) == 384
    for _ in range(9):
        sizes.time_read(sizes.budget(others_wait=True), 9.0)
    assert sizes.budget(others_wait=True) == 16
    assert timed_sizes(10).budget(others_wait=True) == 10
    assert ChunkSizes(512, is_timed=False).budget(others_wait=True) == 512


def test_slow_steps_do_not_make_chunks_longer():
    """Such as steps beside the vision tower, whose processor they share."""
    sizes = timed_sizes()
    read_often(sizes, lambda size: 0.001 * size, 9)
    assert sizes.budget(others_wait=True) == 160
    for _ in range(7):
        sizes.time_step(1.0)
    sizes.time_read(160, 0.3)
    assert sizes.budget(others_wait=True) == 80
    sizes.time_step(1.0)  # a larger batch, for instance: its steps stay slow
    sizes.time_read(80, 0.3)
    assert sizes.budget(others_wait=True) == 128


def test_prompts_of_a_small_model_are_read_in_few_passes():
    """Steps of 1 ms, and passes of 4 ms whatever they read: a pause of 20 ms is not noticed."""
    sizes = timed_sizes(step=0.001)
    durations = read_often(sizes, lambda size: 0.004 + 0.00003 * size)
    assert max(durations) * 0.1 <= 0.0201
    assert sizes.budget(others_wait=True) >= 500
    assert sizes.left(512, 0.004) >= 400
    assert sizes.left(512, 0.02) == 0


def test_many_short_prompts_take_the_time_of_one_chunk():
    sizes = timed_sizes()
    read_often(sizes, lambda size: 0.002 * size)
    assert sizes.budget(others_wait=True) == 80
    assert sizes.left(60, 0.005) == 60
    assert sizes.left(60, 0.1) == 37  # three sevenths of the time
    assert sizes.left(60, 0.145) == 0  # too few for a pass of their own
    assert sizes.left(60, 9.0) == 0
    assert ChunkSizes(512, is_timed=False).left(60, 9.0) == 60
    assert ChunkSizes(512, is_timed=True).left(60, 9.0) == 60  # nothing decodes yet


def test_the_logits_of_a_prompt_have_room_in_its_last_chunk():
    sizes = timed_sizes()
    assert [sizes.share(64, rest) for rest in (10, 48, 65, 1000)] == [64] * 4
    assert [sizes.share(64, rest) for rest in (49, 64)] == [25, 32]
    assert [sizes.share(16, rest) for rest in (13, 16)] == [16, 16]  # halves are not faster
    assert sizes.share(0, 20) == 0
    assert ChunkSizes(512, is_timed=False).share(64, 64) == 64
