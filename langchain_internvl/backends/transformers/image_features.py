"""Vision features of the images of prompts: cached, or encoded concurrently with decoding."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

from langchain_internvl.backends.transformers.features import FeatureCache
from langchain_internvl.backends.transformers.image_jobs import ImageJob, Unwanted
from langchain_internvl.backends.transformers.vision import encode_image
from langchain_internvl.errors import PromptError, RequestTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_internvl.backends.transformers.sequences import PromptPlan, Sequence
    from langchain_internvl.media.lazy_tiles import ImageTiles


class ImageFeatures:
    """Provides prompts with the features of their images.

    Args:
        model: A native InternVL.
        max_bytes: Maximum memory of cached features, in bytes.

    Attributes:
        cache: The feature cache.
    """

    def __init__(self, model: Any, max_bytes: int) -> None:
        self.cache = FeatureCache(max_bytes)
        self._model = model
        self._job: ImageJob | None = None

    def find(self, prompt: PromptPlan, index: int) -> bool:
        """Whether the features of an image are available; if not, they will be encoded."""
        if index in prompt.features:
            return True
        image = prompt.images[index]
        found = self.cache.get(image.key)
        if found is not None:
            prompt.features[index] = found
            return True
        if self._job is None:
            self._job = ImageJob(image, self._encode)
            self._job.start()
        return False

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
            The affected sequences, and the error if encoding failed (the image cannot be decoded,
            or memory is full); else None. Empty if it was given up: the sequences that are left ask
            for it again.
        """
        job = self._job
        if job is None:
            return [], None
        waiting = [one for one in reading if _needs(one.prompt, job.image)]
        if not waiting:
            job.cancel()
        if not job.wait(0):
            return [], None
        self._job = None
        try:
            features = self._checked(job.image, job.result())
        except (Unwanted, RequestTimeoutError):
            # The time of one request is over; it ends as late, and the others start the image anew.
            return [], None
        except Exception as error:  # noqa: BLE001 - the decode loop handles it
            return waiting, error
        self.cache.misses += 1
        self.cache.put(job.image.key, features)
        for one in waiting:
            for index, image in enumerate(one.prompt.images):
                if image.key == job.image.key:
                    one.prompt.features[index] = features
        return waiting, None

    def wait(self, seconds: float) -> None:
        """Wait for the running encoding, up to a number of seconds."""
        if self._job is not None:
            self._job.wait(seconds)

    def stop(self) -> None:
        """Cancel the running encoding, and wait for its end."""
        job, self._job = self._job, None
        if job is not None:
            job.cancel()
            job.join()

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


def _needs(prompt: PromptPlan, image: ImageTiles) -> bool:
    return any(
        one.key == image.key and index not in prompt.features
        for index, one in enumerate(prompt.images)
    )
