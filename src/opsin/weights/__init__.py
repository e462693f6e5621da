"""Weights: published ones by name, files from elsewhere, and networks saved as folders.

listing("tf_efficientnet*", licence="permissive")     # what is known
fill(model, "tf_efficientnet_lite0.in1k")             # into a network
fill(model, source="hf-hub:timm/resnet50.a1_in1k")
save(model, "folder"); load("folder")
"""

from .entry import Entry, listing
from .errors import MissingWeights, WeightsError
from .store import fill, load, save
from .transfer import Status, bundle, pull, unbundle, verify

__all__ = [
    "Entry",
    "MissingWeights",
    "Status",
    "WeightsError",
    "bundle",
    "fill",
    "listing",
    "load",
    "pull",
    "save",
    "unbundle",
    "verify",
]
