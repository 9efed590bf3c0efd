"""The command-line application, and the exit codes of its errors.

| exit code | meaning |
|---|---|
| 0 | success |
| 1 | something failed: a file, a case, a check, a server |
| 2 | invalid arguments or options |
| 3 | a package is missing; the message names the extra that installs it |
| 130 | interrupted |
"""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from langchain_internvl._version import __version__
from langchain_internvl.cli.commands.ask import ask
from langchain_internvl.cli.commands.compare import compare
from langchain_internvl.cli.commands.describe import describe
from langchain_internvl.cli.commands.doctor import doctor
from langchain_internvl.cli.commands.evaluate import evaluate
from langchain_internvl.cli.commands.ground import ground
from langchain_internvl.cli.commands.mcp import mcp
from langchain_internvl.cli.commands.ocr import ocr
from langchain_internvl.cli.commands.read import read
from langchain_internvl.cli.commands.serve_view import serve_view
from langchain_internvl.cli.exit_codes import FAILED, INTERRUPTED, NOT_INSTALLED


class _Group(TyperGroup):
    """Command group that reports errors as one line and an exit code, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:  # such as `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            ctx.exit(FAILED)
        except Exception as error:
            if type(error).__module__.split(".")[0] in {"click", "typer"}:
                raise  # its own, with texts and exit codes
            if os.environ.get("INTERNVL_TRACEBACK"):
                raise
            typer.secho(_explain(error), err=True, fg="red")
            ctx.exit(NOT_INSTALLED if isinstance(error, ImportError) else FAILED)


def _explain(error: Exception) -> str:
    from langchain_internvl.cli.options import in_options
    from langchain_internvl.errors import InternVLError

    if isinstance(error, (ImportError, InternVLError, OSError)) and str(error):
        return in_options(" ".join(str(error).split()))
    return f"{type(error).__name__}: {error} (INTERNVL_TRACEBACK=1 shows where)"


app = typer.Typer(
    cls=_Group,
    help="InternVL vision-language models for images, PDFs and videos.",
    epilog="Exit codes: 0 done, 1 something failed, 2 wrong usage, 3 a package is missing.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for _command in (describe, read, ocr, ground, ask, evaluate, compare, doctor, mcp, serve_view):
    _name = {"evaluate": "eval", "serve_view": "serve-view"}.get(_command.__name__)
    app.command(name=_name)(_command)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer's signature
    if wanted:
        typer.echo(f"langchain-internvl {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version."
        ),
    ] = False,
) -> None:
    """InternVL vision-language models for images, PDFs and videos."""
