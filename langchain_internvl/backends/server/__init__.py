"""Servers that speak OpenAI's protocol: LMDeploy's by token ids, any other by messages."""
