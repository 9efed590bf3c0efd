"""Docstrings of fields as their descriptions."""

from pydantic import BaseModel, Field

from langchain_internvl.settings.descriptions import describe_fields


@describe_fields
class Described(BaseModel):
    """A class."""

    first: int = 1
    """What the first
    is."""
    second: int = 2
    third: int = Field(default=3, description="Its own.")
    """Not this."""


class Heir(Described):
    fourth: int = 4
    """Not described: no decorator."""


def test_docstrings_become_descriptions():
    found = {name: field.description for name, field in Heir.model_fields.items()}
    assert found == {
        "first": "What the first\nis.",
        "second": None,
        "third": "Its own.",
        "fourth": None,
    }


def test_a_class_without_source_stays_as_it_is():
    namespace = {"__name__": __name__, "BaseModel": BaseModel}
    exec("class Made(BaseModel):\n    first: int = 1\n    'A text.'\n", namespace)
    assert describe_fields(namespace["Made"]).model_fields["first"].description is None
