"""Backends for servers with OpenAI's API: LMDeploy's by token ids, any other by messages."""
