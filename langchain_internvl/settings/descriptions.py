"""Turns the docstrings of fields into the fields' descriptions.

pydantic's own `use_attribute_docstrings` searches all loaded modules for the source of every class
and subclass, which took a third of the import time of `ChatInternVL`.
"""

from __future__ import annotations

import ast
import inspect
import sys
from itertools import pairwise
from typing import TypeVar

from pydantic import BaseModel

Model = TypeVar("Model", bound=type[BaseModel])


def describe_fields(model: Model) -> Model:
    """Class decorator that makes docstrings the descriptions of fields; subclasses inherit them.

    Args:
        model: A pydantic class at module level. Existing descriptions are kept.
    """
    try:
        source = inspect.getsource(sys.modules[model.__module__])
    except (OSError, TypeError):  # no source, as in compiled modules; descriptions are optional
        return model
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.ClassDef) and statement.name == model.__name__:
            for field, text in pairwise(statement.body):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    _describe(model, field.target.id, text)
    return model


def _describe(model: type[BaseModel], name: str, text: ast.stmt) -> None:
    found = model.model_fields.get(name)
    if found is None or found.description is not None:
        return
    if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
        value = text.value.value
        if isinstance(value, str):
            found.description = inspect.cleandoc(value)
