"""Conversation and settings -> `Request`; deltas -> message chunks."""
