"""Checks the files of a checkpoint's folder before they are read.

transformers and tokenizers open files on their own. A pipe would block forever, and a huge file
would fill the memory, so types and sizes are checked first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path

from langchain_internvl.errors import CheckpointError, CheckpointNotFoundError
from langchain_internvl.json_files import MOST_SETTINGS_BYTES, open_regular, read_json

SMALL_FILES = ["*.json", "*.jinja", "*.model", "*.txt"]
"""Patterns of the small files, which are read before the weights."""

WEIGHT_FILES = ["*.safetensors", "*.safetensors.index.json"]
"""Patterns of the weight files."""

ADAPTER_FILES = ["adapter_config.json", "adapter_model.safetensors"]
"""Files of a LoRA adapter, as peft saves it."""

_MEBIBYTE = 1 << 20
_MOST_BYTES: Mapping[str, int | None] = {
    "*.safetensors": None,
    "*.safetensors.index.json": 64 * _MEBIBYTE,
    "tokenizer.json": 256 * _MEBIBYTE,
    "vocab.json": 256 * _MEBIBYTE,
    "*.json": MOST_SETTINGS_BYTES,
    "*.jinja": _MEBIBYTE,
    "*.model": 64 * _MEBIBYTE,
    "*.txt": 64 * _MEBIBYTE,
}
"""Maximum size of a file, by the first pattern that matches its name; None: no limit."""


def check_files(folder: Path) -> None:
    """Reject files that are not regular, or larger than their kind allows.

    Raises:
        CheckpointError: A file is rejected, or the folder cannot be read.
    """
    try:
        names = sorted(_names(folder))
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error}") from error
    for name in names:
        pattern = next((one for one in _MOST_BYTES if fnmatch(Path(name).name, one)), None)
        if pattern is None:
            continue
        try:
            open_regular(folder / name, _MOST_BYTES[pattern]).close()
        except FileNotFoundError as error:
            raise CheckpointError(f"{folder / name} is a link to a file that is gone") from error


def _names(folder: Path) -> Iterator[str]:
    """Files of the folder, and of its subfolder where transformers looks for more templates."""
    yield from (file.name for file in folder.iterdir())
    more = folder / "additional_chat_templates"
    if more.is_dir():
        yield from (f"{more.name}/{file.name}" for file in more.iterdir())


def check_index(folder: Path) -> None:
    """Reject a weight index that names files outside the folder, or missing files.

    Raises:
        CheckpointError: The index is malformed.
        CheckpointNotFoundError: A file in the index is missing.
    """
    for index in sorted(folder.glob("*.safetensors.index.json")):
        weight_map = (read_json(index, 64 * _MEBIBYTE) or {}).get("weight_map")
        if not isinstance(weight_map, dict):
            raise CheckpointError(f"{index}: weight_map is no mapping of tensors to files")
        for name in sorted({str(one) for one in weight_map.values()}):
            if Path(name).name != name or not name.endswith(".safetensors"):
                raise CheckpointError(
                    f"{index}: weight_map names {name[:200]!r}; "
                    "it may name *.safetensors of the same folder only"
                )
            if not (folder / name).exists():
                raise CheckpointNotFoundError(f"{folder} lacks {name}, which {index.name} names")
