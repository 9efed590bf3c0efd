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
    "model='nano' is a toy of 3.6 million parameters that is shipped for trying out and testing: "
    "it reads short printed text and knows coloured shapes, and whatever else it is shown it "
    "takes for those. For real pictures use an InternVL of OpenGVLab, such as "
    "OpenGVLab/InternVL2-8B."
)
"""Notice on the limits of the model; logged when it is loaded."""


@cache
def announce() -> None:
    """Log the notice, once per process."""
    logging.getLogger("langchain_internvl").warning(NOTICE)
