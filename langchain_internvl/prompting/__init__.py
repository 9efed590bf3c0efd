"""`Conversation` -> `Prompt` -> token ids: templates, tool formats, control tokens."""
