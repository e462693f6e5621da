"""How residuals are wired, and how blocks make stages, pyramids and networks."""

from .classify import Classifier
from .network import FeatureMaps, Network
from .prenorm import PreNorm
from .stage import Blocks, Features, Pyramid, Stage

__all__ = ["Blocks", "Classifier", "FeatureMaps", "Features", "Network", "PreNorm", "Pyramid", "Stage"]
