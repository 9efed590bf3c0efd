"""JSON schemas -> grammars that constrain a reply."""
