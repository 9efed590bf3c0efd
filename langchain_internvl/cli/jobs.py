"""Tools over many files: progress, results one by one, and a count of what failed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from langchain_core.messages import ToolMessage
from langchain_core.tools import ToolException
from rich.console import Console
from rich.progress import track

from langchain_internvl.media.sources import decode_base64
from langchain_internvl.tools.base import InternVLTool


@dataclass(frozen=True)
class Task:
    """One file, and what is done with it.

    Attributes:
        file: As it was named: a path or a URL.
        tool: The tool.
        argument: Name of the tool's argument that is the file.
        arguments: Its other arguments.
    """

    file: str
    tool: InternVLTool
    argument: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Output:
    """Where results go.

    Attributes:
        as_json: Print them as JSON, a line each, rather than text.
        folder: A folder for a file each; None: they are only printed.
    """

    as_json: bool
    folder: Path | None

    def run(self, tasks: Sequence[Task]) -> int:
        """Do tasks, one after the other.

        Returns:
            How many failed; the others are not affected.
        """
        progress = Console(stderr=True)
        is_alone = len(tasks) == 1
        failed = 0
        for number, task in enumerate(
            track(tasks, "looking", console=progress, disable=is_alone, transient=True), 1
        ):
            try:
                message = _look(task)
                if self.folder is not None:
                    self._write(self.folder, number, task, message)
            except (ImportError, OSError, RuntimeError, ToolException, ValueError) as error:
                failed += 1
                self._print_error(task, str(error))
            else:
                self._print(task, message, is_alone=is_alone)
        return failed

    def _print(self, task: Task, message: ToolMessage, *, is_alone: bool) -> None:
        if self.as_json:
            found = message.artifact.model_dump(mode="json")
            _line({"file": task.file, "ok": True, **found})
        else:
            head = "" if is_alone else f"{task.file}:\n"
            typer.echo(f"{head}{message.text}")

    def _print_error(self, task: Task, reason: str) -> None:
        if self.as_json:
            _line({"file": task.file, "ok": False, "error": reason})
        else:
            typer.secho(f"{task.file}: {reason}", err=True, fg="red")

    def _write(self, folder: Path, number: int, task: Task, message: ToolMessage) -> None:
        """The result, and its picture if it has one."""
        stem = re.sub(r"[^\w.-]+", "_", Path(task.file).stem)[:100]
        name = f"{number:04}-{stem}"
        if self.as_json:
            text, suffix = message.artifact.model_dump_json(indent=2), "json"
        else:
            text, suffix = message.text, "txt"
        (folder / f"{name}.{suffix}").write_text(f"{text}\n", "utf-8")
        for block in message.content_blocks:
            if block["type"] == "image":
                (folder / f"{name}.png").write_bytes(decode_base64(block["base64"], name))


def _look(task: Task) -> ToolMessage:
    if task.file.lower().startswith(("http://", "https://")):
        return _call(task.tool, {**task.arguments, task.argument: task.file})
    # A file that a person names is open to the tool, and no other.
    path = Path(task.file).resolve()
    policy = task.tool.media_policy.model_copy(update={"roots": (str(path.parent),)})
    tool = task.tool.model_copy(update={"media_policy": policy})
    return _call(tool, {**task.arguments, task.argument: str(path)})


def _call(tool: InternVLTool, arguments: Mapping[str, Any]) -> ToolMessage:
    call = {"type": "tool_call", "id": "1", "name": tool.name, "args": dict(arguments)}
    message: ToolMessage = tool.invoke(call)
    if message.status == "error":
        raise ToolException(message.text)
    return message


def _line(values: Mapping[str, Any]) -> None:
    typer.echo(json.dumps(values, ensure_ascii=False))
