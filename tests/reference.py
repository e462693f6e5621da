"""The packages that the networks are checked against."""

import warnings

import torch

# torchvision registers fake kernels for operators of its compiled part, which a CPU build of torch cannot load.
SCHEMAS = torch.library.Library("torchvision", "FRAGMENT")
for operator in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, operator):
        SCHEMAS.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import timm
    import torchvision

__all__ = ["timm", "torchvision"]
