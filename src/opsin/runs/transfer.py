"""What frozen features can do: ranking by probes, and which flips leave the labels as they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..blocks import Network
from ..evaluate.probe import Probe, probe, refitted

Images = NDArray[Any]


def zoomed(images: Images) -> Images:
    """The middle seven eighths of each picture, as large as the whole (nearest pixels)."""
    height, width = images.shape[1:3]
    rows, columns = (
        np.round(np.linspace(side / 16, side - 1 - side / 16, side)).astype(int) for side in (height, width)
    )
    return images[:, rows][:, :, columns]


FLIPS: dict[str, Callable[[Images], Images]] = {  # batches (N, H, W, C)
    "hflip": lambda x: x[:, :, ::-1],
    "vflip": lambda x: x[:, ::-1],
    "rot90": lambda x: np.rot90(x, axes=(1, 2)),
}


def ranked(rows: Sequence[dict[str, Any]], images: int, finetune: bool) -> list[dict[str, Any]]:
    """Probed candidates, best first: by accuracy, and by latency where that is equal.

    To be fine-tuned, the largest of those goes first that a probe on so many images cannot tell from the best (they
    are within one standard error of it): frozen features do not show what more compute can still learn.
    """
    order = sorted(rows, key=lambda row: (-row["probe"]["accuracy"], row["latency_ms"]))
    best = order[0]["probe"]["accuracy"]
    tied = [row for row in order if row["probe"]["accuracy"] >= best - math.sqrt(best * (1 - best) / images)]
    first = max(tied, key=lambda row: row["macs"]) if finetune else order[0]
    return [first, *(row for row in order if row is not first)]


def fitted(features: NDArray[Any], labels: NDArray[Any], classes: int, seed: int) -> Probe:
    """A probe with as many folds as the rarest class allows."""
    folds = int(np.clip(np.bincount(labels, minlength=classes).min(), 2, 5))
    return probe(features, labels, classes=classes, folds=folds, seed=seed)


def looked(found: Probe, seen: Sequence[NDArray[Any]], labels: NDArray[Any]) -> Probe:
    """The probe fitted on several looks at every picture, each a block of features, as strongly held back as before."""
    return refitted(found, np.concatenate(seen), np.tile(labels, len(seen)), found.C / len(seen))


def views(flips: Sequence[str], most: int) -> dict[str, Callable[[Images], Images]]:
    """Up to `most` different ways of looking at a picture made of harmless flips, the plain one first."""
    made: dict[str, Callable[[Images], Images]] = {"plain": lambda x: x}
    for name in flips:
        more = {f"{seen}+{name}": lambda x, f=look, g=FLIPS[name]: g(f(x)) for seen, look in made.items()}
        made |= more
    return dict(list(made.items())[:most])


def poured(net: Network, tuned: Network) -> Network:
    """`net` with all weights of `tuned` but for the classifier."""
    held = {k: v for k, v in tuned.state_dict().items() if not k.startswith("head.fc.")}
    net.load_state_dict(held, strict=False)
    return net


def averaged(wide: nn.Linear, narrow: nn.Module) -> nn.Linear:
    """Two classifiers as one: the mean of their logits, where the second reads the first of the features alone."""
    if not isinstance(narrow, nn.Linear):
        return wide
    with torch.no_grad():
        wide.weight[:, : narrow.in_features].add_(narrow.weight)
        wide.bias.add_(narrow.bias)
        for p in wide.parameters():
            p.div_(2)
    return wide


def correct(found: Probe, features: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.bool_]:
    guess = features @ found.weight.numpy().T + found.bias.numpy()
    return np.asarray(guess.argmax(1) == labels)


def harmless(
    found: Probe, features: Callable[[Images, str], NDArray[Any]], images: Images, labels: NDArray[Any]
) -> dict[str, dict[str, Any]]:
    """Flips, and a crop, under which held-out pictures keep their labels, as the probe sees them.

    One is kept where it turns no more right answers wrong than wrong ones right, but for the square root of both
    together (one standard deviation of McNemar's count). `features(images, label)` gives features of (N, H, W, C).
    """
    plain = correct(found, features(images, "plain"), labels)
    out = {}
    for name, change in {**FLIPS, "crop": zoomed}.items():
        seen = correct(found, features(np.ascontiguousarray(change(images)), name), labels)
        lost, won = int((plain & ~seen).sum()), int((~plain & seen).sum())
        keep = lost - won <= math.sqrt(lost + won)
        out[name] = {"kept": bool(keep), "accuracy": float(seen.mean()), "plain": float(plain.mean())}
    return out
