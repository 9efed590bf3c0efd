"""What tokens of tiles are made to know, in training only.

Answers say little about where to look: with them alone, 9,000 pictures of shapes were not
enough to find any. So each token is also asked directly for the thing that covers it, or for
the letters in its square. The questions are linear, so what a language model reads holds the
answers plainly.

So are letters once they are written: each for the place of the token that it was read from, in the
directions in which that token knows it; and those of the name of a line that is located, for where
the line is. Digits of boxes are read from them. Before, the letters of names knew little of
where they stand: a linear probe of them was 40 pixels off; after 1,700 steps of it, 24.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from nano_training.held_out import COLOURS
from nano_training.sizes import SQUARE, TILE
from nano_training.things import KINDS, LETTERS, SLOTS, UNKNOWN

_PERIODS = (2.0, 0.5, 0.2, 0.1)
"""Of the waves that a side of a box is told by; the shortest ones tell the tens of a thousand."""

_COLOURS, _KINDS = len(COLOURS) + 1, len(KINDS) + 1
_OWN_PERIODS = (2.0, 0.5, 0.25)
"""Of the waves that a token tells its own place by."""

_OWN, _BOXES, _PARTS = 6, 10, 10
"""Weights of a token's own place, of where a box is on the whole picture, and of its part inside
a token's square. At 3, tokens that hold letters did not know well in which row of squares they
are: a linear probe of them is 12 pixels off in the mean, of a square's 32, of bare paper 5; at 6
it was 10 within 1,700 steps, and at 15 reading suffered."""

_READ, _SIDES = 3, 15
"""Weights of where letters were read, and of where the sides of a located line are."""

_PLACES = SLOTS[0] * SLOTS[1]
_BLANK = 0.1
"""Weight of places without a letter, which are most."""


class Landmarks(nn.Module):
    """Asks tokens what they know of things; has no part in the exported model.

    Args:
        width: Length of the tokens' features.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.places = nn.Linear(width, 2 * 2 * len(_OWN_PERIODS))
        self.things = nn.Linear(width, _COLOURS + _KINDS + 1 + 4 + 8 * len(_PERIODS))
        self.letters = nn.Linear(width, _PLACES * (len(LETTERS) + 1))
        self.sides = nn.Linear(width, 4 * 2 * len(_PERIODS))
        # Not asking at first: questions of chance would only disturb what is known.
        for head in (self.places, self.things, self.letters, self.sides):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        weights = torch.ones(len(LETTERS) + 1)
        weights[-1] = _BLANK
        self.register_buffer("_weights", weights)

    def forward(
        self, features: Tensor, known: Tensor, window: tuple[int, int], origin: tuple[int, int]
    ) -> Tensor:
        """The loss.

        Args:
            features: float [tiles, tokens, width].
            known: float [tiles * tokens, FACTS], as `things` has it.
            window: Height and width of the tiles in pixels.
            origin: Row and column of the patch of a whole tile where they begin.
        """
        own = (
            _places(window, origin).to(features.device).expand(len(features), -1, -1).flatten(0, 1)
        )
        features = functional.layer_norm(features.flatten(0, 1), features.shape[-1:])
        loss = _OWN * functional.mse_loss(self.places(features), own)
        has_things, has_letters = known[:, 0] != UNKNOWN, known[:, -1] != UNKNOWN
        if has_things.any():
            loss = loss + self._things(features[has_things], known[has_things])
        if has_letters.any():
            said = self.letters(features[has_letters]).unflatten(1, (_PLACES, -1)).flatten(0, 1)
            right = known[has_letters, -_PLACES:].long().flatten()
            loss = loss + functional.cross_entropy(said, right, self.get_buffer("_weights"))
        return loss

    def letters_read(self, letters: Tensor, places: Tensor) -> Tensor:
        """The loss of letters that were written.

        Args:
            letters: float [n, width], what a layer of language reads of each; n is not 0.
            places: float [n, 2], as `places_on_tile` has them.
        """
        letters = functional.layer_norm(letters, letters.shape[-1:])
        # The question is the eyes': letters that know nothing yet shall not change it.
        head = self.places
        said = functional.linear(letters, head.weight.detach(), head.bias.detach())
        return _READ * functional.mse_loss(said, _waves(places, _OWN_PERIODS))

    def lines(self, letters: Tensor, sides: Tensor) -> Tensor:
        """The loss of the letters of located names.

        Args:
            letters: float [n, width], what the last layer of language reads of each; n is not 0.
            sides: float [n, 4], as `Batch` has them.
        """
        letters = functional.layer_norm(letters, letters.shape[-1:])
        right = _waves(sides.nan_to_num())  # what is not known must not reach gradients
        missed = (self.sides(letters) - right).square().unflatten(1, (4, -1))
        loss: Tensor = _SIDES * missed[~sides.isnan()].mean()
        return loss

    def _things(self, features: Tensor, known: Tensor) -> Tensor:
        said = self.things(features)
        sizes = [_COLOURS, _KINDS, 1, 4, 8 * len(_PERIODS)]
        colours, kinds, middles, parts, waves = said.split(sizes, 1)
        loss = functional.cross_entropy(colours, known[:, 0].long())
        loss = loss + functional.cross_entropy(kinds, known[:, 1].long())
        loss = loss + functional.binary_cross_entropy_with_logits(middles[:, 0], known[:, 2])
        is_thing = known[:, 0] < len(COLOURS)
        if is_thing.any():
            known = known[is_thing]
            loss = loss + _PARTS * functional.mse_loss(parts[is_thing], known[:, 7:11])
            loss = loss + _BOXES * functional.mse_loss(waves[is_thing], _waves(known[:, 3:7]))
        return loss


def _places(window: tuple[int, int], origin: tuple[int, int]) -> Tensor:
    """Where the tokens of a window are on their tile, as waves: [tokens, 2 * 2 * periods]."""
    return _waves(places_on_tile(window, origin), _OWN_PERIODS)


def places_on_tile(window: tuple[int, int], origin: tuple[int, int]) -> Tensor:
    """Rows and columns of the middles of a window's tokens, as shares of a tile: [tokens, 2]."""
    sides = [
        (torch.arange(size // SQUARE) + start / 2 + 0.5) * (SQUARE / TILE)
        for size, start in zip(window, origin, strict=True)
    ]
    return torch.cartesian_prod(*sides)


def _waves(shares: Tensor, periods: tuple[float, ...] = _PERIODS) -> Tensor:
    """Shares of a picture, [n, m], to the places on waves, [n, m * 2 * periods]."""
    turns = shares[..., None] * (2 * math.pi / shares.new_tensor(periods))
    return torch.cat([turns.sin(), turns.cos()], -1).flatten(1)
