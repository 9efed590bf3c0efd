"""The local engine, on transformers' native InternVL. Importing it imports torch."""
