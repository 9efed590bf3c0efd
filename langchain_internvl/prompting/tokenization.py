"""Tokenization of prompts without injection of control tokens, and bytes of token ids.

The reference tokenises one string, so a page with the text `<|im_end|>` ends the turn. Here the
template's control tokens are looked up. The text between two of them (template and message text
joined, because merges and SentencePiece prefixes cross the boundary) is tokenised by a copy of the
tokenizer without added tokens. For ordinary text the ids are equal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_internvl._optional import require
from langchain_internvl.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    PromptError,
    UnsupportedCheckpointError,
)
from langchain_internvl.json_files import read_json, refuse_pointer
from langchain_internvl.model_files.folders import check_files
from langchain_internvl.prompting.jinja_process import render_jinja
from langchain_internvl.prompting.segments import (
    GROUNDING_MARKUP,
    IMAGE_CLOSE,
    IMAGE_CONTEXT,
    IMAGE_OPEN,
    Prompt,
    Slot,
    Words,
)
from langchain_internvl.prompting.tokenizer_patterns import check_patterns
from langchain_internvl.prompting.tokenizer_state import (
    adds_prefix,
    build_tokenizer,
    without_added_tokens,
    without_first_prefix,
)
from langchain_internvl.reply_text.detokenization import piece_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Rust's definition of whitespace; Python's also has the separators U+001C to U+001F.
_WHITESPACE = (
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009"
    "\u200a\u2028\u2029\u202f\u205f\u3000"
)

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


@dataclass(frozen=True)
class AddedToken:
    """A token outside the tokenizer's model.

    Attributes:
        id: Token id.
        content: Text of the token.
        special: Whether decoding omits it.
        strips_left: Whether it absorbs whitespace before it.
        strips_right: Whether it absorbs whitespace after it.
    """

    id: int
    content: str
    special: bool
    strips_left: bool
    strips_right: bool


def declared_length(value: Any) -> int | None:
    """`model_max_length` of a tokenizer's config, in tokens; None: not declared."""
    is_number = isinstance(value, (int, float)) and 0 < value < 10**9
    return int(value) if is_number else None  # transformers writes 10**30 for none


class PromptTokenizer:
    """Encodes prompts and decodes replies of one checkpoint.

    Args:
        tokenizer: The checkpoint's tokenizer, backed by the `tokenizers` library.

    Raises:
        UnsupportedCheckpointError: The tokenizer lacks the image tokens, or has an unsupported
            decoder.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        if not hasattr(tokenizer, "backend_tokenizer"):
            raise UnsupportedCheckpointError(
                f"a {type(tokenizer).__name__} cannot be used, only tokenizers of `tokenizers`"
            )
        self._tokenizer = tokenizer
        state: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
        self._added = {
            token["content"]: AddedToken(
                token["id"], token["content"], token["special"], token["lstrip"], token["rstrip"]
            )
            for token in state["added_tokens"]
        }
        missing = {IMAGE_OPEN, IMAGE_CONTEXT, IMAGE_CLOSE} - self._added.keys()
        if missing:
            raise UnsupportedCheckpointError(
                f"the tokenizer has no tokens {sorted(missing)}; this is no InternVL checkpoint"
            )
        self._any_added = _matcher(self._added)
        self._allowed = _matcher(set(GROUNDING_MARKUP) & self._added.keys())
        check_patterns(state)
        plain = without_added_tokens(state)
        self._vocabulary: dict[str, int] = state["model"]["vocab"]
        if not self._vocabulary:
            raise UnsupportedCheckpointError("the tokenizer knows no words: a file is missing")
        self._decoder: dict[str, Any] = state["decoder"]
        self._first = build_tokenizer(plain)
        self._adds_prefix = adds_prefix(plain["pre_tokenizer"])
        inside = {**plain, "pre_tokenizer": without_first_prefix(plain["pre_tokenizer"])}
        self._inside = self._first if inside == plain else build_tokenizer(inside)
        self._prefix = _prefix_ids(tokenizer)

    @property
    def added_tokens(self) -> tuple[AddedToken, ...]:
        """All tokens outside the tokenizer's model, special or not."""
        return tuple(self._added.values())

    @property
    def image_context_id(self) -> int:
        """Id of the image context token, which is repeated once for each feature of an image."""
        return self._added[IMAGE_CONTEXT].id

    def stop_id(self, text: str) -> int:
        """Id of the token that ends a reply.

        Raises:
            PromptError: The tokenizer has no such token.
        """
        if text in self._added:
            return self._added[text].id
        raise PromptError(
            f"the tokenizer has no token {text!r}, which the chat template stops at; "
            "choose the checkpoint's own template"
        )

    def special_bytes(self, *texts: str) -> dict[int, bytes]:
        """The special tokens that occur in texts, which decoding omits, and their bytes."""
        return {
            token.id: token.content.encode()
            for token in self._added.values()
            if any(token.content in text for text in texts) and not self.token_bytes[token.id]
        }

    @property
    def eos_id(self) -> int | None:
        """Id of the tokenizer's own end token; None: it has none."""
        found = self._tokenizer.eos_token_id
        return found if isinstance(found, int) else None

    def piece_id(self, piece: str) -> int | None:
        """Id of a vocabulary piece or an added token; None: unknown."""
        if piece in self._added:
            return self._added[piece].id
        return self._vocabulary.get(piece)

    def save(self, folder: Path) -> None:
        """Save the tokenizer as files that transformers loads without remote code."""
        self._tokenizer.save_pretrained(folder)

    def encode(self, prompt: Prompt, context_tokens: Sequence[int]) -> list[int]:
        """The token ids of a prompt.

        Args:
            prompt: The prompt.
            context_tokens: Number of context tokens of each of `prompt.images`.

        Raises:
            PromptError: `context_tokens` and `prompt.images` have different lengths.
        """
        if len(context_tokens) != len(prompt.images):
            raise PromptError(
                f"the prompt shows {len(prompt.images)} images, but the sizes of "
                f"{len(context_tokens)} were given"
            )
        return self._to_ids(self._pieces(prompt, context_tokens))

    def encode_text(self, text: str) -> list[int]:
        """The token ids of plain text, without control tokens and without a prefix."""
        return self._to_ids(self._split(Words(text).text, self._allowed), prefix=())

    def apply_jinja(self, template: str, messages: list[dict[str, Any]]) -> str | None:
        """Render a jinja chat template; None: it failed, or exceeded its limits."""
        tokens: dict[str, Any] = self._tokenizer.special_tokens_map
        named = {name: str(one) for name, one in tokens.items() if not isinstance(one, list)}
        values = {"messages": messages, "tools": None, "documents": None}
        return render_jinja(template, {**named, **values, "add_generation_prompt": True})

    @property
    def jinja_template(self) -> str | None:
        """The jinja chat template of the tokenizer's files; None: it has none."""
        template = self._tokenizer.chat_template
        if isinstance(template, dict):  # several by name
            template = template.get("default")
        return template if isinstance(template, str) else None

    @property
    def model_max_length(self) -> int | None:
        """Maximum input length in tokens that the tokenizer declares; None: not declared."""
        return declared_length(self._tokenizer.model_max_length)

    @cached_property
    def token_bytes(self) -> dict[int, bytes]:
        """The bytes of each token id in decoded replies.

        Special tokens have none, except the grounding markup, without which labels would be lost.
        """
        table = piece_bytes(self._vocabulary, self._decoder)
        for token in self._added.values():
            shown = not token.special or _is_shown(token.content)
            table[token.id] = token.content.encode() if shown else b""
        return table

    def _pieces(self, prompt: Prompt, context_tokens: Sequence[int]) -> Iterator[AddedToken | str]:
        """The prompt as control tokens and the plain strings between them."""
        for segment in prompt.segments:
            if isinstance(segment, Slot):
                count = sum(context_tokens[index] for index in segment.images)
                yield self._added[IMAGE_OPEN]
                yield from [self._added[IMAGE_CONTEXT]] * count
                yield self._added[IMAGE_CLOSE]
            elif isinstance(segment, Words):
                yield from self._split(segment.text, self._allowed)
            else:
                yield from self._split(segment.text, self._any_added)

    def _split(self, text: str, matcher: re.Pattern[str]) -> Iterator[AddedToken | str]:
        position = 0
        for match in matcher.finditer(text):
            yield text[position : match.start()]
            yield self._added[match.group()]
            position = match.end()
        yield text[position:]

    def _to_ids(
        self, pieces: Iterable[AddedToken | str], prefix: Sequence[int] | None = None
    ) -> list[int]:
        ids = list(self._prefix if prefix is None else prefix)
        before: AddedToken | None = None
        words: list[str] = []

        def flush(after: AddedToken | None) -> None:
            text = "".join(words)
            words.clear()
            if before is not None and before.strips_right:
                text = text.lstrip(_WHITESPACE)
            if after is not None and after.strips_left:
                text = text.rstrip(_WHITESPACE)
            if text:
                is_first = before is None and prefix is None
                encoder = self._first if is_first else self._inside
                # The reference puts SentencePiece's dummy prefix before any text; the `tokenizers`
                # library omits it before a space, with which `internvl_zh` begins.
                if is_first and self._adds_prefix and text[0] in " \u2581":
                    text = " " + text
                ids.extend(encoder.encode(text, add_special_tokens=False).ids)

        for piece in pieces:
            if isinstance(piece, str):
                words.append(piece)
                continue
            if words:  # an image has thousands of tokens, with nothing between them
                flush(piece)
            ids.append(piece.id)
            before = piece
        flush(None)
        return ids


def load_tokenizer(folder: Path) -> PromptTokenizer:
    """Load the tokenizer of a checkpoint, without remote code.

    Args:
        folder: The checkpoint.

    Raises:
        CheckpointNotFoundError: Tokenizer files are missing.
        CheckpointError: Tokenizer files are damaged.
        UnsupportedCheckpointError: The tokenizer needs remote code.
        ImportError: The extra `transformers` is not installed.
    """
    check_files(folder)
    _refuse_gaps(folder)
    transformers = require("transformers", extra="transformers")
    settings = read_json(folder / "tokenizer_config.json")
    if settings is None:  # without this file, tokenization would silently differ
        raise CheckpointNotFoundError(f"{folder} has no tokenizer_config.json")
    try:
        if settings.get("tokenizer_class") in _INTERNLM2_CLASSES:
            # Its own class is remote code; loaded as a Llama tokenizer, its ids are shifted.
            tokenizer = transformers.TokenizersBackend.from_pretrained(
                folder, add_bos_token=True, trust_remote_code=False, local_files_only=True
            )
        else:
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder,
                # With an empty config, tokenizer_config.json selects the class: transformers does
                # not know the model type of original checkpoints.
                config=transformers.PreTrainedConfig(),
                trust_remote_code=False,
                local_files_only=True,
            )
        return PromptTokenizer(tokenizer)
    except (CheckpointError, ImportError):
        raise
    except BaseException as error:  # the tokenizers library raises no other type
        # A Rust panic is not an Exception, and its class cannot be imported.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise UnsupportedCheckpointError(
            f"the tokenizer of {folder} is damaged, or needs remote code: {error}"
        ) from error


def _refuse_gaps(folder: Path) -> None:
    """Raise for a tokenizer file that is missing, or only a Git LFS pointer."""
    files = [folder / name for name in _TOKENIZER_FILES if (folder / name).is_file()]
    if not files:
        raise CheckpointNotFoundError(
            f"{folder} has no tokenizer: one of {', '.join(_TOKENIZER_FILES)} is needed"
        )
    if [file.name for file in files] == ["vocab.json"] and not (folder / "merges.txt").is_file():
        raise CheckpointNotFoundError(f"{folder} has a vocab.json, but no merges.txt")
    for file in files:
        refuse_pointer(file)


_INTERNLM2_CLASSES = {"InternLM2Tokenizer", "InternLM2TokenizerFast", "InternLM3Tokenizer"}


def _matcher(contents: Iterable[str]) -> re.Pattern[str]:
    """A pattern for the leftmost, longest of several strings; without any, it never matches."""
    ordered = sorted(contents, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered)) if ordered else r"(?!)")


def _is_shown(token: str) -> bool:
    """Whether a special token is part of a reply's text, as grounding markup is."""
    return token in GROUNDING_MARKUP or _COORDINATE.fullmatch(token) is not None


_COORDINATE = re.compile(r"<COORD_\d{1,4}>")
"""Coordinate tokens of Qianfan-OCR: thousandths of an image's width and height."""


def _prefix_ids(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Token ids that the tokenizer puts before every prompt, such as a start token."""
    alone: list[int] = tokenizer.encode("a", add_special_tokens=False)
    framed: list[int] = tokenizer.encode("a", add_special_tokens=True)
    for start in range(len(framed) - len(alone) + 1):
        if framed[start : start + len(alone)] == alone:
            return framed[:start]
    return []
