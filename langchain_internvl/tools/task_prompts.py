"""What a model is asked for each job, unless the caller has words of their own.

The embedded model is trained on these and on paraphrases of them; `GROUND` is InternVL's own
(its plural form makes models echo the template, see OpenGVLab/InternVL#433).
"""

from __future__ import annotations

import re

DESCRIBE = "Please describe the image shortly."
"""Asks for a description of an image."""

READ = "Read all text in the image. Answer with the text only."
"""Asks for the text on an image (OCR)."""

GROUND = (
    "Please provide the bounding box coordinate of the region this sentence describes: "
    "<ref>{}</ref>"
)
"""Asks where something is; `{}` is its name."""

WATCH = "Describe this video in detail."
"""Asks what happens in a video."""

_MARKUP = re.compile(r"</?(?:ref|box|quad|label|brief)>")
"""Tags of grounding, which would end the name in `GROUND` early."""


def ask_for_boxes(name: str) -> str:
    """The question where something is.

    Args:
        name: What to find; markup of grounding in it is left out.
    """
    return GROUND.format(" ".join(_MARKUP.sub(" ", name).split()))
