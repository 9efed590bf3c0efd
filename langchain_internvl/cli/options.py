"""Options that several commands share."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from langchain_internvl.cli.values import (
    checked_pages,
    checked_region,
    given_names,
    given_text,
    output_path,
)

if TYPE_CHECKING:
    from langchain_internvl.chat_models import ChatInternVL


Files = Annotated[
    list[str],
    typer.Argument(
        callback=given_names,
        help="Paths, folders, http(s) URLs, or - for standard input.",
        show_default=False,
    ),
]
Region = Annotated[
    str | None,
    typer.Option(
        callback=checked_region,
        help="Part of the image: left, top, right, bottom in thousandths (0 to 1000).",
    ),
]
Language = Annotated[
    str | None,
    typer.Option(callback=given_text, help="Language of the answer, such as German."),
]
Pages = Annotated[
    str | None,
    typer.Option(
        callback=checked_pages, help="Pages of a PDF or TIFF, such as 1-3 or 2,5. Default: all."
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
        typer.Option(
            envvar="INTERNVL_MODEL",
            callback=given_text,
            help="Hub id, local folder, or nano.",
        ),
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
        str | None,
        typer.Option(callback=given_text, help="Device of the weights: auto, cpu, cuda, cuda:1."),
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
            problem = first["msg"].removeprefix("Value error, ").removeprefix(f"{name}: ")
            named = f"{name}: {problem}" if name else problem
            raise typer.BadParameter(_with_options(named)) from None
        except RequestError as error:
            raise typer.BadParameter(str(error)) from None


_OPTIONS = {"device_map": "device", "resume_dir": "resume-dir"}
"""Names of options that differ from the name of their argument."""
_ARGUMENTS = {option: argument for argument, option in _OPTIONS.items()}


def in_options(text: str) -> str:
    """A text about arguments whose options have other names, with the names of the options."""
    for argument, option in _OPTIONS.items():
        word = rf"(?<![\w./-]){argument}(?![\w./-])"  # not in a path
        text = re.sub(word, f"--{option}", text)
    return text


def _with_options(problem: str) -> str:
    """An error as `dtype, device_map: ...`, with options in place of the arguments."""
    own = {_ARGUMENTS.get(one.name, one.name) for one in dataclasses.fields(ModelOptions)}
    named, colon, rest = problem.partition(": ")
    arguments = named.split(", ")
    if not colon or not own.issuperset(arguments):
        return in_options(problem)
    options = (f"--{_OPTIONS.get(one, one).replace('_', '-')}" for one in arguments)
    return f"{', '.join(options)}: {in_options(rest)}"


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
