"""LangChain messages and content blocks of any shape -> `Conversation`."""
