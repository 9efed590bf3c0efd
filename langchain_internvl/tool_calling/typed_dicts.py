"""TypedDicts for pydantic: those of `typing`, and the required keys that LangChain reads.

Before Python 3.12 pydantic reads TypedDicts of `typing_extensions` only, as those of `typing` lack
information at run time.
"""

from __future__ import annotations

import sys
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import TypeAdapter
from typing_extensions import (
    Never,
    NoExtraItems,
    NotRequired,
    Required,
    TypedDict,
    get_type_hints,
    is_typeddict,
)

_READS_ALL = sys.version_info >= (3, 12)
_CONFIG = "__pydantic_config__"


def adapter_of(kind: Any) -> TypeAdapter[Any]:
    """Pydantic's adapter of a type, which may have TypedDicts of `typing` at any depth.

    Raises:
        PydanticSchemaGenerationError: pydantic does not read the type.
        PydanticUserError: It contains a TypedDict of `typing` that contains itself, before Python
            3.12, or one within a dataclass.
    """
    return TypeAdapter(kind if _READS_ALL else _for_pydantic(kind, ()))


def rebuild(typed_dict: Any, keys: dict[str, Any]) -> Any:
    """A TypedDict with the same name and documentation, and other keys.

    Args:
        typed_dict: The TypedDict.
        keys: Types of the keys, each `Required` or `NotRequired`.
    """
    options: dict[str, Any] = {"closed": True} if getattr(typed_dict, "__closed__", None) else {}
    if has_other_keys(typed_dict):
        options["extra_items"] = typed_dict.__extra_items__
    rebuilt: Any = TypedDict(typed_dict.__name__, keys, **options)  # type: ignore[misc] # a variable name
    rebuilt.__doc__ = typed_dict.__doc__
    config = getattr(typed_dict, _CONFIG, None)
    if config is not None:
        setattr(rebuilt, _CONFIG, config)
    return rebuilt


def has_other_keys(typed_dict: Any) -> bool:
    """Whether a TypedDict has values of a type under keys that it does not name (PEP 728)."""
    extra = getattr(typed_dict, "__extra_items__", NoExtraItems)
    return extra is not NoExtraItems and extra is not None and extra is not Never


def _for_pydantic(kind: Any, inside: tuple[Any, ...]) -> Any:
    """A type with TypedDicts of `typing_extensions`; the same object if it needs no change.

    Args:
        kind: The type.
        inside: The TypedDicts around it.
    """
    if is_typeddict(kind):
        return kind if kind in inside else _typed_dict(kind, (*inside, kind))
    given = get_args(kind)
    read = tuple(_for_pydantic(one, inside) for one in given)
    if all(new is old for new, old in zip(read, given, strict=True)):
        return kind
    origin: Any = get_origin(kind)
    if origin is UnionType:
        return Union[read]  # noqa: UP007 - of a tuple
    if origin is Annotated:
        return Annotated[read]
    copy = getattr(kind, "copy_with", None)  # of typing's own, such as Optional and List
    return copy(read) if copy is not None else origin[read]


def _typed_dict(kind: Any, inside: tuple[Any, ...]) -> Any:
    keys: dict[str, Any] = {}
    is_changed = type(kind).__module__ == "typing"
    try:
        hints = get_type_hints(kind, include_extras=True)
    except NameError:  # pydantic reports it, or knows the name
        return kind
    for name, hint in hints.items():
        wrapper: Any = get_origin(hint)
        is_wrapped = any(wrapper is one for one in (Required, NotRequired))
        inner = get_args(hint)[0] if is_wrapped else hint
        if not is_wrapped:
            wrapper = Required if name in kind.__required_keys__ else NotRequired
        read = _for_pydantic(inner, inside)
        is_changed |= read is not inner
        keys[name] = wrapper[read]
    return rebuild(kind, keys) if is_changed else kind
