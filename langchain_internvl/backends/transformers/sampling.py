"""Scores to the next tokens, for all sequences of a batch in one pass on the model's device.

Every sequence has its own random numbers, drawn on the CPU, one for each token: what else runs does
not change them. A token is chosen by inverting the cumulative distribution at that number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from langchain_internvl.backends.base import TokenLogprob
from langchain_internvl.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_internvl.backends.base import Sampling

COLDEST = 1e-5
"""Below this temperature scores leave float32, and only the likeliest token is left anyway."""

_HEAD = 256
"""Likeliest tokens that are sorted first on the CPU; the whole vocabulary only if `top_p` needs
more: sorting 151,674 scores takes 30 times as long."""


def is_greedy(sampling: Sampling) -> bool:
    """Whether the likeliest token is taken always, so that a seed changes nothing."""
    return sampling.temperature < COLDEST or sampling.top_k == 1


class SamplerState:
    """What the choice of a sequence's next token depends on, besides the scores.

    Args:
        sampling: How to choose.
        report: How many of the likeliest tokens are reported with each token; None: report no
            probabilities.
    """

    def __init__(self, sampling: Sampling, report: int | None = None) -> None:
        self.is_greedy = is_greedy(sampling)
        self.temperature = float(sampling.temperature)
        self.top_k = int(sampling.top_k)
        self.top_p = float(sampling.top_p)
        self.penalty = float(sampling.repetition_penalty)
        self.report = report
        self._random = torch.Generator()
        if sampling.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(sampling.seed)
        self._seen = np.zeros(64, np.int64)
        self._count = 0

    def draw(self) -> float:
        """The next random number, in [0, 1)."""
        return float(torch.rand((), generator=self._random, dtype=torch.float64))

    def see(self, token_id: int) -> None:
        """Remember a token of the reply, if a penalty needs it.

        As in the reference, whose prompt reaches `generate` as embeddings, the repetition penalty
        does not see the prompt.
        """
        if self.penalty == 1:
            return
        if self._count == len(self._seen):
            self._seen = np.resize(self._seen, 2 * self._count)
        self._seen[self._count] = token_id
        self._count += 1

    @property
    def seen(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """The tokens of the reply so far; none if there is no penalty."""
        return self._seen[: self._count]


@dataclass(frozen=True)
class Sampled:
    """The next token of one sequence.

    Attributes:
        token_id: The token.
        is_finite: Whether the scores were numbers; if not, the token means nothing.
        logprob: Logarithm of its probability, if asked for.
        top: The likeliest tokens and theirs, if asked for.
    """

    token_id: int
    is_finite: bool
    logprob: float | None = None
    top: tuple[TokenLogprob, ...] = ()


def no_numbers() -> BackendError:
    """The error of a sequence whose scores are no numbers."""
    return BackendError(
        "the model's scores are no numbers: its weights are damaged, or dtype is too small for "
        "them (float16 for a model made in bfloat16); try dtype='float32'"
    )


def sample(logits: torch.Tensor, states: Sequence[SamplerState]) -> list[Sampled]:
    """The next token of every sequence; one transfer from the device.

    Penalty, temperature, `top_k` and `top_p` are applied in the order of transformers' `generate`.

    Args:
        logits: float32 [sequences, vocabulary], minus infinity where a grammar forbids a token.
        states: The sequences' states, in the same order.

    Returns:
        One entry for each sequence. Probabilities are those of `logits`, so of what the grammar
        leaves, before penalty, temperature and cuts.
    """
    scores = _penalise(logits, states)
    best, ids = scores.max(-1)
    drawn = [index for index, state in enumerate(states) if not state.is_greedy]
    if drawn:
        every = len(drawn) == len(states)
        chosen = _draw(scores if every else scores[drawn], [states[index] for index in drawn])
        ids = chosen if every else ids.index_put((_on(drawn, ids.device),), chosen)
    columns = [ids.double()[:, None], best.isfinite().double()[:, None]]
    asked = [index for index, state in enumerate(states) if state.report is not None]
    most = min(max((states[index].report or 0 for index in asked), default=0), logits.shape[-1])
    if asked:
        columns += _logprobs(logits, ids, most, asked)
    return [
        _read(row, state, most)
        for row, state in zip(torch.cat(columns, -1).tolist(), states, strict=True)
    ]


def _on(values: Sequence[int], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, device=device)


def _penalise(logits: torch.Tensor, states: Sequence[SamplerState]) -> torch.Tensor:
    """Lower the scores of tokens of the replies: divide what is positive, multiply what is not.

    "CTRL" (https://huggingface.co/papers/1909.05858), section 4.1.
    """
    rows = [index for index, state in enumerate(states) if state.penalty != 1 and len(state.seen)]
    if not rows:
        return logits
    seen = [states[index].seen for index in rows]
    padded = np.stack([np.pad(one, (0, max(map(len, seen)) - len(one)), "edge") for one in seen])
    places = torch.from_numpy(padded).to(logits.device)
    penalty = _column([states[index].penalty for index in rows], logits)
    scores = logits.clone()
    chosen = _on(rows, logits.device)[:, None]
    values = logits[chosen, places]
    scores[chosen, places] = torch.where(values < 0, values * penalty, values / penalty)
    return scores


def _draw(scores: torch.Tensor, states: Sequence[SamplerState]) -> torch.Tensor:
    """Draw a token of each row.

    Rows with cuts are drawn from their sorted scores, rows without from the scores as they are:
    which of the two depends on the row alone, so a seed repeats in any company.
    """
    device = scores.device
    scores = scores / _column([state.temperature for state in states], scores)
    draws = _column([state.draw() for state in states], scores, torch.float64)
    cut = [index for index, state in enumerate(states) if state.top_k or state.top_p < 1]
    if not cut:
        return _invert(scores.softmax(-1), draws)
    if len(cut) == len(states):
        return _draw_sorted(scores, states, draws)
    ids = torch.empty(len(states), dtype=torch.long, device=device)
    free = [index for index in range(len(states)) if index not in set(cut)]
    ids[free] = _invert(scores[free].softmax(-1), draws[free])
    ids[cut] = _draw_sorted(scores[cut], [states[index] for index in cut], draws[cut])
    return ids


def _column(
    values: Sequence[float], like: torch.Tensor, dtype: torch.dtype | None = None
) -> torch.Tensor:
    return torch.tensor(values, device=like.device, dtype=dtype or like.dtype)[:, None]


def _draw_sorted(
    scores: torch.Tensor, states: Sequence[SamplerState], draws: torch.Tensor
) -> torch.Tensor:
    """Draw from the likeliest tokens of each row, as its `top_k` and `top_p` say."""
    size = scores.shape[-1]
    if scores.device.type != "cpu":  # sorting is cheap, asking how much suffices is not
        return _draw_from(*scores.sort(-1, descending=True), scores, states, draws)[0]
    ids, suffices = _draw_from(*scores.topk(min(_HEAD, size)), scores, states, draws)
    more = [index for index, enough in enumerate(suffices.tolist()) if not enough]
    if more:
        rest = scores[more]
        chosen = [states[index] for index in more]
        ordered = rest.sort(-1, descending=True)
        ids[more] = _draw_from(*ordered, rest, chosen, draws[more])[0]
    return ids


def _draw_from(
    values: torch.Tensor,
    places: torch.Tensor,
    scores: torch.Tensor,
    states: Sequence[SamplerState],
    draws: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a token of each row of the likeliest scores.

    Args:
        values: Scores, descending [rows, kept].
        places: Their tokens.
        scores: All scores [rows, vocabulary].
        states: The rows' states.
        draws: The rows' random numbers [rows, 1].

    Returns:
        The tokens, and whether as many scores as are kept were enough.
    """
    size, kept = scores.shape[-1], values.shape[-1]
    most = _column([min(state.top_k or size, size) for state in states], values, torch.long)
    limit = _column([state.top_p for state in states], values)
    ranks = torch.arange(kept, device=values.device)
    limited = values.masked_fill(ranks >= most, float("-inf"))
    # Of a row that top_k cuts here, what it keeps is all there is; else all of the vocabulary is.
    total = torch.where(most > kept, scores.logsumexp(-1, keepdim=True),
                        limited.logsumexp(-1, keepdim=True))  # fmt: skip
    probabilities = (limited - total).exp()
    before = probabilities.cumsum(-1) - probabilities
    reached = before[:, -1:] + probabilities[:, -1:] >= limit
    suffices = (most <= kept) | ((most == size) & reached)
    # The first token that reaches top_p is kept, and so is the likeliest.
    probabilities = probabilities.masked_fill((before >= limit) & (ranks > 0), 0)
    chosen = _invert(probabilities, draws)
    return places.gather(-1, chosen[:, None])[:, 0], suffices[:, 0]


def _invert(probabilities: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """The entries at which the cumulative distributions pass the random numbers.

    Args:
        probabilities: [rows, entries]; they need not add up to 1.
        draws: [rows, 1], in [0, 1).
    """
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1:]
    # Rounding may not lift a number to the total: beyond it lie entries of no probability.
    target = torch.minimum(draws * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target, right=True)[:, 0].clamp(
        max=probabilities.shape[-1] - 1
    )


def _logprobs(
    logits: torch.Tensor, ids: torch.Tensor, most: int, asked: Sequence[int]
) -> list[torch.Tensor]:
    """Columns of the tokens' logarithms, of the likeliest ones', and of their ids."""
    rows = _on(asked, logits.device)
    logprobs = logits[rows].log_softmax(-1)
    values, places = logprobs.topk(most, -1)
    own = logprobs.gather(-1, ids[rows][:, None])
    found = torch.cat([own, values, places.double()], -1).double()
    result = torch.zeros(len(logits), found.shape[-1], dtype=torch.float64, device=logits.device)
    result[rows] = found
    return [result]


def _read(row: list[float], state: SamplerState, most: int) -> Sampled:
    token_id, is_finite = int(row[0]), bool(row[1])
    if state.report is None or not is_finite:
        return Sampled(token_id, is_finite)
    values, ids = row[3 : 3 + most], row[3 + most :]
    top = tuple(
        TokenLogprob(int(one), value)
        for one, value in zip(ids[: state.report], values, strict=False)
        if value > float("-inf")  # what a grammar forbids is no alternative
    )
    return Sampled(token_id, is_finite, row[2], top)
