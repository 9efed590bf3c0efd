"""Checks the Python of the README and of `docs` with mypy --strict and with pyright.

Each page is one module, block after block, as a reader would paste them. `make typing` runs this.
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from readme import ROOT, pages, programs


def write_pages(folder):
    """One module for each page that has Python."""
    for page, text in pages().items():
        blocks = programs(text)
        if blocks:
            name = page.removesuffix(".md").replace("/", "_").replace("-", "_")
            Path(folder, f"page_{name}.py").write_text("\n".join(blocks), "utf-8")


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
