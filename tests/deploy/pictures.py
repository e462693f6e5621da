"""Small pictures with structure at every scale, as photographs have."""

import numpy as np
from PIL import Image


def picture(height, width, seed, channels=3):
    rng = np.random.default_rng(seed)
    layers = [
        Image.fromarray(rng.integers(0, 256, (n, n), np.uint8)).resize((width, height), 3)
        for n in (3, 9, 30)
        for _ in range(channels)
    ]
    bands = np.stack([np.asarray(layer, float) for layer in layers]).reshape(3, channels, height, width).mean(0)
    return bands.transpose(1, 2, 0).round().astype(np.uint8)


SIZES = [(90, 60), (60, 90), (64, 64), (301, 75), (75, 299), (40, 37), (57, 56), (64, 64), (64, 64)]
PICTURES = [picture(*size, seed) for seed, size in enumerate(SIZES)]
RECORD = {
    "size": [48, 48],
    "crop_pct": 0.85,
    "crop_mode": "center",
    "interpolation": "bicubic",
    "mean": [0.4, 0.5, 0.6],
    "std": [0.2, 0.25, 0.3],
    "channels": 3,
}
