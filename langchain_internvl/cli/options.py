"""Options that several commands share."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from langchain_internvl.chat_models import ChatInternVL


def _checked_pages(pages: str | None) -> str | None:
    """Refuse page ranges that are none before anything is read."""
    from langchain_internvl.errors import RequestError
    from langchain_internvl.media.page_ranges import parse_pages

    try:
        parse_pages(pages)
    except RequestError as error:
        raise typer.BadParameter(str(error)) from None
    return pages


_EMPTY = 'is empty, such as a variable of the shell that is not set; the current folder is "."'


def named_path(name: str | Path) -> Path:
    """The path of a name, for `parser=`: `pathlib` takes an empty one for the current folder.

    Raises:
        typer.BadParameter: The name is empty.
    """
    if not str(name):
        raise typer.BadParameter(f"the path {_EMPTY}")
    return Path(name)


def output_path(name: str | Path) -> Path:
    """The path of an output, for `parser=`.

    Raises:
        typer.BadParameter: The name is empty, or `-`, which is no name of an output.
    """
    if str(name) == "-":
        raise typer.BadParameter(
            "- is no file or folder: these results are not written to standard output; ./- is a "
            "name"
        )
    return named_path(name)


def _checked_names(names: list[str]) -> list[str]:
    """Refuse empty names among inputs."""
    if "" in names:
        raise typer.BadParameter(f"a name {_EMPTY}")
    return names


Files = Annotated[
    list[str],
    typer.Argument(
        callback=_checked_names,
        help="Paths, folders, http(s) URLs, or - for standard input.",
        show_default=False,
    ),
]
Region = Annotated[
    str | None,
    typer.Option(help="Part of the image: left, top, right, bottom in thousandths (0 to 1000)."),
]
Language = Annotated[str | None, typer.Option(help="Language of the answer, such as German.")]
Pages = Annotated[
    str | None,
    typer.Option(
        callback=_checked_pages, help="Pages of a PDF or TIFF, such as 1-3 or 2,5. Default: all."
    ),
]

Password = Annotated[
    str | None, typer.Option(envvar="INTERNVL_PDF_PASSWORD", help="Password of encrypted PDFs.")
]


@dataclass(frozen=True)
class ModelOptions:
    """Options for the model and its loading."""

    model: Annotated[
        str,
        typer.Option(envvar="INTERNVL_MODEL", help="Hub id, local folder, or nano."),
    ] = "OpenGVLab/InternVL2-8B"
    base_url: Annotated[
        str | None,
        typer.Option(
            envvar="INTERNVL_BASE_URL",
            help="Use a server (LMDeploy's, or any with OpenAI's API), such as "
            "http://localhost:23333/v1; its key comes from INTERNVL_API_KEY.",
        ),
    ] = None
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Most tokens of a reply. Default: 1024.")
    ] = None
    max_tiles: Annotated[
        int | None,
        typer.Option(min=1, help="Most tiles of an image. Default: the checkpoint's."),
    ] = None
    dtype: Annotated[
        str | None, typer.Option(help="Data type of the weights: bfloat16, float16 or float32.")
    ] = None
    quantization: Annotated[
        str | None, typer.Option(help="Quantise while loading: 8bit or 4bit.")
    ] = None
    device: Annotated[
        str | None, typer.Option(help="Device of the weights: auto, cpu, cuda, cuda:1.")
    ] = None

    def open(self, **settings: Any) -> ChatInternVL:
        """The model; its weights are loaded with the first reply.

        Args:
            **settings: Other arguments of `ChatInternVL`.

        Raises:
            typer.BadParameter: An option is out of range, or conflicts with another.
        """
        from pydantic import ValidationError

        from langchain_internvl.chat_models import ChatInternVL
        from langchain_internvl.errors import RequestError

        values = {name: one for name, one in dataclasses.asdict(self).items() if one is not None}
        if "device" in values:
            values["device_map"] = values.pop("device")
        try:
            return ChatInternVL(**values, **settings)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else ""
            option = f"--{_OPTIONS.get(name, name).replace('_', '-')}: " if name else ""
            problem = first["msg"].removeprefix("Value error, ").removeprefix(f"{name}: ")
            raise typer.BadParameter(f"{option}{problem}") from None
        except RequestError as error:
            raise typer.BadParameter(str(error)) from None


_OPTIONS = {"device_map": "device"}
"""Names of options that differ from the name of their argument."""


@dataclass(frozen=True)
class OutputOptions:
    """Options for the output of results."""

    as_json: Annotated[
        bool, typer.Option("--json", help="Print each result as a line of JSON.")
    ] = False
    out: Annotated[
        Path | None,
        typer.Option(
            parser=output_path,
            metavar="PATH",
            help="Folder for a file per result, and images with boxes drawn.",
        ),
    ] = None


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the fields of `ModelOptions` and `OutputOptions` to the options of a command.

    The command's parameters of these types receive the given values.
    """
    own = inspect.signature(command, eval_str=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    for parameter in own.parameters.values():
        kind = parameter.annotation
        if not dataclasses.is_dataclass(kind):
            parameters.append(parameter)
            continue
        groups[parameter.name] = kind
        hints = get_type_hints(kind, include_extras=True)
        parameters += [
            inspect.Parameter(
                one.name, parameter.kind, default=one.default, annotation=hints[one.name]
            )
            for one in dataclasses.fields(kind)
        ]
    parameters.sort(key=lambda one: one.default is not inspect.Parameter.empty)

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for name, kind in groups.items():
            fields = [one.name for one in dataclasses.fields(kind)]
            given[name] = kind(**{one: given.pop(one) for one in fields})
        command(**given)

    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run
