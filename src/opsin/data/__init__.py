"""Images in: reading, checking, splitting, caching, augmenting, batching.

open -> card -> split -> cached -> batches; `Preprocess` is the one description of pixels to tensor.
"""

from opsin.data.augment import Augment, augmentation
from opsin.data.bands import band_statistics
from opsin.data.cache import cached
from opsin.data.cards import Card, card
from opsin.data.dataset import DataError, Dataset, Sample
from opsin.data.loader import Batches, batches
from opsin.data.mix import Mix
from opsin.data.preprocess import Preprocess
from opsin.data.reader import read_image
from opsin.data.scan import scan
from opsin.data.sources import open
from opsin.data.splits import split, usable

__all__ = [
    "Augment",
    "Batches",
    "Card",
    "DataError",
    "Dataset",
    "Mix",
    "Preprocess",
    "Sample",
    "augmentation",
    "band_statistics",
    "batches",
    "cached",
    "card",
    "open",
    "read_image",
    "scan",
    "split",
    "usable",
]
