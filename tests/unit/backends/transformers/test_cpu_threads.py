"""A small model computes in the engine's thread alone, and nothing else loses its threads."""

import threading

import torch
from golden import checkpoint_folder

from langchain_internvl.backends.base import Request
from langchain_internvl.backends.transformers import cpu_threads
from langchain_internvl.backends.transformers.backend import TransformersBackend
from langchain_internvl.backends.transformers.decoding import DecodeLoop
from langchain_internvl.backends.transformers.loading import LoadOptions
from langchain_internvl.checkpoint import read_checkpoint
from langchain_internvl.prompting.tokenization import load_tokenizer

FOLDER = checkpoint_folder("qwen2")


def numbers_of_an_engine(monkeypatch):
    """Numbers of threads that its steps ran with."""
    seen = set()
    step = DecodeLoop.step

    def watched(self):
        seen.add(torch.get_num_threads())
        return step(self)

    monkeypatch.setattr(DecodeLoop, "step", watched)
    options = LoadOptions(dtype="float32")
    backend = TransformersBackend(read_checkpoint(FOLDER), load_tokenizer(FOLDER), options)
    for _ in range(2):  # each in a thread of its own, if the first has ended
        for _ in backend.stream(Request([1, 2], max_tokens=2)):
            pass
    backend.close()
    return seen


def number_of_a_new_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


def test_a_small_model_has_one_thread_and_others_keep_theirs(three_threads, monkeypatch):
    assert numbers_of_an_engine(monkeypatch) == {1}
    assert torch.get_num_threads() == number_of_a_new_thread() == 3


def test_a_large_model_has_all_threads(three_threads, monkeypatch):
    monkeypatch.setattr(cpu_threads, "SMALL", 10)
    assert numbers_of_an_engine(monkeypatch) == {3}


def test_a_large_model_that_starts_meanwhile_has_all_threads(three_threads, monkeypatch):
    """Torch's number for new threads is 1 for a moment while a small model's thread starts."""
    change, found = torch.set_num_threads, []

    def large():
        cpu_threads.compute_with_all()
        found.append(torch.get_num_threads())

    other = threading.Thread(target=large)

    def changed(number):
        change(number)
        if number == 1 and other.ident is None:
            other.start()
            other.join(0.2)

    monkeypatch.setattr(torch, "set_num_threads", changed)
    small = threading.Thread(target=cpu_threads.compute_alone)
    small.start()
    small.join()
    other.join()
    assert found == [3]


def test_without_a_further_thread_the_number_is_given_back(three_threads, monkeypatch):
    def start(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        cpu_threads.compute_alone()
    assert torch.get_num_threads() == number_of_a_new_thread() == 3


def test_what_the_user_has_chosen_stays(three_threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert numbers_of_an_engine(monkeypatch) == {3}


def test_weights_that_are_not_there_yet_are_of_no_small_model(tmp_path):
    assert not cpu_threads.is_small(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    assert cpu_threads.is_small(tmp_path)
