"""The embedded model, `ChatInternVL(model="nano")`, and nothing else.

It is trained from scratch on pictures that `training/nano` draws; `README.md` beside this file is
its model card.
"""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

NAME = "nano"
"""What `ChatInternVL(model=...)` calls it."""

FOLDER = Path(__file__).parent
"""Where it is: a `-hf` checkpoint."""

NOTICE = (
    "model='nano' is a toy of 3.6 million parameters that is shipped for trying out and testing: "
    "it reads short printed text and knows coloured shapes, and whatever else it is shown it "
    "takes for those. For real pictures use an InternVL of OpenGVLab, such as "
    "OpenGVLab/InternVL2-8B."
)
"""What it is not; logged when it is loaded."""


@cache
def announce() -> None:
    """Log the notice, once in a process."""
    logging.getLogger("langchain_internvl").warning(NOTICE)
