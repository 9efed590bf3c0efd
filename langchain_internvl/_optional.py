"""Import what an extra brings, or say which extra is missing."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any


def require(module: str, *, extra: str) -> Any:
    """Import a module of an optional extra.

    Args:
        module: Name of the module.
        extra: The extra of this package that installs it.

    Raises:
        ImportError: It is not installed; `name` is the module.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{module} is needed here and is not installed: {how_to_install(extra)}", name=module
        ) from error


def how_to_install(extra: str) -> str:
    """Command that installs an extra, for error messages."""
    return f"pip install 'langchain-internvl[{extra}]' (in a clone: pip install '.[{extra}]')"


def is_installed(module: str) -> bool:
    """Whether a module can be found, without importing it.

    A folder of that name on the path, such as a clone's, is no installed module.
    """
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # its package is missing, or None or without spec
        return False
    return spec is not None and spec.origin is not None
