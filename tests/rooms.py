"""The rooms of the package, from the top down: a module imports from its own room or lower ones.

DEVELOPMENT.md draws this order. Each row holds rooms that do not know each other.
"""

ROOMS = (
    ("__main__",),
    ("cli",),
    ("documents", "evaluation"),
    ("tools",),
    ("__init__",),
    ("chat_models",),
    ("factory",),
    ("requests",),
    ("settings",),
    ("tool_calling",),
    ("backends",),
    ("template_choice",),
    ("checkpoint", "profile", "tracing"),
    ("prompting",),
    ("messages",),
    ("grammars",),
    ("reply_text", "grounding", "nano"),
    ("model_files",),
    ("media",),
    ("json_files", "forks", "_optional"),
    ("errors", "_version"),
)

PUBLIC_FACE = ("__init__", "chat_models")
"""Rooms that know `ChatInternVL`; `tools`, `documents` and `cli` use it by this face alone."""
