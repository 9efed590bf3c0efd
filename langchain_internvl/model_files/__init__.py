"""Validation of a checkpoint's untrusted files: their types, sizes and contents."""
