"""Arguments shared by several tools, with their descriptions for the agent's model."""

from __future__ import annotations

IMAGE = (
    "Which picture: a path, an http(s) URL, or a picture of this conversation: 'image:1' is its "
    "first, 'last' its latest (pages of PDFs are not counted). A PDF or a TIFF may be named by "
    "path or URL too: 'scan.pdf#page=2' is one page of it, 'scan.pdf#page=2-5' are several."
)

REGION = (
    "Only look at this part of the picture: 'left, top, right, bottom' in thousandths of its "
    "width and height (0 to 1000), as the ground tool returns them."
)

VIDEO = (
    "Which video: a path, an http(s) URL, or a video of this conversation: 'video:1' is its "
    "first, 'last' its latest."
)

LANGUAGE = "Language of the answer, such as 'German'; by default that of the question."
