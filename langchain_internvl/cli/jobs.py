"""Runs a tool over many inputs: progress, results one by one, and the number of failures."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import typer

from langchain_internvl.cli.exit_codes import FAILED, NOT_INSTALLED
from langchain_internvl.cli.inputs import Input, Kind, open_inputs
from langchain_internvl.cli.options import ModelOptions, OutputOptions
from langchain_internvl.cli.values import is_folder

if TYPE_CHECKING:
    from langchain_core.messages import ToolMessage

    from langchain_internvl.errors import RunGuard
    from langchain_internvl.tools.base import InternVLTool


@dataclass(frozen=True)
class Job:
    """A tool call for one input.

    Attributes:
        tool: Class of the tool.
        arguments: Arguments of the tool without the file.
        argument: Name of the argument for the file.
        pages: Pages of PDFs and TIFFs, as after `#page=`; None: `most_pages`.
        most_pages: Most pages of PDFs and TIFFs where none are named; None: all.
        password: Password of encrypted PDFs.
        unused: Names of given options that have no effect on this input.
    """

    tool: type[InternVLTool]
    arguments: Mapping[str, Any]
    argument: str = "image"
    pages: str | None = None
    most_pages: int | None = None
    password: str | None = field(default=None, repr=False)
    unused: tuple[str, ...] = ()


def run_jobs(
    names: Sequence[str],
    kinds: Collection[Kind],
    job: Callable[[Input], Job],
    model: ModelOptions,
    output: OutputOptions,
) -> None:
    """Run a job for every input; a failed input does not affect the others.

    Args:
        names: Inputs as named on the command line.
        kinds: Kinds of files that are read from folders.
        job: Makes the job of an input.
        model: Model options; decoding is greedy.
        output: Output options.

    Raises:
        typer.BadParameter: Options are invalid.
        typer.Exit: An input failed; the exit code is 1.
        InternVLError: The model cannot be used, so that every input would fail.
        ImportError: A package that the model needs is not installed.
    """
    from langchain_internvl.errors import RunGuard

    folder = output.out
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=folder).close()  # before any request
        except OSError as error:
            raise typer.BadParameter(
                f"--out: {folder} is no folder that can be written: {error}"
            ) from error
    settings = {
        "llm": model.open(temperature=0),
        "return_images": folder is not None,
        "handle_tool_error": False,
    }
    with open_inputs(names, kinds) as inputs:
        _check_options(inputs, job)
        is_alone = len(inputs) == 1 and not _is_a_folder(names)
        failures: list[Exception] = []
        guard = RunGuard()
        for number, one in enumerate(_track(inputs, is_quiet=is_alone), 1):
            try:
                message = _look(one, job(one), settings)
                if folder is not None:
                    _write(folder, number, one, message, as_json=output.as_json)
            except Exception as error:  # noqa: BLE001 - unexpected ones are raised again
                failures.append(_of_one_input(error, guard))
                _print_error(one, str(failures[-1]), as_json=output.as_json)
            else:
                guard.succeeded()
                _print(one, message, as_json=output.as_json, is_alone=is_alone)
    if failures:
        are_missing = all(isinstance(one, ImportError) for one in failures)
        raise typer.Exit(NOT_INSTALLED if are_missing else FAILED)


def _check_options(inputs: Sequence[Input], job: Callable[[Input], Job]) -> None:
    """Refuse options that have an effect on no input.

    Raises:
        typer.BadParameter: Pages are named, and all inputs are images and videos; or all inputs,
            none of them standard input, have an option in `Job.unused`.
    """
    named = [one for one in inputs if one.error is None]
    # A script does not know what standard input will be.
    unused = [set() if one.name == "-" else set(job(one).unused) for one in named]
    if useless := set.intersection(*unused) if unused else None:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(useless))
        raise typer.BadParameter(f"{named[0].name} is no video; leave {options} out")
    if any(one.may_have_pages for one in named):
        return
    if any(job(one).pages is not None for one in named):
        raise typer.BadParameter(
            f"{named[0].name} is not a PDF or TIFF and has no pages to choose; leave the option out"
        )


def _is_a_folder(names: Sequence[str]) -> bool:
    """Whether the only name is that of a folder."""
    return len(names) == 1 and names[0] != "-" and is_folder(names[0])


def _track(inputs: Sequence[Input], *, is_quiet: bool) -> Any:
    from rich.console import Console
    from rich.progress import track

    return track(inputs, "looking", console=Console(stderr=True), disable=is_quiet, transient=True)


def _of_one_input(error: Exception, guard: RunGuard) -> Exception:
    """The error of one input without the advice for agents that tools add.

    Raises:
        Exception: The error is not of the input alone.
    """
    from langchain_core.tools import ToolException

    if not _is_expected(error):
        raise error
    cause = error.__cause__
    if cause is not None and _ends_all(cause, guard):
        raise cause from None
    if isinstance(error, ToolException) and isinstance(cause, Exception):
        return cause
    return error


def _is_expected(error: Exception) -> bool:
    from langchain_core.tools import ToolException

    return isinstance(error, (ImportError, OSError, RuntimeError, ToolException, ValueError))


_NEEDED = frozenset({"bitsandbytes", "huggingface_hub", "lmdeploy", "openai", "torch",
                     "transformers", "xgrammar"})  # fmt: skip
"""Modules without which no request can be sent."""


def _ends_all(error: BaseException, guard: RunGuard) -> bool:
    """Whether an error of one input comes from the model, so that every input would fail."""
    if isinstance(error, ImportError):
        return error.name in _NEEDED
    return guard.ends(error)


def _look(one: Input, job: Job, settings: Mapping[str, Any]) -> ToolMessage:
    from langchain_internvl.media.policy import MediaPolicy

    if one.error is not None:
        raise ValueError(one.error)
    # What a file is, its bytes have told; of an address the tool finds out.
    has_pages = one.kind == "pdf" or one.is_tiff or (one.path is None and one.is_guess)
    is_asked = job.pages is not None and job.argument == "image" and has_pages
    pages = f"#page={job.pages}" if is_asked else ""
    settings = {**settings, "pdf_password": job.password, "most_pages": job.most_pages}
    if one.path is None:
        return _call(job.tool(**settings), {**job.arguments, job.argument: one.name + pages})
    # The tool may open the named file and no other.
    path = one.path.resolve()
    policy = MediaPolicy(roots=(str(path.parent),))
    tool = job.tool(**settings, media_policy=policy)
    return _call(tool, {**job.arguments, job.argument: str(path) + pages})


def _call(tool: InternVLTool, arguments: Mapping[str, Any]) -> ToolMessage:
    from langchain_core.tools import ToolException

    given = {name: one for name, one in arguments.items() if one is not None}
    call = {"type": "tool_call", "id": "1", "name": tool.name, "args": given}
    message: ToolMessage = tool.invoke(call)
    if message.status == "error":
        raise ToolException(message.text)
    return message


def _print(one: Input, message: ToolMessage, *, as_json: bool, is_alone: bool) -> None:
    if as_json:
        print_line({"file": one.name, "ok": True, **message.artifact.model_dump(mode="json")})
    else:
        head = "" if is_alone else f"{one.name}:\n"
        typer.echo(f"{head}{message.text}")


def _print_error(one: Input, reason: str, *, as_json: bool) -> None:
    if as_json:
        print_line({"file": one.name, "ok": False, "error": reason})
    else:
        typer.secho(f"{one.name}: {reason}", err=True, fg="red")


def _write(folder: Path, number: int, one: Input, message: ToolMessage, *, as_json: bool) -> None:
    """Write a result, and its image if it has one, to a folder."""
    from langchain_internvl.media.sources import decode_base64

    stem = re.sub(r"[^\w.-]+", "_", Path(one.name).stem)[:100]
    name = f"{number:04}-{stem}"
    if as_json:
        text, suffix = message.artifact.model_dump_json(indent=2), "json"
    else:
        text, suffix = message.text, "txt"
    (folder / f"{name}.{suffix}").write_text(f"{text}\n", "utf-8")
    for block in message.content_blocks:
        if block["type"] == "image":
            (folder / f"{name}.png").write_bytes(decode_base64(block["base64"], name))


def print_line(values: Mapping[str, Any]) -> None:
    """Print an object as a line of JSON, with escapes if the output cannot hold all characters."""
    line = json.dumps(values, ensure_ascii=False)
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        line = json.dumps(values)
    typer.echo(line)
