"""One image, and every shape of content block in use, by who writes it so."""

import base64

import numpy as np
from golden import GOLDEN
from PIL import Image as PILImage

FILE = GOLDEN / "images/mode_rgba.png"
DATA = FILE.read_bytes()
BASE64 = base64.b64encode(DATA).decode()
WORDS = base64.b64encode(b"words").decode()
DATA_URL = f"data:image/png;base64,{BASE64}"
URL = "https://example.com/cat.png"
PICTURE = PILImage.open(FILE)
PIXELS = np.asarray(PICTURE.convert("RGB"))

# Shapes of an image that is at hand, by who writes them so.
IMAGE_SHAPES = {
    "langchain v1": {"type": "image", "base64": BASE64, "mime_type": "image/png"},
    "langchain v1 bare": {"type": "image", "base64": BASE64},
    "langchain v1 data url": {"type": "image", "url": DATA_URL},
    "langchain v0": {
        "type": "image",
        "source_type": "base64",
        "data": BASE64,
        "mime_type": "image/png",
    },
    "openai chat": {"type": "image_url", "image_url": {"url": DATA_URL, "detail": "auto"}},
    "openai chat string": {"type": "image_url", "image_url": DATA_URL},
    "openai chat without a type": {"image_url": {"url": DATA_URL}},
    "openai responses": {"type": "input_image", "image_url": DATA_URL, "detail": "auto"},
    "openai file": {"type": "file", "file": {"filename": "a.png", "file_data": DATA_URL}},
    "anthropic": {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": BASE64},
        "cache_control": {"type": "ephemeral"},
    },
    "bedrock": {"image": {"format": "png", "source": {"bytes": DATA}}},
    "google media": {"type": "media", "mime_type": "image/png", "data": BASE64},
    "google media bytes": {"type": "media", "mime_type": "image/png", "data": DATA},
    "google inline": {"inline_data": {"mime_type": "image/png", "data": BASE64}},
    "hugging face object": {"type": "image", "image": PICTURE},
    "hugging face array": {"type": "image", "image": PIXELS},
    "hugging face path": {"type": "image", "path": str(FILE)},
    "qwen path": {"type": "image", "image": str(FILE)},
    "qwen file url": {"type": "image", "image": FILE.as_uri()},
    "pathlib": {"type": "image", "image": FILE},
    "bytes": {"type": "image", "image": DATA},
    "lmdeploy": {"type": "image_data", "image_data": {"data": PICTURE}},
    "mcp": {"type": "image", "data": BASE64, "mimeType": "image/png"},
    "mcp resource": {
        "type": "resource",
        "resource": {"uri": "file:///a", "mimeType": "image/png", "blob": BASE64},
    },
    "mcp resource by name": {
        "type": "resource",
        "resource": {"uri": "file:///a.png", "blob": BASE64},
    },
    "openai file by name": {"type": "file", "file": {"filename": "a.png", "file_data": BASE64}},
    "google inline camel": {"inlineData": {"mimeType": "image/png", "data": BASE64}},
    "wrapped data url": {
        "type": "image_url",
        "image_url": "data:image/png;base64," + base64.encodebytes(DATA).decode(),
    },
    "percent-encoded data url": {"type": "image", "url": DATA_URL.replace("=", "%3D")},
    "declared image": {"type": "image", "base64": BASE64, "mime_type": "text/plain"},
    "langchain v1 file": {"type": "file", "base64": BASE64, "mime_type": "image/png"},
    "unknown binary": {"type": "image", "base64": BASE64, "mime_type": "application/octet-stream"},
    "non-standard": {"type": "non_standard", "value": {"type": "image", "base64": BASE64}},
}

URL_SHAPES = {
    "langchain v1": {"type": "image", "url": URL},
    "langchain v0": {"type": "image", "source_type": "url", "url": URL},
    "openai chat": {"type": "image_url", "image_url": {"url": URL}},
    "openai chat string": {"type": "image_url", "image_url": URL},
    "openai responses": {"type": "input_image", "image_url": URL},
    "anthropic": {"type": "image", "source": {"type": "url", "url": URL}},
    "hugging face": {"type": "image", "image": URL},
    "google": {"type": "media", "mime_type": "image/png", "file_uri": URL},
    "google file": {"file_data": {"mime_type": "image/png", "file_uri": URL}},
    "google file camel": {"fileData": {"mimeType": "image/png", "fileUri": URL}},
}

VIDEO_SHAPES = {
    "langchain v1": {"type": "video", "base64": BASE64, "mime_type": "video/mp4"},
    "langchain v1 url": {"type": "video", "url": "https://example.com/a.mp4"},
    "qwen and lmdeploy": {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}},
    "bare string": {"type": "video_url", "video_url": "https://example.com/a.mp4"},
    "path": {"type": "video", "video": "/tmp/a.mp4"},
    "bedrock": {"video": {"format": "mp4", "source": {"bytes": DATA}}},
    "google": {"type": "media", "mime_type": "video/mp4", "data": BASE64},
    "file": {"type": "file", "mime_type": "video/mp4", "base64": BASE64},
}

PDF_SHAPES = {
    "langchain v1": {"type": "file", "base64": BASE64, "mime_type": "application/pdf"},
    "langchain v1 url": {"type": "file", "url": "https://example.com/a.pdf"},
    "langchain v0": {
        "type": "file",
        "source_type": "base64",
        "data": BASE64,
        "mime_type": "application/pdf",
    },
    "openai": {"type": "file", "file": {"filename": "a.pdf", "file_data": BASE64}},
    "openai responses": {
        "type": "input_file",
        "filename": "a.pdf",
        "file_data": f"data:application/pdf;base64,{BASE64}",
    },
    "anthropic": {
        "type": "document",
        "source": {"type": "base64", "media_type": "application/pdf", "data": BASE64},
    },
    "anthropic url": {"type": "document", "source": {"type": "url", "url": "https://a.b/c"}},
    "name of a file": {"type": "file", "file": {"filename": "a.PDF", "file_data": BASE64}},
    "bedrock": {"document": {"format": "pdf", "name": "a", "source": {"bytes": DATA}}},
    "google": {"type": "media", "mime_type": "application/pdf", "data": BASE64},
}

TEXT_SHAPES = {
    "plain": {"type": "text", "text": "words"},
    "with cache control": {"type": "text", "text": "words", "cache_control": {"type": "ephemeral"}},
    "openai responses input": {"type": "input_text", "text": "words"},
    "openai responses output": {"type": "output_text", "text": "words", "annotations": []},
    "refusal": {"type": "refusal", "refusal": "words"},
    "bedrock": {"text": "words"},
    "langchain v1 plain text": {"type": "text-plain", "text": "words", "mime_type": "text/plain"},
    "langchain v1 file": {
        "type": "file",
        "mime_type": "text/plain",
        "base64": WORDS,
    },
    "anthropic document": {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": "words"},
    },
    "bedrock document": {"document": {"format": "txt", "name": "a", "source": {"bytes": b"words"}}},
    "anthropic document in base64": {
        "type": "document",
        "source": {"type": "base64", "media_type": "text/plain", "data": WORDS},
    },
    "anthropic document of text": {
        "type": "document",
        "source": {"type": "content", "content": "words"},
    },
    "anthropic document of one part": {
        "type": "document",
        "source": {"type": "content", "content": [{"type": "text", "text": "words"}]},
    },
    "anthropic search result": {
        "type": "search_result",
        "content": [{"type": "text", "text": "words"}],
    },
    "google media": {"type": "media", "mime_type": "text/plain", "data": WORDS},
    "google media bytes": {"type": "media", "mime_type": "text/plain", "data": b"words"},
    "google inline": {"inline_data": {"mime_type": "text/csv", "data": WORDS}},
    "openai file": {"type": "file", "file": {"file_data": f"data:text/plain;base64,{WORDS}"}},
    "openai file by name": {"type": "file", "file": {"filename": "a.txt", "file_data": WORDS}},
    "data url": {"type": "file", "url": "data:text/plain,words"},
    "data url without a type": {"type": "file", "url": "data:,words"},
    "v0 text": {"type": "file", "source_type": "text", "mime_type": "text/plain", "data": "words"},
    "mcp resource": {"type": "resource", "resource": {"uri": "file:///a", "text": "words"}},
    "mcp json": {
        "type": "resource",
        "resource": {"uri": "file:///a", "mimeType": "application/json", "text": "words"},
    },
    "mcp blob": {
        "type": "resource",
        "resource": {"uri": "file:///a", "mimeType": "text/plain", "blob": WORDS},
    },
    "string": "words",
}

LEFT_OUT = {
    "reasoning": {"type": "reasoning", "reasoning": "hm"},
    "thinking": {"type": "thinking", "thinking": "hm", "signature": "x"},
    "redacted thinking": {"type": "redacted_thinking", "data": "x"},
    "bedrock reasoning": {"type": "reasoning_content", "reasoning_content": {"text": "hm"}},
    "cache point": {"cachePoint": {"type": "default"}},
    "typed cache point": {"type": "cachePoint"},
    "google signature": {"type": "function_call_signature", "signature": "x", "index": 0},
    "google thought": {"text": "hm", "thought": True},
    "bedrock reasoning content": {"reasoningContent": {"reasoningText": {"text": "hm"}}},
}

REFUSED = {
    "audio v1": {"type": "audio", "base64": BASE64, "mime_type": "audio/wav"},
    "audio openai": {"type": "input_audio", "input_audio": {"data": BASE64, "format": "wav"}},
    "audio file": {"type": "file", "base64": BASE64, "mime_type": "audio/mpeg"},
    "audio google": {"type": "media", "mime_type": "audio/wav", "data": BASE64},
    "word file": {"type": "file", "base64": BASE64, "mime_type": "application/msword"},
    "uploaded image": {"type": "image", "file_id": "file-123"},
    "uploaded file": {"type": "file", "file": {"file_id": "file-123"}},
    "v0 id": {"type": "image", "source_type": "id", "id": "file-123"},
    "tool result": {"type": "tool_result", "tool_use_id": "a", "content": "b"},
    "empty image": {"type": "image"},
    "empty video": {"type": "video", "video": []},
    "document without its parts": {"type": "document", "source": {"type": "content"}},
    "document of a number": {"type": "document", "source": {"type": "content", "content": [7]}},
    "document of a video": {
        "type": "document",
        "source": {"type": "content", "content": [{"type": "video", "url": "https://a.b/c.mp4"}]},
    },
    "search result of a dict": {"type": "search_result", "content": {"text": "words"}},
    "search result with a title of a list": {
        "type": "search_result",
        "title": ["a"],
        "content": "words",
    },
    "unknown type": {"type": "hologram", "data": BASE64},
    "unknown untyped": {"smell": "rose"},
    "text of a number": {"type": "text", "text": 7},
    "text without text": {"type": "text"},
    "url of a number": {"type": "image", "url": 7},
    "broken detail": {"type": "image", "base64": BASE64, "detail": "huge"},
    "broken max_tiles": {"type": "image", "base64": BASE64, "max_tiles": 0},
    "boolean max_tiles": {"type": "image", "base64": BASE64, "max_tiles": True},
    "nested non-standard": {"type": "non_standard", "value": {"type": "hologram"}},
    "empty non-standard": {"type": "non_standard"},
    "word document of bedrock": {"document": {"format": "docx", "source": {"bytes": DATA}}},
    "bedrock s3": {"image": {"format": "png", "source": {"s3Location": {"uri": "s3://a/b"}}}},
    "text and image in one": {"text": "look", "inline_data": {"data": BASE64}},
    "text by url": {"type": "file", "mime_type": "text/plain", "url": "https://a.b/c.txt"},
    "resource of a string": {"type": "resource", "resource": "/etc/hostname"},
    "file of a string": {"type": "file", "file": "/etc/hostname"},
    # Malformed ones.
    "keys of two types": {1: 2, "a": 3},
    "type of a list": {"type": ["image"]},
    "type of a dict": {"type": {}},
    "non-standard of nothing": {"type": "non_standard", "value": None},
    "non-standard of a list": {"type": "non_standard", "value": [1]},
    "detail of a list": {"type": "image", "base64": BASE64, "detail": []},
    "source of a type of a dict": {
        "type": "document",
        "source": {"type": {}, "media_type": "text/plain", "data": {}},
    },
    "data of a number": {"type": "image", "data": 7},
    "broken base64": {"type": "image", "base64": "a"},
    "frames of a string": {"type": "video", "frames": "0"},
    "frames of an image": {"type": "image", "frames": [BASE64]},
    "frame of a frame": {"type": "video", "frames": [{"type": "video", "frames": []}]},
}
