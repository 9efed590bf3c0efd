"""Model calls whose replies are input of a program, not output for the user."""

from __future__ import annotations

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs

_NOT_STREAMED = "nostream"
"""LangGraph's `stream_mode="messages"` leaves out runs with this tag (its `TAG_NOSTREAM`)."""


def inner_config(config: RunnableConfig | None, purpose: str) -> RunnableConfig:
    """The config of inner model calls, which no stream of an agent or a graph shows.

    Args:
        config: The config of the run around them; None: LangChain finds that run itself.
        purpose: A tag that identifies the calls in traces and in `astream_events`.
    """
    own = (config or {}).get("tags") or []
    return merge_configs(config, {"tags": [*own, _NOT_STREAMED, purpose]})
