"""Checkpoints and adapters by name: local folders, and repositories of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from langchain_internvl._optional import require
from langchain_internvl.errors import CheckpointNotFoundError


def local_folder(name: str) -> Path | None:
    """The folder that a name stands for; None if there is no such folder.

    Raises:
        CheckpointNotFoundError: The name cannot be a path: it is too long, or names the home of an
            unknown user.
    """
    try:
        folder = Path(name).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointNotFoundError(f"{name[:200]!r} is no folder: {error}") from error


def is_repository(name: str) -> bool:
    """Whether a name has the form of an id on the hub (owner/name)."""
    return name.count("/") == 1 and not name.startswith(("/", ".", "~"))


def find_folder(name: str, revision: str | None, patterns: Sequence[str]) -> tuple[Path, bool]:
    """The folder of a checkpoint or adapter, which is downloaded if necessary.

    Args:
        name: A local folder, or an id on the Hugging Face hub.
        revision: Branch, tag or commit on the hub; None: the default branch.
        patterns: Names of the files to download.

    Returns:
        The folder, and whether it is of the hub.

    Raises:
        CheckpointNotFoundError: It does not exist, or cannot be downloaded.
        ImportError: The extra `transformers`, which downloads, is not installed.
    """
    folder = local_folder(name)
    if folder is not None:
        return folder, False
    if not is_repository(name):
        raise CheckpointNotFoundError(
            f"{name[:200]!r} is neither a folder nor an id on the Hugging Face hub (owner/name)"
        )
    return download(name, revision, patterns), True


def download(repo: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """The folder with files of a repository on the hub.

    Raises:
        CheckpointNotFoundError: It cannot be downloaded, and is not in the hub's cache.
        ImportError: The extra `transformers` is not installed.
    """
    hub = require("huggingface_hub", extra="transformers")
    try:
        return Path(hub.snapshot_download(repo, revision=revision, allow_patterns=list(patterns)))
    except (hub.errors.HfHubHTTPError, hub.errors.HFValidationError, OSError) as error:
        reason = " ".join(str(error).split())  # of several lines
        raise CheckpointNotFoundError(
            f"{repo!r} is no local folder and cannot be fetched from the Hugging Face hub: {reason}"
        ) from error


def find_cached(repo: str, revision: str | None) -> Path | None:
    """The folder of a repository in the hub's local cache; None if it is not there.

    Downloads nothing.
    """
    try:
        hub = require("huggingface_hub", extra="transformers")
        found = hub.try_to_load_from_cache(repo, "config.json", revision=revision)
    except (ImportError, ValueError):  # not installed, or not a repository's name
        return None
    return Path(found).parent if isinstance(found, str) else None
