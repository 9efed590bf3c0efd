"""Vision features of the images of prompts: cached, or encoded concurrently with decoding."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch

from langchain_internvl.backends.transformers.cpu_threads import compute_alone
from langchain_internvl.backends.transformers.features import FeatureCache
from langchain_internvl.backends.transformers.image_jobs import ImageJob, Unwanted
from langchain_internvl.backends.transformers.vision import encode_image
from langchain_internvl.errors import PromptError, RequestTimeoutError
from langchain_internvl.forks import renew_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_internvl.backends.transformers.sequences import PromptPlan, Sequence
    from langchain_internvl.media.lazy_tiles import ImageTiles


class ImageFeatures:
    """Provides prompts with the features of their images.

    Args:
        model: A native InternVL.
        max_bytes: Maximum memory of cached features, in bytes.
        at_once: Maximum number of images that are encoded at the same time. If there may be
            several, each has one thread, but an image beside which nothing is computed has all
            threads of torch.

    Attributes:
        cache: The feature cache.
    """

    def __init__(self, model: Any, max_bytes: int, at_once: int = 1) -> None:
        self.cache = FeatureCache(max_bytes)
        self._model = model
        self._at_once = at_once
        self._jobs: dict[bytes, ImageJob] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._ended = threading.Event()  # a job has ended since the last `collect`
        renew_after_fork(self, ImageFeatures._forget_jobs)

    def _forget_jobs(self) -> None:
        """Drop the jobs in a forked process, where no thread ends them."""
        self._jobs, self._pool = {}, None

    def find(self, prompt: PromptPlan, index: int) -> bool:
        """Whether the features of an image are available."""
        if index in prompt.features:
            return True
        image = prompt.images[index]
        found = self.cache.get(image.key)
        if found is None:
            return False
        prompt.features[index] = found
        return True

    def begin(self, reading: Iterable[Sequence], *, is_lone: bool) -> None:
        """Start to encode images that prompts need, as many as may be encoded at once.

        Args:
            reading: Sequences in prefill; images of the first ones are encoded first.
            is_lone: Whether there is no other sequence, such as one that is decoding.
        """
        wanted: dict[bytes, ImageTiles] = {}
        for prompt, index in _places(reading):
            if len(wanted) + len(self._jobs) >= self._at_once:
                break
            image = prompt.images[index]
            if not self.find(prompt, index) and image.key not in self._jobs:
                wanted[image.key] = image
        in_pool = self._at_once > 1 and (not is_lone or len(wanted) + len(self._jobs) > 1)
        if wanted and in_pool and self._pool is None:
            self._pool = ThreadPoolExecutor(self._at_once, "internvl-image", compute_alone)
        for key, image in wanted.items():
            self._jobs[key] = job = ImageJob(image, self._encode, self._ended)
            job.start(self._pool if in_pool else None)

    def encode_all(self, prompt: PromptPlan) -> None:
        """Look up or encode the features of all images of a prompt, blocking."""
        for index, _ in prompt.images_of(0, len(prompt)):
            if index not in prompt.features:
                image = prompt.images[index]
                features = self.cache.get(image.key)
                if features is None:
                    self.cache.misses += 1
                    features = self._checked(image, self._encode(image.cut(), lambda: False))
                    self.cache.put(image.key, features)
                prompt.features[index] = features

    def collect(self, reading: Iterable[Sequence]) -> tuple[list[Sequence], Exception | None]:
        """Pass encoded features to all prompts that need them.

        Returns:
            If the encoding of an image failed (it cannot be decoded, or memory is full), the
            sequences that need it, and the error; further images are collected by the next call.
            None if nothing failed, or if an image was given up: the sequences that are left ask
            for it again.
        """
        self._ended.clear()
        for job in list(self._jobs.values()):
            waiting = [one for one in reading if _needs(one.prompt, job.image)]
            if not waiting:
                job.cancel()
            if job.has_ended:
                error = self._collect(job, waiting)
                if error is not None:
                    return waiting, error
        if not self._jobs:
            self._end_pool(wait=False)
        return [], None

    def _collect(self, job: ImageJob, waiting: list[Sequence]) -> Exception | None:
        del self._jobs[job.image.key]
        try:
            features = self._checked(job.image, job.result())
        except (Unwanted, RequestTimeoutError):
            # The time of one request is over; it ends as late, and the others start the image anew.
            return None
        except Exception as error:  # noqa: BLE001 - the decode loop handles it
            return error
        self.cache.misses += 1
        self.cache.put(job.image.key, features)
        for one in waiting:
            for index, image in enumerate(one.prompt.images):
                if image.key == job.image.key:
                    one.prompt.features[index] = features
        return None

    def wait(self, seconds: float) -> None:
        """Wait for the end of an encoding, if any is running, up to a number of seconds."""
        if self._jobs:
            self._ended.wait(seconds)

    def stop(self) -> None:
        """Cancel the running encodings, and wait for their ends."""
        jobs, self._jobs = self._jobs, {}
        for job in jobs.values():
            job.cancel()
        for job in jobs.values():
            job.join()
        self._end_pool(wait=True)

    def _end_pool(self, *, wait: bool) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=wait)
            self._pool = None

    def clear(self) -> bool:
        """Clear the cache; returns whether it had any features."""
        had_any = self.cache.nbytes > 0
        self.cache.clear()
        return had_any

    def _encode(self, tiles: Any, is_unwanted: Callable[[], bool]) -> torch.Tensor:
        return encode_image(self._model, tiles, is_unwanted)

    def _checked(self, image: ImageTiles, features: torch.Tensor) -> torch.Tensor:
        wanted = image.count * self._model.config.image_seq_length
        if len(features) != wanted:
            raise PromptError(
                f"an image gives {len(features)} features where its prompt has {wanted}"
            )
        return features


def _places(reading: Iterable[Sequence]) -> Iterator[tuple[PromptPlan, int]]:
    """The images that sequences have not read to their end, in their order."""
    for one in reading:
        for index, _ in one.prompt.images_of(one.length, len(one.prompt)):
            yield one.prompt, index


def _needs(prompt: PromptPlan, image: ImageTiles) -> bool:
    return any(
        one.key == image.key and index not in prompt.features
        for index, one in enumerate(prompt.images)
    )
