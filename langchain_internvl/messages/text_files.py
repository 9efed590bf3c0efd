"""Reads text files of messages, within the limits of a policy."""

from __future__ import annotations

from langchain_internvl.media.plain_text import decode_text
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.messages.conversation import Text, TextFile


def read_text_file(file: TextFile, policy: MediaPolicy) -> Text:
    """The text of a file.

    Args:
        file: The file.
        policy: Limits on media.

    Raises:
        MediaError: The file cannot be read, exceeds a limit, or is no text in its encoding.

    Warns:
        UserWarning: The encoding is a guess.
    """
    text = decode_text(file.source.read(policy), file.charset, file.place)
    return Text(text, stands_alone=True)
