"""One tool over many files: progress, results one by one, and a count of what failed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.messages import ToolMessage
from rich.console import Console
from rich.progress import track

from langchain_internvl.media.sources import decode_base64
from langchain_internvl.tools.base import InternVLTool


@dataclass(frozen=True)
class Job:
    """A tool, and where its results go.

    Attributes:
        tool: The tool.
        argument: Name of its argument that is the file.
        as_json: Print results as JSON, a line each, rather than text.
        out: A folder for results; None: they are only printed.
        screen: Where results are printed.
        errors: Where progress and errors are.
    """

    tool: InternVLTool
    argument: str
    as_json: bool
    out: Path | None
    screen: Console
    errors: Console

    def run(self, files: Iterable[str], arguments: Mapping[str, Any]) -> int:
        """Look at each file.

        Returns:
            How many failed; the others are not affected.
        """
        names = list(files)
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
        failed = 0
        shown = track(
            names, self.tool.name, console=self.errors, disable=len(names) < 2, transient=True
        )
        for number, name in enumerate(shown):
            message = self._look(name, arguments)
            failed += message.status == "error"
            self._print(name, message, is_alone=len(names) == 1)
            if self.out is not None and message.status != "error":
                self._write(self.out / f"{number + 1:04}-{Path(name).stem[:100]}", message)
        return failed

    def _look(self, name: str, arguments: Mapping[str, Any]) -> ToolMessage:
        is_url = name.lower().startswith(("http://", "https://"))
        # Files that a person names are open to the tool, and nothing else.
        path = Path(name) if is_url else Path(name).resolve()
        policy = self.tool.media_policy
        if not is_url:
            policy = policy.model_copy(update={"roots": (path.parent,)})
        tool = self.tool.model_copy(update={"media_policy": policy})
        args = {**arguments, self.argument: name if is_url else str(path)}
        message: ToolMessage = tool.invoke(
            {"type": "tool_call", "id": "1", "name": tool.name, "args": args}
        )
        return message

    def _print(self, name: str, message: ToolMessage, *, is_alone: bool) -> None:
        text = message.text
        if self.as_json:
            line: dict[str, Any] = {"file": name, "ok": message.status != "error"}
            if message.status == "error":
                line["error"] = text
            else:
                line |= message.artifact.model_dump(mode="json")
            self.screen.print(json.dumps(line, ensure_ascii=False), markup=False, soft_wrap=True)
        elif message.status == "error":
            self.errors.print(f"{name}: {text}", style="red", markup=False, soft_wrap=True)
        else:
            head = "" if is_alone else f"{name}:\n"
            self.screen.print(f"{head}{text}", markup=False, highlight=False, soft_wrap=True)

    def _write(self, path: Path, message: ToolMessage) -> None:
        """The result beside others, and its picture if it has one."""
        artifact = message.artifact.model_dump_json(indent=2)
        if self.as_json:
            path.with_name(f"{path.name}.json").write_text(artifact + "\n", "utf-8")
        else:
            path.with_name(f"{path.name}.txt").write_text(message.text + "\n", "utf-8")
        for block in message.content_blocks:
            if block["type"] == "image":
                data = decode_base64(block["base64"], path.name)
                path.with_name(f"{path.name}.png").write_bytes(data)
