"""Docstrings under fields as the fields' descriptions.

pydantic's own `use_attribute_docstrings` looks through all loaded modules for the source of every
class, subclasses too, which took a third of the time to import `ChatInternVL`.
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
    """Class decorator that gives fields their docstrings as descriptions; subclasses inherit them.

    Args:
        model: A class of pydantic at the top of a module. Fields with a description keep theirs.
    """
    try:
        source = inspect.getsource(sys.modules[model.__module__])
    except (OSError, TypeError):  # compiled modules alone; descriptions are no more than a help
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
