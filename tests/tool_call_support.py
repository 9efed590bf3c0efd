"""Tools of every kind, and models whose replies call them."""

import json
from typing import Annotated, TypedDict

from golden import checkpoint_folder
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from langchain_internvl import ChatInternVL
from langchain_internvl.backends.scripted import ScriptedBackend

QWEN2, INTERNLM2 = str(checkpoint_folder("qwen2")), str(checkpoint_folder("internlm2"))


@tool
def weather(city: str, days: int = 1) -> str:
    """The weather of a city.

    Args:
        city: Its name.
        days: How many days.
    """
    return "sunny"


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Look(BaseModel):
    """Look at something."""

    at: str = Field(description="what")


class Go(TypedDict):
    """Go somewhere."""

    to: Annotated[str, ..., "where"]


class Tree(BaseModel):
    """A tree."""

    leaf: bool
    branches: list["Tree"] = Field(default=[], max_length=2)


SCHEMA = {"title": "stop", "type": "object", "properties": {"now": {"type": "boolean"}}}
OPENAI = {"type": "function", "function": {"name": "wait", "parameters": SCHEMA}}
ANTHROPIC = {"name": "run", "description": "Run.", "input_schema": SCHEMA}


def call(name, **arguments):
    body = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{body}\n</tool_call>"


def scripted(*replies, model=QWEN2, **settings):
    return ChatInternVL(model=model, backend=ScriptedBackend(replies), **settings)


def asked(llm):
    return llm.backend.requests[-1]


def names_of_calls(message):
    return [one["name"] for one in message.tool_calls]
