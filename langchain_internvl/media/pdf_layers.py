"""Hidden layers of PDF pages: optional content that is switched off (ISO 32000-1, 8.11).

PDFium does not draw it, and has its text in the text layer all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

_DEPTH = 4
"""Maximum nesting depth of forms that are searched for layers."""

_HIDES: dict[str, Callable[[list[bool]], bool]] = {
    "/AllOn": any,
    "/AnyOn": all,
    "/AnyOff": lambda are_off: not any(are_off),
    "/AllOff": lambda are_off: not all(are_off),
}
"""Whether a membership dictionary hides its content, by its policy and which of its groups are off
(ISO 32000-1, table 99)."""


def has_hidden_layer(root: Any, page: Any) -> bool:
    """Whether a page has content in a layer that is switched off.

    Args:
        root: The document's catalogue, of pikepdf.
        page: The page's dictionary, of pikepdf.
    """
    layers = root.get("/OCProperties")
    if layers is None:
        return False
    settings = layers.get("/D", {})
    off = {one.objgen for one in settings.get("/OFF", ())}
    if settings.get("/BaseState") == "/OFF":
        on = {one.objgen for one in settings.get("/ON", ())}
        off |= {one.objgen for one in layers.get("/OCGs", ())} - on
    return any(_is_hidden(one, off) for one in _memberships(page, set(), 0))


def _memberships(owner: Any, known: set[Any], depth: int) -> Iterator[Any]:
    """The groups and membership dictionaries that a page or a form, and the forms in it, name."""
    resources = owner.get("/Resources", {})
    yield from dict(resources.get("/Properties", {}).items()).values()
    for one in dict(resources.get("/XObject", {}).items()).values():
        if one is None or one.objgen in known:
            continue
        known.add(one.objgen)
        if "/OC" in one:
            yield one["/OC"]
        if depth < _DEPTH and one.get("/Subtype") == "/Form":
            yield from _memberships(one, known, depth + 1)


def _is_hidden(membership: Any, off: set[Any]) -> bool:
    """Whether a group is off, or a membership dictionary hides its content."""
    if membership.get("/Type") != "/OCMD":
        return membership.objgen in off
    groups = membership.get("/OCGs")
    if groups is None:
        return False
    groups = [groups] if groups.get("/Type") == "/OCG" else list(groups)
    are_off = [one.objgen in off for one in groups if one is not None]
    hides = _HIDES.get(str(membership.get("/P", "/AnyOn")))
    return bool(are_off) and hides is not None and hides(are_off)
