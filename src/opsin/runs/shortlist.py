"""Which networks could keep the limits, measured on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from ..blocks import Network
from ..blocks.graft import grafted
from ..evaluate.count import count
from ..factory import create_model
from ..progress import quiet, say
from ..registry import capabilities, facts
from ..weights import fill, listing
from .frozen import Frozen
from .limits import Limit, LimitError, kept, over, shown
from .settings import Settings

SMALLEST = 96  # pixels: below, photographs lose what they show
BYTES = {"fp32": 4.0, "int8": 1.1}  # of a parameter in the file; scales and biases of an 8-bit one are larger
SHRUNK = 0.85  # of the side in pixels that a network is made for: below, a smaller network sees more and is better
DROP = 0.2  # of the features that a classifier in training reads
MARGIN = 1.15  # a measured latency must keep its limit with this to spare: on shared machines the next one differs


def names(model: str, licence: str | None) -> list[str]:
    """The networks to consider: all with a published weight for `auto`, else those named.

    Raises:
        OpsinError: a name that is not here, or no weight inside the licence gate.
    """
    if model == "auto":
        found = [known.name for known in listing("*", licence)]
        if not found:
            raise LimitError(f"no published weight keeps licence={licence!r}: `opsin weights list` shows all licences")
        return [name for name in found if facts(name.partition(".")[0])["task"] == "classify"]
    wanted = [name.strip() for name in model.split(",") if name.strip()]
    for name in wanted:
        facts(name.partition(".")[0])
    return wanted


def has_weights(name: str) -> bool:
    """Whether weights are published, or asked for by their tag."""
    return "." in name or bool(listing(f"{name}.*"))


def sizes(name: str, asked: int | None) -> list[int]:
    """Input sides to try, largest first: the one asked for, else multiples of the last stride up to the native one."""
    able = capabilities(name.partition(".")[0])
    if asked:
        return [asked]
    if "img_size" in able["arguments"] or able["multiple"] > able["strides"][-1]:
        return [able["native"]]
    step = max(32, able["multiple"])
    return list(range(max(step, able["native"] // step * step), max(SMALLEST, step) - 1, -step))


def build(name: str, classes: int, channels: int, size: int, levels: bool = True) -> Network:
    """A network with random weights; with `levels`, reading the maps of all its stages where it can."""
    architecture = name.partition(".")[0]
    able = capabilities(architecture)["arguments"]
    given: dict[str, Any] = {"num_classes": classes, "in_chans": channels}
    if "img_size" in able:
        given["img_size"] = size
    if levels and "levels" in capabilities(architecture)["pool"]:
        given["pool"] = "levels"
    if not levels and "drop_rate" in able:
        given["drop_rate"] = DROP
    return create_model(architecture, **given)


def filled(name: str, classes: int, channels: int, size: int, settings: Settings, levels: bool = True) -> Network:
    """The network with its published weights, or with drawn ones, equal for equal seeds, where nothing is published."""
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        net = build(name, classes, channels, size, levels)
    if has_weights(name):
        with quiet():  # that the classifier for other classes was left out is what a run is about
            fill(net, name, licence=settings.licence)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        return grafted(net, settings.graft)


def cost(
    name: str, classes: int, channels: int, size: int, precision: str, graft: Mapping[str, str] = MappingProxyType({})
) -> dict[str, float]:
    """Parameters, file size in MB and multiply-accumulates, without contents."""
    with torch.device("meta"):
        counted = count(grafted(build(name, classes, channels, size), graft), (channels, size, size))
    size_mb = counted["params"] * BYTES[precision] / 1e6
    return {"params": counted["params"], "macs": counted["macs"], "size_mb": size_mb}


def measured(
    name: str, limits: Sequence[Limit], classes: int, channels: int, settings: Settings, work: Path
) -> dict[str, Any]:
    """One candidate at the largest size that keeps the limits (`kept`), or at its smallest."""
    tried = sizes(name, settings.size)
    precisions = ("fp32", "int8") if settings.precision == "auto" else (settings.precision,)
    costs = {(size, p): cost(name, classes, channels, size, p, settings.graft) for size in tried for p in precisions}
    untimed = [m for m in limits if m.what != "latency_ms"]
    fits = [size for size in tried if any(kept(untimed, costs[size, p]) for p in precisions)]
    result: dict[str, Any] = {
        "name": name,
        "size": tried[-1],
        **costs[tried[-1], precisions[-1]],
        "latency_ms": None,
        "precision": precisions[-1],
        "pretrained": has_weights(name),
    }
    if not fits:
        return {**result, "kept": False, "over": over(untimed, result)}
    model = filled(name, classes, channels, fits[0], settings)
    record = preprocessing(model, fits[0], channels)
    frozen = Frozen(model, record, fits[0], work / f"{name}-{fits[0]}.onnx")
    threads = sorted({1, os.cpu_count() or 1})

    def at(size: int, precision: str) -> dict[str, Any]:
        timed = frozen.latency(size, channels, threads, 0.8, precision)
        best = min(timed, key=lambda n: timed[n])
        told = {"size": size, "base": fits[0], "threads": best, "latency_ms": timed[best], "precision": precision}
        row = {**result, **costs[size, precision], **told, "record": {**record, "size": [size, size]}}
        spare = 1.0 if size == fits[-1] else MARGIN
        return {**row, "kept": kept(limits, {**row, "latency_ms": timed[best] * spare}), "over": over(limits, row)}

    rows = []
    for precision in precisions:
        rows.append(largest(fits, lambda size, precision=precision: at(size, precision)))  # type: ignore[misc]
        if rows[-1]["kept"] and rows[-1]["size"] == fits[0]:
            break
    return max(rows, key=lambda row: (row["kept"], row["size"] if row["kept"] else -row["over"]))


def largest(sizes: Sequence[int], measure: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
    """The row of the largest size that keeps the limits, or of the smallest one; `sizes` fall, and halving finds it."""
    low, high, best = 0, len(sizes) - 1, None
    while low <= high:
        middle = (low + high) // 2
        row = measure(sizes[middle])
        if row["kept"]:
            best, high = row, middle - 1
        else:
            low = middle + 1
    return best or row


def preprocessing(model: Network, size: int, channels: int) -> dict[str, Any]:
    """The weight's preprocessing at another input size; ImageNet's habits where no weight says any."""
    config: dict[str, Any] = getattr(model, "config", {})
    known = config.get("preprocessing") or {
        "crop_pct": 0.875,
        "crop_mode": "center",
        "interpolation": "bicubic",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }
    mean, std = (
        [sum(known[k]) / len(known[k])] * channels if len(known[k]) != channels else known[k] for k in ("mean", "std")
    )
    return {
        **known,
        "mean": mean,
        "std": std,
        "channels": channels,
        "size": [size, size],
        "crop_pct": 1.0,
        "crop_mode": "squash",
    }


def shrunk(name: str, rows: Sequence[dict[str, Any]], limits: Sequence[Limit], settings: Settings) -> str | None:
    """Why a network need not be measured: at the pace of the two cheaper ones before it, it would see too little."""
    most = min((limit.most for limit in limits if limit.what == "latency_ms"), default=None)
    paces = [row["latency_ms"] / row["macs"] for row in rows if row["kept"]]
    if most is None or settings.size or len(paces) < 2:
        return None
    known = facts(name.partition(".")[0])
    side = known["native"] * (most / (min(paces) * known["macs"])) ** 0.5
    return f"skipped, as it would have to see {side:.0f} px" if side < SHRUNK * known["native"] else None


def shortlist(
    limits: Sequence[Limit], classes: int, channels: int, settings: Settings, work: Path
) -> list[dict[str, Any]]:
    """Every considered network with its cost here, those that keep the limits first.

    Raises:
        LimitError: none keeps them; the message says what comes nearest.
    """
    rows: list[dict[str, Any]] = []
    wanted = names(settings.model, settings.licence)
    for name in sorted(wanted, key=lambda name: facts(name.partition(".")[0])["macs"]):
        if settings.model == "auto" and (hopeless := shrunk(name, rows, limits, settings)):
            say(f"   {name}: {hopeless}")
            continue
        row = measured(name, limits, classes, channels, settings, work)
        rows.append(row)
        speed = f"{row['latency_ms']:.2f} ms" if row["latency_ms"] else "not timed"
        say(
            f"   {name} at {row['size']} px in {row['precision']}: {speed}, {shown('size_mb', row['size_mb'])}"
            + ("" if row["pretrained"] else ", no published weights: trained from drawn ones")
            + ("" if row["kept"] else f", {row['over']:.2g} times over the limit")
        )
    if not any(row["kept"] for row in rows):
        near = min(rows, key=lambda row: row["over"])
        told = ", ".join(shown(m.what, near[m.what]) for m in limits if near[m.what] is not None)
        asked_for = " and ".join(m.text for m in limits)
        raise LimitError(
            f"nothing keeps {asked_for}; nearest is {near['name']} at {near['size']} px with {told}: raise the limit"
        )
    return sorted(rows, key=lambda row: (not row["kept"], row["name"]))
