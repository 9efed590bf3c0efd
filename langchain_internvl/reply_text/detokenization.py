"""Streaming detokenization.

Bytes are joined before they are decoded: a character that spans several tokens is emitted when it
is complete, and invalid bytes become U+FFFD as in the reference.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_internvl.errors import UnsupportedCheckpointError
from langchain_internvl.reply_text.stop_strings import StopFilter


def with_markup(
    token_bytes: Mapping[int, bytes], markup: Mapping[int, bytes]
) -> Mapping[int, bytes]:
    """The bytes of each token id, with those of special tokens that are part of a reply."""
    return {**token_bytes, **markup} if markup else token_bytes


class TextStream:
    """Converts the token ids of one reply to text increments.

    Emitted text is final: a possible beginning of a stop string, and trailing white space, are
    held back until the following text decides. The joined increments equal the reference's reply:
    cut at the first stop string, and stripped.

    Args:
        token_bytes: Bytes of each token id, see `PromptTokenizer.token_bytes`.
        stop: Stop strings; the reply ends before the first one.
    """

    def __init__(self, token_bytes: Mapping[int, bytes], stop: Sequence[str] = ()) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = StopFilter(stop)
        self._held = ""  # possibly trailing white space
        self._started = False

    @property
    def stopped_at(self) -> str | None:
        """The stop string at which the reply ended; None: none."""
        return self._stop.stopped_at

    def push(self, token_id: int) -> str:
        """Add a token.

        Returns:
            The text that became final with this token; often empty.
        """
        return self._take(self._decoder.decode(self._token_bytes.get(token_id, b"")), last=False)

    def push_text(self, text: str) -> str:
        """Add text of an engine that reports no token ids; see `push`."""
        return self._take(text, last=False)

    @property
    def has_shown(self) -> bool:
        """Whether any text was emitted."""
        return self._started

    def finish(self) -> str:
        """End the reply.

        Returns:
            The rest of its text.
        """
        return self._take(self._decoder.decode(b"", final=True), last=True)

    def _take(self, new: str, *, last: bool) -> str:
        if self.stopped_at is not None:
            return ""
        held = self._held + self._stop.push(new, last=last)
        shown = held.rstrip()
        self._held = held[len(shown) :]
        if not self._started:
            shown = shown.lstrip()
            self._started = bool(shown)
        return shown


def piece_bytes(vocabulary: Mapping[str, int], decoder: Mapping[str, Any]) -> dict[int, bytes]:
    """The bytes of each token id of a vocabulary.

    Args:
        vocabulary: Token ids by piece.
        decoder: The tokenizer's decoder, in the JSON format of the `tokenizers` library.

    Raises:
        UnsupportedCheckpointError: The tokenizer is neither byte-level BPE nor SentencePiece.
    """
    kinds = {decoder["type"], *(one["type"] for one in decoder.get("decoders", ()))}
    to_bytes: Callable[[str], bytes]
    if "ByteLevel" in kinds:
        to_bytes = _byte_level_piece
    elif "ByteFallback" in kinds:
        to_bytes = _sentencepiece_piece
    else:
        raise UnsupportedCheckpointError(
            f"tokenizers that decode by {', '.join(sorted(kinds))} are not supported"
        )
    return {token_id: to_bytes(piece) for piece, token_id in vocabulary.items()}


_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")


def _sentencepiece_piece(piece: str) -> bytes:
    match = _BYTE_PIECE.fullmatch(piece)
    return bytes([int(match[1], 16)]) if match else piece.replace("\u2581", " ").encode()


def _byte_level_piece(piece: str) -> bytes:
    return b"".join(
        bytes([_BYTE_OF_CHAR[char]]) if char in _BYTE_OF_CHAR else char.encode() for char in piece
    )


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's byte alphabet: printable bytes map to themselves, others to U+0100 and up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in printable)
    alphabet.update({chr(256 + index): byte for index, byte in enumerate(others)})
    return alphabet


_BYTE_OF_CHAR = _byte_alphabet()
