"""All rows, in the order in which they are printed."""

from __future__ import annotations

from benchmarks.row import Row, Study
from benchmarks.rows import calls, chat, memory, pauses, steps, tiles, turns, videos

STUDIES: tuple[Study, ...] = (
    turns.STUDY,
    calls.STUDY,
    pauses.STUDY,
    steps.STUDY,
    chat.STUDY,
    tiles.STUDY,
    videos.STUDY,
    memory.STUDY,
)

ROWS: tuple[Row, ...] = tuple(row for study in STUDIES for row in study.rows)
