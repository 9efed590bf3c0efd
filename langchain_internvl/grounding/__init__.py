"""Bounding boxes: parsing, conversion, drawing and scoring."""

from langchain_internvl.grounding.box import Box, Size, Space, accuracy
from langchain_internvl.grounding.detections import boxes_from_supervision, boxes_to_supervision
from langchain_internvl.grounding.drawing import draw_boxes
from langchain_internvl.grounding.parsing import Grounding, parse_boxes, parse_grounding

__all__ = [
    "Box",
    "Grounding",
    "Size",
    "Space",
    "accuracy",
    "boxes_from_supervision",
    "boxes_to_supervision",
    "draw_boxes",
    "parse_boxes",
    "parse_grounding",
]
