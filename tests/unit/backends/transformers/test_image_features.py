"""Images of several prompts that a small model encodes at the same time."""

import threading

import numpy as np
import pytest
import torch
from engine_support import PATIENCE, wait_until
from golden import checkpoint_folder
from support import load_loop

from langchain_internvl.backends.base import Request
from langchain_internvl.backends.transformers import cpu_threads, image_features
from langchain_internvl.backends.transformers.decoding import DecodeLoop
from langchain_internvl.backends.transformers.next_tokens import Failure
from langchain_internvl.errors import MediaError
from langchain_internvl.media.lazy_tiles import ImageTiles, TileList

FOLDER = checkpoint_folder("qwen2")
LOADED = load_loop(FOLDER).loop
CPU = torch.device("cpu")


def a_loop(images_at_once):
    """A loop of its own, with the model of `LOADED`."""
    return DecodeLoop(LOADED._model, LOADED._token_bytes, images_at_once=images_at_once)


def picture(seed):
    return np.random.default_rng(seed).integers(0, 256, (1, 448, 448, 3), np.uint8)


def question(*images):
    """A prompt with images, each given as tiles or as a function that cuts them."""
    config = LOADED._model.config
    context = [config.image_token_id] * config.image_seq_length
    prompt, cut = [], []
    for number, image in enumerate(images):
        prompt += [*range(5 + number), *context, 3]
        known = isinstance(image, np.ndarray)
        cut.append(ImageTiles.of_array(image) if known else ImageTiles(bytes([number]), 1, image))
    return Request(prompt, TileList(cut), max_tokens=4)


def run(loop):
    """Replies of all sequences, by their order: token ids, or the error."""
    order = list(loop.sequences)
    replies = {one: [] for one in order}
    while loop.sequences:
        for sequence, event in loop.step():
            replies[sequence].append(event.error if isinstance(event, Failure) else event.token_id)
    return [replies[one] for one in order]


@pytest.fixture
def numbers(monkeypatch):
    """Torch's number of threads in each encoding."""
    found = []
    encode = image_features.encode_image

    def watched(*arguments):
        found.append(torch.get_num_threads())
        return encode(*arguments)

    monkeypatch.setattr(image_features, "encode_image", watched)
    return found


def test_several_prompts_get_the_replies_of_one_at_a_time(three_threads, numbers):
    requests = [question(picture(seed)) for seed in range(5)]
    requests.append(question(picture(9), picture(10), picture(0)))
    alone, together = a_loop(1), a_loop(2)
    for request in requests:
        alone.begin(request)
        together.begin(request)
    expected = run(alone)
    assert numbers == [3] * 7
    numbers.clear()
    assert run(together) == expected
    assert len(numbers) == 7  # each image once, also the one of two prompts
    assert numbers == [1] * 7
    assert torch.get_num_threads() == 3
    assert wait_until(lambda: not encoders())


def test_an_image_without_others_has_all_threads(three_threads, numbers):
    loop = a_loop(2)
    loop.begin(question(picture(1)))
    run(loop)
    assert numbers == [3]


def test_an_image_beside_a_reply_has_one_thread(three_threads, numbers):
    loop = a_loop(2)
    loop.begin(Request([1, 2, 3], max_tokens=500))
    loop.step()
    asked = loop.begin(question(picture(1)))
    while asked.is_reading:
        loop.step()
    assert numbers == [1]
    loop.clear()


def test_images_are_encoded_at_the_same_time():
    meeting = threading.Barrier(3)
    loop = a_loop(2)

    def cut(seed):
        def tiles():
            meeting.wait(PATIENCE)  # until the other one, and this test, are there
            return picture(seed)

        return tiles

    loop.begin(question(cut(1)))
    loop.begin(question(picture(2), cut(3)))
    waiting = threading.Thread(target=meeting.wait, args=(PATIENCE,))
    waiting.start()
    assert all(len(one) == 4 for one in run(loop))
    waiting.join()


def test_an_image_that_cannot_be_decoded_fails_its_prompts_only():
    def damaged():
        raise MediaError("page.png", "torn")

    loop = a_loop(3)
    for request in (question(picture(1)), question(damaged), question(picture(2))):
        loop.begin(request)
    first, second, third = run(loop)
    assert len(first) == len(third) == 4
    assert [error.reason for error in second] == ["torn"]


def test_unwanted_images_end_and_leave_no_thread():
    begun, go = threading.Semaphore(0), threading.Event()

    def slow():
        begun.release()
        go.wait(PATIENCE)
        return picture(1)

    loop = a_loop(2)
    sequences = [loop.begin(question(slow)), loop.begin(question(picture(2), slow))]
    loop.step()
    assert begun.acquire(timeout=PATIENCE)
    for one in sequences:
        loop.remove(one)
    threading.Timer(0.05, go.set).start()
    loop.clear()
    assert not encoders()


def test_an_error_of_starting_a_thread_ends_the_prompt(monkeypatch):
    def start(_):
        raise RuntimeError("can't start new thread")

    loop = a_loop(1)
    loop.begin(question(picture(1)))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        loop.step()
    ((error,),) = run(loop)
    assert "start new thread" in str(error)


def test_a_pool_without_threads_ends_its_prompts(monkeypatch):
    """It drops its jobs; nobody may wait for them."""

    def broken():
        raise MemoryError("no room for a thread")

    monkeypatch.setattr(image_features, "compute_alone", broken)
    loop = a_loop(2)
    for seed in (1, 2):
        loop.begin(question(picture(seed)))
    loop.step()
    assert wait_until(lambda: all(job.has_ended for job in loop.images._jobs.values()))
    for (error,) in run(loop):
        assert "not usable" in str(error)
    loop.clear()


def test_where_the_user_has_chosen_a_number_images_come_one_by_one(three_threads, monkeypatch):
    """Each would have that number of threads."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert cpu_threads.images_at_once(CPU, FOLDER) == 1


def test_small_models_on_the_cpu_encode_an_image_for_each_thread(three_threads, monkeypatch):
    assert cpu_threads.images_at_once(CPU, FOLDER) == 3
    assert cpu_threads.images_at_once(torch.device("meta"), FOLDER) == 1
    torch.set_num_threads(1)
    assert cpu_threads.images_at_once(CPU, FOLDER) == 1
    torch.set_num_threads(3)
    monkeypatch.setattr(cpu_threads, "SMALL", 10)
    assert cpu_threads.images_at_once(CPU, FOLDER) == 1


def encoders():
    return [one for one in threading.enumerate() if one.name.startswith("internvl-image")]
