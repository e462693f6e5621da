"""A small network and a small task; run as a script, it trains in a folder and prints a digest of the weights."""

import hashlib
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from opsin.train import TrainSettings, finetune

SIDE = 12


class Net(nn.Module):
    """What the loop asks of a network, with a batch norm and dropout in it."""

    def __init__(self, classes=3, norm=True, drop=0.2):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 3, 2)
        self.norm = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.conv = nn.Conv2d(8, 16, 3)
        self.head = nn.Sequential(nn.Dropout(drop), nn.Linear(16, classes))
        self.config = {"preprocessing": {"size": [SIDE, SIDE], "crop_pct": 1.0, "mean": [0.5] * 3, "std": [0.25] * 3}}
        self.slow = 0.0

    def forward(self, x):
        time.sleep(self.slow)
        return self.head(self.conv(self.norm(self.stem(x)).relu()).relu().mean((2, 3)))

    def layer_groups(self):
        names = [name for name, _ in self.named_parameters()]
        return [[n for n in names if n.startswith(part)] for part in (("stem", "norm"), "conv", "head")]

    def no_weight_decay(self):
        return {name for name, p in self.named_parameters() if p.ndim <= 1}


def images(count=96, seed=0, side=SIDE + 2):
    """Noise with more of one colour: the class is which one."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    pixels = rng.integers(0, 200, (count, side, side, 3), dtype=np.uint8)
    pixels[np.arange(count), :, :, labels] += 40
    return pixels, labels


SETTINGS = TrainSettings(
    epochs=4, batch_size=16, lr=3e-3, layer_decay=0.9, precision="fp32", mixup=0.2, cutmix=1.0, ema=0.9,
    checkpoint_seconds=1e-4, augment="random_resized_crop(scale=(0.5, 1))|hflip|randaugment(n=1, m=5)",
)  # fmt: skip


def digest(model):
    state = hashlib.sha256()
    for name, t in sorted(model.state_dict().items()):
        state.update(name.encode() + t.numpy().tobytes())
    return state.hexdigest()


def trained(folder, slow, changes, options):
    """A run that may be resumed, and its digest; `plain` leaves out what depends on how images share a batch."""
    plain = changes.get("plain", False)
    settings = SETTINGS.changed({k: v for k, v in changes.items() if k != "plain"})
    model = Net(norm=not plain, drop=0.0 if plain else 0.2)
    model.slow = slow
    history = finetune(model, images(), images(30, 1, SIDE), settings, run_folder=folder, resume=True, **options)
    (folder / "model.json").write_text(json.dumps({n: t.tolist() for n, t in model.state_dict().items()}))
    return digest(model), len(history["epochs"])


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(*trained(Path(sys.argv[1]), float(sys.argv[2]), json.loads(sys.argv[3]), json.loads(sys.argv[4])))
