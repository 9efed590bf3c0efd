"""Tools and schemas in; tool calls and structured output out."""
