"""Checks Python of the README, `docs`, a docstring and snippets with mypy --strict and pyright.

Each page is one module, block after block, as a reader would paste them. `make typing` runs this.
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from readme import ROOT, docstring_programs, pages, programs

from langchain_internvl import ChatInternVL


def write_pages(folder):
    """One module for each page that has Python."""
    for page, text in pages().items():
        blocks = programs(text)
        if blocks:
            name = page.removesuffix(".md").replace("/", "_").replace("-", "_")
            Path(folder, f"page_{name}.py").write_text("\n".join(blocks), "utf-8")
    snippets = ROOT / "tests/typed_snippets.py"
    Path(folder, snippets.name).write_text(snippets.read_text("utf-8"), "utf-8")
    docstring = docstring_programs(ChatInternVL)
    Path(folder, "docstring.py").write_text("\n".join(docstring), "utf-8")


def main():
    with TemporaryDirectory() as folder:
        write_pages(folder)
        # Each checker runs in the root, where it finds its settings and the package.
        mypy = [sys.executable, "-m", "mypy", "--strict", "--no-warn-unreachable", folder]
        pyright = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, folder]
        failed = [
            name
            for name, command in (("mypy", mypy), ("pyright", pyright))
            if subprocess.run(command, cwd=ROOT, check=False).returncode
        ]
    sys.exit(f"types of the pages: {', '.join(failed)} failed" if failed else 0)


if __name__ == "__main__":
    main()
