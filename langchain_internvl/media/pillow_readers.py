"""Readers that a package or program has registered with Pillow, and their use in a process.

A reader passes to a decoding process by reference, as `pickle` passes a class: by the name of its
module and its name there.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Mapping

_SETTINGS = {"pillow_heif": "pillow_heif.options"}
"""Modules whose upper-case attributes are the settings of a package's readers."""

_in_process = False
"""Whether this is a decoding process, which starts no other for such a reader."""


def is_foreign(image_format: str | None) -> bool:
    """Whether the reader of a format is registered and not part of Pillow."""
    reader = Image.OPEN.get((image_format or "").upper(), (None, None))[0]
    return reader is not None and not _module_of(reader).startswith("PIL.")


def reference(image_format: str | None) -> dict[str, Any] | None:
    """How a decoding process finds the reader of a format.

    Args:
        image_format: Format of an opened image, as `Image.format`.

    Returns:
        A task's entry `reader`, for `register`. None if the reader is Pillow's own, or if no other
        process can import it: it is defined in `__main__`, or inside a function.
    """
    if _in_process or not is_foreign(image_format):
        return None
    name = str(image_format).upper()
    reader, accept = Image.OPEN[name]
    found = _path_of(reader)
    if found is None:
        return None
    return {
        "format": name,
        "reader": found,
        # Without it, the reader itself is tried on the file.
        "accept": None if accept is None else _path_of(accept),
        "settings": _settings(found[0]),
    }


def register(found: Mapping[str, Any]) -> bool:
    """Register a reader in a decoding process, before the file is read.

    Args:
        found: Result of `reference` in the process of the caller.

    Returns:
        Whether it can be imported here.
    """
    global _in_process  # noqa: PLW0603 - constant from here on
    _in_process = True
    Image.init()  # else it replaces the reader by Pillow's own
    try:
        reader = _find(found["reader"])
        accept = _find(found["accept"]) if found["accept"] else None
        for module, values in found["settings"].items():
            vars(import_module(module)).update(values)
    except Exception:  # noqa: BLE001 - the import runs code of another package
        return False
    Image.register_open(found["format"], reader, accept)
    return True


def _module_of(reader: object) -> str:
    return str(getattr(reader, "__module__", ""))


def _path_of(reader: object) -> tuple[str, str] | None:
    """Module and name of a class or function, if the name in the module stands for it."""
    module, name = _module_of(reader), str(getattr(reader, "__qualname__", ""))
    try:
        is_same = module != "__main__" and attrgetter(name)(sys.modules[module]) is reader
    except (AttributeError, KeyError):
        return None
    return (module, name) if is_same else None


def _find(path: tuple[str, str]) -> Any:
    return attrgetter(path[1])(import_module(path[0]))


def _settings(module: str) -> dict[str, dict[str, Any]]:
    name = _SETTINGS.get(module.partition(".")[0], "")
    if name not in sys.modules:
        return {}
    values = vars(sys.modules[name]).items()
    return {name: {key: value for key, value in values if _is_setting(key, value)}}


def _is_setting(key: str, value: object) -> bool:
    if not key.isupper():
        return False
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
