"""Threads that a small model computes with on a CPU."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from pathlib import Path

SMALL = 64 << 20
"""Weights of fewer bytes are of a small model."""

_MOST_IMAGES = 8
"""Most images that are encoded at the same time."""

_CHANGING = threading.Lock()
"""Held while torch's number for new threads is changed."""


def is_small(folder: Path) -> bool:
    """Whether the weights in a folder are of a small model; False while there are none yet."""
    return 0 < sum(file.stat().st_size for file in folder.glob("*.safetensors")) < SMALL


def compute_alone() -> None:
    """Let torch compute in the calling thread only; other threads keep torch's number.

    The products of a small model's decode steps are too short to share: OpenMP's threads wait for
    each other by spinning, and when other processes need the cores, each wait takes a time slice.
    Measured with the embedded model on two busy cores: 0.1 s instead of 3 to 5 s an answer whose
    image is known. Images are encoded in another thread, whose products are long enough.

    Does nothing if OMP_NUM_THREADS is set, because the user has chosen then, or if torch does not
    use OpenMP, whose number of threads is the only one that a thread has to itself.
    """
    if not _can_change():
        return
    with _CHANGING:
        everywhere = torch.get_num_threads()
        if everywhere == 1:
            return
        torch.set_num_threads(1)
        # The number is that of the calling thread, and also that of threads which use torch for the
        # first time; another thread gives the latter back.
        back = threading.Thread(target=torch.set_num_threads, args=(everywhere,))
        try:
            back.start()
        except RuntimeError:  # there is no further thread: this one computes as all do
            torch.set_num_threads(everywhere)
        else:
            back.join()


def _can_change() -> bool:
    """Whether threads may have a number of their own."""
    has_openmp: bool = torch.backends.openmp.is_available()  # type: ignore[no-untyped-call]
    return has_openmp and "OMP_NUM_THREADS" not in os.environ


def images_at_once(device: torch.device, folder: Path) -> int:
    """Number of images that are encoded at the same time.

    Products of a small model are too short to share (see `compute_alone`): on two cores an image of
    the embedded model takes 54 ms in one thread and 37 to 47 ms in two, but two images in a thread
    each take 63 ms together. The features are the same to the bit. Larger models, and GPUs, encode
    one image at a time: the first one is done sooner, and memory holds one image's activations.

    Args:
        device: Device of the vision tower.
        folder: Folder of the weights.

    Returns:
        One image for each thread of torch, at most 8, if the model is small and on the CPU; else 1.
        1 also where `compute_alone` does nothing: each image would have all threads.
    """
    if device.type != "cpu" or not is_small(folder) or not _can_change():
        return 1
    found: list[int] = []
    # The calling thread may compute alone; another one has torch's number.
    other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    with _CHANGING:
        other.start()
        other.join()
    return min(found[0], _MOST_IMAGES)


def compute_with_all() -> None:
    """Let the calling thread keep torch's number, also while another engine's thread changes it.

    A thread takes the number when it uses torch for the first time, and keeps it.
    """
    with _CHANGING:
        torch.get_num_threads()
