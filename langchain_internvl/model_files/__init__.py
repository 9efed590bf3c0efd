"""The files of a checkpoint, which nobody has to trust: what they may be and what they may say."""
