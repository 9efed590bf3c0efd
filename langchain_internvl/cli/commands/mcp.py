"""`mcp`: the tools as a server of the Model Context Protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from langchain_internvl.cli.options import ModelOptions, Password, with_options
from langchain_internvl.cli.values import folder_path


@with_options
def mcp(
    model: ModelOptions,
    root: Annotated[
        list[Path] | None,
        typer.Option(
            parser=folder_path,
            metavar="DIRECTORY",
            help="Folder whose files clients may open; may be repeated. Default: none.",
        ),
    ] = None,
    images: Annotated[
        bool, typer.Option(help="Also return images: the region, or the boxes drawn.")
    ] = True,
    password: Password = None,
) -> None:
    """Serve the tools to MCP clients over standard input and output."""
    from langchain_internvl.media.policy import MediaPolicy
    from langchain_internvl.tools import InternVLToolkit
    from langchain_internvl.tools.mcp_server import serve

    toolkit = InternVLToolkit(
        llm=model.open(),
        media_policy=MediaPolicy(roots=tuple(map(str, root or ()))),
        return_images=images,
        pdf_password=password,
    )
    serve(toolkit.get_tools())
