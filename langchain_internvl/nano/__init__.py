"""The embedded model, `ChatInternVL(model="nano")`, and nothing else.

It is trained from scratch on images that `training/nano` draws; `README.md` in this folder is its
model card.
"""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

NAME = "nano"
"""Its name in `ChatInternVL(model=...)`."""

FOLDER = Path(__file__).parent
"""Its folder, a `-hf` checkpoint."""

NOTICE = (
    "model='nano' is a toy of 3.9 million parameters for first steps and tests: it reads short "
    "printed text, recognises coloured shapes, and describes any other image as if it showed "
    "these. For real images use an InternVL checkpoint such as OpenGVLab/InternVL2-8B."
)
"""Notice on the limits of the model; logged when it is loaded."""


@cache
def announce() -> None:
    """Log the notice, once per process."""
    logging.getLogger("langchain_internvl").warning(NOTICE)
