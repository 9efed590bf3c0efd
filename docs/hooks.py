"""mkdocs hooks: the cookbook's notebooks and media become pages and files of the site."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
KINDS = {".ipynb", ".png", ".jpg"}


@event_priority(100)  # before mkdocs-jupyter looks for notebooks
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the cookbook, which lies beside `docs`, to the site."""
    for path in sorted((ROOT / "cookbook").rglob("*")):
        if path.suffix in KINDS:
            name = path.relative_to(ROOT).as_posix()
            files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    return files
