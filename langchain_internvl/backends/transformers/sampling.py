"""Samples the next tokens of all sequences of a batch in one pass on the model's device.

Every sequence has its own random generator on the CPU, so samples are independent of the rest of
the batch. A token is sampled by inverting the cumulative distribution at a random number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import threshold

from langchain_internvl.backends.base import TokenLogprob

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_internvl.backends.base import Sampling

COLDEST = 1e-5
"""Temperatures below this are greedy decoding: scaled logits would overflow float32."""

_HOTTEST = 1e30
"""Temperatures above this sample as this one does, uniformly. As infinity of float32 they would
turn forbidden logits (minus infinity) into no numbers."""

_STRONGEST = 1e20
"""Repetition penalties act up to this factor and from its inverse: logits stay finite in float32,
also after division by the temperature."""

_HEAD = 256
"""Number of likeliest tokens that are sorted on the CPU. To sort 16 rows of 151,674 logits takes 83
ms, to sort their 256 likeliest 2 ms."""

_ATTEMPTS = 8
"""Number of draws from the whole vocabulary for a `top_p` that keeps more than the sorted tokens,
before the vocabulary is sorted after all. All of them fail with a probability of (1 - top_p) ** 8.
"""

_BLOCK = 512
"""Entries of a block of a large distribution; see `_invert`."""


def is_greedy(sampling: Sampling) -> bool:
    """Whether decoding is greedy, so that a seed has no effect."""
    return sampling.temperature < COLDEST or sampling.top_k == 1


class SamplerState:
    """Sampling state of one sequence.

    Args:
        sampling: Sampling parameters.
        report: Number of alternatives reported with each token; None: no log probabilities.
    """

    def __init__(self, sampling: Sampling, report: int | None = None) -> None:
        self.is_greedy = is_greedy(sampling)
        self._is_seeded = sampling.seed is not None and not self.is_greedy
        self.temperature = min(float(sampling.temperature), _HOTTEST)
        self.top_k = int(sampling.top_k)
        self.top_p = float(sampling.top_p)
        penalty = float(sampling.repetition_penalty)
        self.penalty = min(max(penalty, 1 / _STRONGEST), _STRONGEST)
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

    @property
    def position(self) -> torch.Tensor | None:
        """Position in the random numbers of a seed; None: there is no seed, or it has no effect."""
        return self._random.get_state() if self._is_seeded else None

    def return_to(self, position: torch.Tensor | None) -> None:
        """Draw again the numbers after an earlier position."""
        if position is not None:
            self._random.set_state(position)

    def see(self, token_id: int) -> None:
        """Record a token of the reply for the repetition penalty.

        The penalty does not apply to tokens of the prompt, as in the reference, which passes the
        prompt to `generate` as embeddings.
        """
        if self.penalty == 1:
            return
        if self._count == len(self._seen):
            self._seen = np.resize(self._seen, 2 * self._count)
        self._seen[self._count] = token_id
        self._count += 1

    @property
    def seen(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Token ids of the reply so far; empty without a penalty."""
        return self._seen[: self._count]


@dataclass(frozen=True)
class Sampled:
    """The next token of one sequence.

    Attributes:
        token_id: The token.
        is_finite: Whether the logits were finite; if not, the token is meaningless.
        logprob: Natural logarithm of its probability; None: not requested.
        top: The likeliest tokens with their log probabilities, if requested.
    """

    token_id: int
    is_finite: bool
    logprob: float | None = None
    top: tuple[TokenLogprob, ...] = ()


def sample(logits: torch.Tensor, states: Sequence[SamplerState]) -> list[Sampled]:
    """Sample the next token of every sequence, with one transfer from the device.

    Penalty, temperature, `top_k` and `top_p` are applied in the order of transformers' `generate`.

    Args:
        logits: float32 [sequences, vocabulary], minus infinity where a grammar forbids a token.
        states: The sequences' states, in the same order.

    Returns:
        One entry for each sequence. Probabilities are those of `logits`: with the grammar applied,
        before penalty, temperature, `top_k` and `top_p`.
    """
    scores = _penalise(logits, states)
    drawn = [index for index, state in enumerate(states) if not state.is_greedy]
    if len(drawn) == len(states):
        best = scores.amax(-1)  # without the places it takes a third of the time
        ids = _draw(scores, states, is_owned=scores is not logits)
    else:
        best, ids = scores.max(-1)
        if drawn:
            own = [states[index] for index in drawn]
            chosen = _draw(_rows(scores, drawn), own, is_owned=True)
            ids = ids.index_put((_on(drawn, ids.device),), chosen)
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


def _rows(tensor: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    """Copies of rows. Indexing by a list would compute the place of every entry on the CPU."""
    return tensor.index_select(0, _on(rows, tensor.device))


def _penalise(logits: torch.Tensor, states: Sequence[SamplerState]) -> torch.Tensor:
    """Lower the logits of tokens of the replies: divide positive ones, multiply negative ones.

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


def _draw(scores: torch.Tensor, states: Sequence[SamplerState], *, is_owned: bool) -> torch.Tensor:
    """Draw a token for each row.

    Rows with `top_k` or `top_p` are drawn from sorted logits, other rows from unsorted ones. The
    method depends on the row alone, so results of a seed do not depend on the batch. Logits that
    the caller does not use again (`is_owned`) are divided in place.
    """
    device = scores.device
    temperatures = _column([state.temperature for state in states], scores)
    scores = scores.div_(temperatures) if is_owned else scores / temperatures
    draws = _column([state.draw() for state in states], scores, torch.float64)
    cut = [index for index, state in enumerate(states) if state.top_k or state.top_p < 1]
    if not cut:
        return _invert(scores.softmax(-1), draws)
    if len(cut) == len(states):
        return _draw_sorted(scores, states, draws)
    ids = torch.empty(len(states), dtype=torch.long, device=device)
    free = [index for index in range(len(states)) if index not in set(cut)]
    ids[free] = _invert(_rows(scores, free).softmax(-1), draws[free])
    ids[cut] = _draw_sorted(_rows(scores, cut), [states[index] for index in cut], draws[cut])
    return ids


def _column(
    values: Sequence[float], like: torch.Tensor, dtype: torch.dtype | None = None
) -> torch.Tensor:
    return torch.tensor(values, device=like.device, dtype=dtype or like.dtype)[:, None]


def _draw_sorted(
    scores: torch.Tensor, states: Sequence[SamplerState], draws: torch.Tensor
) -> torch.Tensor:
    """Draw from the likeliest tokens of each row, by its `top_k` and `top_p`."""
    size = scores.shape[-1]
    if scores.device.type != "cpu":  # sorting is cheap there, but a synchronisation is not
        return _draw_from_all(scores, states, draws)
    kept = min(_HEAD, size)
    # A softmax is faster than the logarithm of the sum, and a second method may need it.
    every = scores.softmax(-1)
    values, places = scores.topk(kept)
    ids, suffices = _draw_from(values, places, every.gather(-1, places), states, draws, size=size)
    more = [index for index, enough in enumerate(suffices.tolist()) if not enough]
    wide = [index for index in more if not kept < states[index].top_k < size]
    if wide:
        ids[wide] = _draw_by_rejection(every, wide, states, draws)
    for index in set(more).difference(wide):  # `top_k` is above the number of sorted tokens
        row, state = scores[index : index + 1], [states[index]]
        values, places = row.topk(states[index].top_k)
        own = draws[index : index + 1]
        ids[index] = _draw_from(values, places, values, state, own, size=size)[0]
    return ids


def _draw_from_all(
    scores: torch.Tensor, states: Sequence[SamplerState], draws: torch.Tensor
) -> torch.Tensor:
    values, places = scores.sort(-1, descending=True)
    return _draw_from(values, places, values.softmax(-1), states, draws, size=values.shape[-1])[0]


def _draw_by_rejection(
    probabilities: torch.Tensor,
    rows: Sequence[int],
    states: Sequence[SamplerState],
    draws: torch.Tensor,
) -> torch.Tensor:
    """Draw from the tokens that `top_p` keeps, without sorting the vocabulary.

    A token is drawn from the whole distribution, and kept if the likelier tokens together have less
    than `top_p`; else another one is drawn. Of equally likely tokens at the limit all are kept.

    Args:
        probabilities: Of all rows [all rows, vocabulary], because copies of most take longer.
        rows: Indices of the rows to draw for.
        states: Sampling states of all rows.
        draws: Random numbers of all rows [all rows, 1].

    Returns:
        Token ids [rows].
    """
    ids = _invert(probabilities, draws)
    left = list(rows)  # which may need another draw
    for _ in range(_ATTEMPTS):
        left = [row for row in left if _is_cut(probabilities[row], ids[row], states[row].top_p)]
        if not left:
            return ids[list(rows)]
        draws = _column([states[row].draw() for row in left], probabilities, torch.float64)
        ids[left] = _invert(_rows(probabilities, left), draws)
    rest = _rows(probabilities, left).log()
    ids[left] = _draw_from_all(rest, [states[row] for row in left], draws)
    return ids[list(rows)]


def _is_cut(probabilities: torch.Tensor, token: torch.Tensor, top_p: float) -> bool:
    """Whether the tokens that are likelier than a token have `top_p` together.

    Row by row, because a row's numbers stay in the processor's cache between the steps.
    """
    return float(threshold(probabilities, float(probabilities[token]), 0).sum()) >= top_p


def _draw_from(
    values: torch.Tensor,
    places: torch.Tensor,
    shares: torch.Tensor,
    states: Sequence[SamplerState],
    draws: torch.Tensor,
    *,
    size: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a token for each row from its likeliest logits.

    Args:
        values: Logits in descending order [rows, kept].
        places: Their token ids [rows, kept].
        shares: Their probabilities in the whole vocabulary [rows, kept]; for rows with a `top_k`
            of no more than `kept` they are not used.
        states: Sampling states of the rows.
        draws: Random numbers of the rows [rows, 1].
        size: Entries of the whole vocabulary.

    Returns:
        The token ids, and whether the kept logits were sufficient.
    """
    kept = values.shape[-1]
    most = _column([min(state.top_k or size, size) for state in states], values, torch.long)
    limit = _column([state.top_p for state in states], values)
    ranks = torch.arange(kept, device=values.device)
    limited = values.masked_fill(ranks >= most, float("-inf"))
    # Rows with top_k are normalised over the kept tokens, others over the whole vocabulary.
    probabilities = torch.where(most > kept, shares, limited.softmax(-1))
    before = probabilities.cumsum(-1) - probabilities
    reached = before[:, -1:] + probabilities[:, -1:] >= limit
    suffices = (most <= kept) | ((most == size) & reached)
    # The first token that reaches top_p is kept, and the likeliest one always.
    probabilities = probabilities.masked_fill((before >= limit) & (ranks > 0), 0)
    chosen = _invert(probabilities, draws)
    return places.gather(-1, chosen[:, None])[:, 0], suffices[:, 0]


def _invert(probabilities: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """The indices at which the cumulative distributions exceed the random numbers.

    Args:
        probabilities: [rows, entries]; need not be normalised.
        draws: [rows, 1], in [0, 1).
    """
    size = probabilities.shape[-1]
    if size <= _BLOCK:
        return _invert_sum(probabilities.cumsum(-1, dtype=torch.float64), draws)[0]
    # Sums of blocks first: a float64 sum over each entry of 16 x 151,674 takes 12 ms.
    end = size - size % _BLOCK
    whole, rest = probabilities[:, :end], probabilities[:, end:]
    sums = whole.view(len(draws), -1, _BLOCK).sum(-1)
    sums = torch.cat([sums, rest.sum(-1, keepdim=True)], -1)
    block, inside = _invert_sum(sums.cumsum(-1, dtype=torch.float64), draws)
    places = block[:, None] * _BLOCK + torch.arange(_BLOCK, device=block.device)
    chosen = probabilities.gather(-1, places.clamp(max=size - 1)).masked_fill(places >= size, 0)
    index, _ = _invert_sum(chosen.cumsum(-1, dtype=torch.float64), inside)
    return (block * _BLOCK + index).clamp(max=size - 1)


def _invert_sum(cumulative: torch.Tensor, draws: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The indices at which cumulative sums exceed their share of the total.

    Args:
        cumulative: float64 [rows, entries].
        draws: Shares [rows, 1], in [0, 1).

    Returns:
        The indices [rows], and the place of each share within its entry [rows, 1], in [0, 1).
    """
    total = cumulative[:, -1:]
    # A number must stay below the total after rounding: later entries have no probability.
    target = torch.minimum(draws * total, torch.nextafter(total, torch.zeros_like(total)))
    index = torch.searchsorted(cumulative, target, right=True).clamp(max=cumulative.shape[-1] - 1)
    before = torch.where(index > 0, cumulative.gather(-1, (index - 1).clamp(min=0)), 0)
    inside = (target - before) / (cumulative.gather(-1, index) - before)
    return index[:, 0], inside.clamp(0, 1)


def _logprobs(
    logits: torch.Tensor, ids: torch.Tensor, most: int, asked: Sequence[int]
) -> list[torch.Tensor]:
    """Columns: log probabilities of the tokens and of the alternatives, and ids of the latter."""
    rows = _on(asked, logits.device)
    logprobs = _rows(logits, asked).log_softmax(-1)
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
        if value > float("-inf")  # forbidden tokens are not alternatives
    )
    return Sampled(token_id, is_finite, row[2], top)
