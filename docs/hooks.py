"""mkdocs hooks: the cookbook's files become part of the site, and links to them are adapted.

Links in the repository are relative to its folders, so that they also work where it is browsed. In
the site, the cookbook lies inside the root of the pages, and a notebook is a folder.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
KINDS = {".ipynb", ".png", ".jpg", ".py"}


@event_priority(100)  # before mkdocs-jupyter looks for notebooks
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the cookbook, which lies beside `docs`, to the site."""
    for path in sorted((ROOT / "cookbook").rglob("*")):
        if path.suffix in KINDS:
            name = path.relative_to(ROOT).as_posix()
            files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:  # noqa: ARG001 - by name
    """Lead links from pages to the cookbook."""
    return re.sub(r"\]\(\.\./((?:\.\./)*cookbook/)", r"](\1", markdown)


def on_page_content(html: str, page: Page, **_: object) -> str:
    """Lead links from notebooks, which are HTML already, to pages and other notebooks."""
    if not page.file.src_path.endswith(".ipynb"):
        return html
    html = re.sub(r'href="([\w-]+)\.ipynb"', r'href="../\1/"', html)
    return re.sub(r'href="\.\./docs/([\w/-]+)\.md"', r'href="../../\1/"', html)
