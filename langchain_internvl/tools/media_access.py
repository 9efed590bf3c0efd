"""Resolves an agent's media argument (handle, URL or path) under a `MediaPolicy`.

Arguments are untrusted: a page that the agent has read may have injected them. A reference is a
handle of the conversation, a public URL, or a file in one of `MediaPolicy.roots`. All other paths
are refused with the same message, whether they exist or not.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from langchain_core.messages import BaseMessage, convert_to_messages

from langchain_internvl.errors import MediaError, MediaTooLargeError
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.sources import BytesSource, PathSource, Source, UrlSource
from langchain_internvl.messages.conversation import Image, Video
from langchain_internvl.messages.numbered_media import Medium, numbered_media

_HANDLE = re.compile(r"\s*(?:(image|video)\s*[:#]?\s*)?(\d{1,6}|last|latest)\s*", re.IGNORECASE)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:", re.IGNORECASE)
_O_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # opening a pipe must not block
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


def resolve_image(reference: str, policy: MediaPolicy, state: Any = None) -> Source:
    """Resolve an image reference of an agent.

    Args:
        reference: `image:1` (the first of the conversation), `last`, an http(s) URL, or a path.
        policy: Permissions and limits. Paths must be inside `policy.roots`; relative paths are
            tried in each of them.
        state: The agent's state, with its messages; None: no conversation.

    Raises:
        MediaError: The image does not exist or may not be read; the message names the remedy.
    """
    if number := _number(reference, "image"):
        part = _numbered(number, "image", Image, state)
        return _checked(part.source, policy)
    return _named(reference, policy)


def resolve_video(reference: str, policy: MediaPolicy, state: Any = None) -> Video:
    """Resolve a video reference, with handles `video:1` and `last`; see `resolve_image`."""
    if number := _number(reference, "video"):
        part = _numbered(number, "video", Video, state)
        frames = tuple(Image(_checked(frame.source, policy)) for frame in part.frames)
        source = part.source and _checked(part.source, policy.for_videos())
        return Video(frames, source, num_frames=part.num_frames, bound=part.bound)
    return Video(source=_named(reference, policy.for_videos()))


def _number(reference: str, kind: str) -> str | None:
    """The number in a handle, or "last"; None: the reference is not a handle.

    Raises:
        MediaError: The handle is of the other kind.
    """
    match = _HANDLE.fullmatch(reference)
    if match is None:
        return None
    named = (match.group(1) or kind).lower()
    if named != kind:
        tool = "ask_video" if named == "video" else "describe_image"
        raise MediaError(reference, f"is no {kind}; {tool} takes it")
    return match.group(2).lower()


def _numbered(number: str, kind: str, type_: type[Medium], state: Any) -> Medium:
    """The medium of a conversation by the number in its handle."""
    found = [one for _, one in numbered_media(_messages(state), kind, type_)]
    name = f"{kind}:{number}"
    if not found:
        raise MediaError(
            name, f"the conversation shows no {kind}; give the path or URL of one instead"
        )
    index = int(number) - 1 if number.isdigit() else -1
    if index >= len(found) or number == "0":
        raise MediaError(
            name,
            f"the conversation shows {len(found)} {kind}(s); "
            f"use {kind}:1 to {kind}:{len(found)}, or last",
        )
    medium = found[index]
    if medium is None:
        raise MediaError(
            name, "cannot be read: it is kept at another provider, or its bytes were not stored"
        )
    return medium


def _messages(state: Any) -> list[BaseMessage]:
    """The messages in an agent's state: a mapping, an object, or the messages themselves."""
    if state is None:
        return []
    if isinstance(state, Mapping):
        found = state.get("messages")
    elif isinstance(state, Sequence):
        found = state
    else:
        found = getattr(state, "messages", None)
    return convert_to_messages(found) if found else []


def _checked(source: Source, policy: MediaPolicy) -> Source:
    """A medium of the conversation; file paths are subject to the policy like any other path."""
    return _file(str(source.path), policy) if isinstance(source, PathSource) else source


def _named(reference: str, policy: MediaPolicy) -> Source:
    if not Path(reference).is_absolute():  # an absolute path may end in a space
        reference = reference.strip()
    lower = reference.lower()
    if lower.startswith(("http://", "https://")):
        return UrlSource(reference)
    if lower.startswith("data:") or len(reference) > 4096:
        raise MediaError(
            reference[:40],
            "pictures are not passed as data; use a path, a URL or a handle such as image:1",
        )
    if _SCHEME.match(reference) and not Path(reference).drive:
        raise MediaError(reference, "only http and https URLs, paths and handles are read")
    return _file(reference, policy)


def _file(reference: str, policy: MediaPolicy) -> Source:
    """A file within the roots.

    Raises:
        MediaError: The file is outside the roots (whether it exists or not), or cannot be read.
    """
    outside = MediaError(reference, _where_files_are(policy))
    # Paths to other machines and devices (Windows and POSIX) are refused.
    is_remote = reference.replace("/", "\\").startswith("\\\\")
    if is_remote or not policy.roots or not reference or "\0" in reference:
        raise outside
    drives = {Path(root).absolute().drive.lower() for root in policy.roots} | {""}
    if Path(reference).drive.lower() not in drives:  # before any access to the drive
        raise outside
    try:
        roots = [Path(os.path.realpath(root)) for root in policy.roots]
        inside = [
            real
            for root in roots
            if _is_within(real := Path(os.path.realpath(root / reference)), roots)
        ]
        found = next((real for real in inside if real.exists()), None)
    except (OSError, ValueError):  # too long, invalid Unicode, a link loop, no permission
        raise outside from None
    if found is not None:
        return BytesSource(_read(found, reference, roots, policy), reference)
    if not inside:
        raise outside
    raise MediaError(reference, "no such file in the folders that may be read")


def _where_files_are(policy: MediaPolicy) -> str:
    if not policy.roots:
        return "files may not be read here; use a URL, or a handle such as image:1"
    folders = ", ".join(policy.roots)
    return f"only files in {folders} may be read; use one of them, a URL, or a handle"


def _is_within(path: Path, roots: Sequence[Path]) -> bool:
    return any(path.is_relative_to(root) for root in roots)


def _read(real: Path, reference: str, roots: Sequence[Path], policy: MediaPolicy) -> bytes:
    """The bytes of a file; checks and reading use the same open handle."""
    try:
        handle = os.open(real, _O_FLAGS)
    except OSError as error:
        raise MediaError(reference, f"cannot be read: {error.strerror}") from error
    try:
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            raise MediaError(reference, "is not a regular file")
        # A parent folder may have been replaced by a link after the check.
        opened = Path(os.path.realpath(real))
        if not (_is_within(opened, roots) and _same_file(opened, handle)):
            raise MediaError(reference, "changed while it was being opened; try again")
        if state.st_size > policy.max_bytes:
            raise MediaTooLargeError(reference, f"is larger than {policy.max_bytes} bytes")
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(policy.max_bytes + 1)
    finally:
        os.close(handle)


def _same_file(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except OSError:
        return False
