"""`serve-view`: a folder that LMDeploy serves without the checkpoint's code."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from langchain_internvl.cli.values import given_text, named_path


def serve_view(
    model: Annotated[
        str,
        typer.Argument(callback=given_text, help="Hub id or local folder.", show_default=False),
    ],
    folder: Annotated[
        Path,
        typer.Argument(
            parser=named_path, help="An empty folder, or an older view.", show_default=False
        ),
    ],
    revision: Annotated[
        str | None, typer.Option(callback=given_text, help="Branch, tag or commit on the hub.")
    ] = None,
) -> None:
    """Write a folder that LMDeploy serves without remote code, and print the command for it."""
    from langchain_internvl.backends.lmdeploy.options import needs_pytorch_engine
    from langchain_internvl.backends.lmdeploy.view import make_view
    from langchain_internvl.checkpoint import open_checkpoint
    from langchain_internvl.prompting.tokenization import load_tokenizer

    checkpoint = open_checkpoint(model, revision, runs_here=False)
    tokenizer = load_tokenizer(checkpoint.folder)
    make_view(checkpoint, tokenizer, folder)
    command = ["lmdeploy", "serve", "api_server", str(folder), "--model-name", model]
    window = tokenizer.model_max_length or checkpoint.max_length
    if window is not None:  # LMDeploy's guess leaves out the factor of a dynamic rope
        command += ["--session-len", str(window)]
    if needs_pytorch_engine(checkpoint):
        command += ["--backend", "pytorch"]
    typer.echo(shlex.join(command))
