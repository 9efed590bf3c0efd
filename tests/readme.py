"""The README and the pages of `docs`, as tests and type checkers read them."""

import inspect
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
IN_LMDEPLOY = frozenset({"docs/guides/servers.md"})
"""Pages that run in LMDeploy's environment (make test-lmdeploy); all others run in the main one."""


def pages():
    """The README and every page of the documentation, by its path in the repository."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in paths}


def programs(text):
    """The Python in a text, block by block."""
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def docstring_programs(documented):
    """The Python in the sections of a docstring, block by block."""
    text = inspect.cleandoc(documented.__doc__)
    return programs(re.sub(r"^ {4}", "", text, flags=re.MULTILINE))


def run_page(name, *replaced):
    """Run the blocks of a page in order, in one namespace.

    Args:
        name: The page.
        replaced: What stands for something that is not here (a checkpoint of gigabytes, the
            address of a server), as (text, replacement).
    """
    namespace = {}
    for number, block in enumerate(programs(pages()[name]), 1):
        program = block
        for text, replacement in replaced:
            program = program.replace(text, replacement)
        exec(compile(program, f"{name}, block {number}", "exec"), namespace)
