"""The part of a network that is not trained, run once for each look at a picture instead of once a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..blocks import Network
from ..blocks.stage import Pyramid
from ..data.scan import threaded
from ..deploy.export import converted
from ..evaluate.latency import session
from ..progress import track
from ..train.freeze import frozen
from ..train.settings import TrainSettings
from ..weights import cache
from .transfer import FLIPS, views

ROOM = 2e9  # bytes of maps that a run folder may hold
MOST = 8  # looks at a picture
PAYS = 3.0  # of `patience` for each look: with less, there are too few epochs to win back what the looks cost

Images = NDArray[Any]
Looks = Mapping[str, Callable[[Images], Images]]


def ahead(
    net: Network,
    settings: TrainSettings,
    record: dict[str, Any],
    images: dict[str, Images],
    patience: float,
    work: Path,
) -> tuple[Network, TrainSettings, dict[str, Images]] | None:
    """What is trained in place of `net`: its later stages, with maps of the early ones for images of "train" and "val".

    None where early stages are trained, too, or pictures are changed in ways that cannot all be made beforehand, or
    where it would not pay: `patience` is the time for training in latencies of all training images. A run that began
    in one way goes on in it.
    """
    steps, kept = [step for step in settings.augment.split("|") if step], work / "maps-train.npy"
    if not settings.freeze_norm or settings.mixup or settings.cutmix or not set(steps) <= set(FLIPS):
        return None
    looks = views(steps, MOST)
    pays = len(looks) < patience / PAYS and not (work / "finetune").exists()
    parts = divided(net, settings.freeze) if pays or kept.is_file() else None
    if parts is None:
        return None
    front, rest = parts
    train = maps(front, images["train"], record, looks, kept)
    val = maps(front, images["val"], record, views([], 1), work / "maps-val.npy")
    if train is None or val is None:
        return None
    rest.config["preprocessing"] = preprocessing(val)
    return rest, replace(settings, augment="stacked", freeze=0), {"train": train, "val": val}


def divided(net: Network, stride: int) -> tuple[nn.Module, Network] | None:
    """The stem and the stages that `opsin.train.freeze` stops, and the rest as a network of their maps.

    Both share the parameters of `net`. None where the backbone is no stem with stages in a row.
    """
    last = frozen(net, stride)
    if type(net.backbone) is not Pyramid or last < 0:
        return None
    front = nn.Sequential(net.backbone.stem, *net.backbone.stages[:last])
    return front.eval(), Network(net.backbone.after(last), net.head)


def maps(front: nn.Module, images: Images, record: dict[str, Any], looks: Looks, path: Path) -> Images | None:
    """What `front` makes of every look at images (N, H, W, C), one below the other: (N, looks x h, w, c) float16.

    Kept in a file. None where that would be too large, or where a value is beyond what 16 bits hold.
    """
    if path.is_file():
        found: Images = np.load(path, mmap_mode="r", allow_pickle=False)
        return found
    graph = path.with_suffix(".onnx")
    graph.parent.mkdir(parents=True, exist_ok=True)
    graph.write_bytes(converted(front, record, "maps", batch=1).SerializeToString())
    run = session(graph, 1).run

    def made(image: Images) -> Images:
        seen = [run(None, {"pixels": np.ascontiguousarray(look(image[None]))})[0] for look in looks.values()]
        with np.errstate(over="ignore"):
            return np.asarray(np.concatenate(seen, 2)[0].transpose(1, 2, 0), np.float16)

    shape = made(images[0]).shape
    if len(images) * float(np.prod(shape)) * 2 > ROOM:
        return None
    try:
        with cache.atomic(path) as part:
            out = np.lib.format.open_memmap(part, "w+", np.float16, (len(images), *shape))
            for i, seen in enumerate(track(threaded(made, images), "   what the frozen stages see", len(images))):
                out[i] = seen
            out.flush()
            if not np.isfinite(out).all():
                raise OverflowError
    except OverflowError:
        return None
    return maps(front, images, record, looks, path)


def preprocessing(made: Images) -> dict[str, Any]:
    """How maps (N, h, w, c) become tensors: as they are."""
    _, height, width, channels = made.shape
    neutral = {"mean": [0.0] * channels, "std": [1.0] * channels, "channels": channels}
    return {"size": [height, width], "crop_pct": 1.0, **neutral}
