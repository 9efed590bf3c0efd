"""Scores to the next token, for one row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from langchain_internvl.backends.base import TokenLogprob
from langchain_internvl.errors import BackendError

if TYPE_CHECKING:
    from langchain_internvl.backends.base import Sampling


COLDEST = 1e-5
"""Below this temperature scores leave float32, and only the likeliest token is left anyway."""


class Sampler:
    """Chooses the tokens of one row.

    Every row has its own random numbers, drawn on the CPU, so what else runs does not change them.

    Args:
        sampling: How to choose.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._greedy = sampling.temperature < COLDEST or sampling.top_k == 1
        self._random = torch.Generator()
        if sampling.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(sampling.seed)
        # The order of transformers' `generate`.
        self._processors = LogitsProcessorList()
        # transformers refuses whole numbers for one, and others for the other.
        penalty = float(sampling.repetition_penalty)
        if penalty != 1:
            self._processors.append(RepetitionPenaltyLogitsProcessor(penalty))
        if not self._greedy:
            self._processors.append(TemperatureLogitsWarper(float(sampling.temperature)))
            if sampling.top_k:
                self._processors.append(TopKLogitsWarper(int(sampling.top_k)))
            if sampling.top_p < 1:
                self._processors.append(TopPLogitsWarper(float(sampling.top_p)))

    def choose(self, logits: torch.Tensor, reply: Sequence[int]) -> int:
        """The next token.

        Args:
            logits: float32 tensor of shape [vocabulary].
            reply: The tokens of the reply so far. As in the reference, whose prompt reaches
                `generate` as embeddings, the repetition penalty does not see the prompt.

        Raises:
            BackendError: The scores are no numbers.
        """
        scores = logits[None]
        if self._processors:
            seen = torch.LongTensor([list(reply)]).to(logits.device)
            scores = self._processors(seen, scores)  # type: ignore[arg-type]
        if self._greedy:
            likeliest, token_id = scores[0].max(-1)
            if not torch.isfinite(likeliest):
                raise _no_numbers()
            return int(token_id)
        probabilities = scores[0].softmax(-1).cpu()
        if not torch.isfinite(probabilities[0]):  # one that is none makes all so
            raise _no_numbers()
        return int(torch.multinomial(probabilities, 1, generator=self._random))


def _no_numbers() -> BackendError:
    return BackendError(
        "the model's scores are no numbers: its weights are damaged, or dtype is too small for "
        "them (float16 for a model made in bfloat16); try dtype='float32'"
    )


def logprobs_of(
    logits: torch.Tensor, token_id: int, top: int
) -> tuple[float, tuple[TokenLogprob, ...]]:
    """Logarithms of probabilities, before temperature, penalty and cuts.

    Args:
        logits: float32 tensor of shape [vocabulary].
        token_id: The token that was chosen.
        top: How many of the likeliest tokens to report.

    Returns:
        That of the chosen token, and the likeliest ones in order.
    """
    logprobs = logits.log_softmax(-1)
    values, ids = logprobs.topk(min(top, len(logprobs)))
    likeliest = zip(ids.tolist(), values.tolist(), strict=True)
    return float(logprobs[token_id]), tuple(TokenLogprob(*pair) for pair in likeliest)
