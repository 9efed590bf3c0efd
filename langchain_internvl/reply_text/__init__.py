"""Token ids -> text: detokenisation, stop strings, reasoning."""
