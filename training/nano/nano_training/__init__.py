"""Draws the pictures, trains and measures the model that langchain-internvl embeds.

Data flow: held_out -> fonts, words -> pages, scenes, videos -> samples -> batches -> train ->
evaluate -> export.
"""
