"""What has to be done before LMDeploy is imported where there is no GPU."""

import torch

# The wheels of torchvision and torch here are of different builds: without these two operators,
# which nothing here uses, torchvision does not import.
LIBRARY = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
