"""What the command line does, as functions of the same names and arguments.

from opsin import verbs
verbs.fit("photos/", under=["5ms"])
verbs.predict("runs/photos", ["new.jpg"])
"""

from __future__ import annotations

import builtins
import os
import platform
import shutil
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import OpsinError
from .runs import fit

if TYPE_CHECKING:
    from .blocks import Network

PictureSource = str | os.PathLike[str]

__all__ = ["benchmark", "diff", "doctor", "evaluate", "explain", "fit", "info", "list", "papers", "predict"]


def list(
    pattern: str = "*",
    *,
    params: str | None = None,
    macs: str | None = None,
    size: str | None = None,
    stride: int | None = None,
    family: str | None = None,
    arxiv: str | None = None,
    licence: str | None = None,
    weights: bool = False,
) -> builtins.list[dict[str, Any]]:  # named like the command
    """Facts of every network whose name fits a wildcard pattern and which keeps all conditions.

    Args:
        pattern: `"resnet*"`; `"timm:resnet*"` for timm's.
        params, macs, size: conditions such as "<6M" or "3M..6M" on parameters, multiply-accumulates at the native
            input, and its side in pixels.
        stride: an output stride that the network can have.
        family, arxiv: the family's file, the paper's number.
        licence: a gate on the licence of the authors' code: "permissive", or SPDX identifiers parted by commas.
        weights: only networks with published weights at hand.

    Raises:
        UnknownName: no name fits the pattern; near names are suggested.
        ConditionError: text that is no condition.
    """
    from .conditions import fits
    from .progress import track
    from .registry import facts, list_models
    from .weights import listing
    from .weights.licence import allowed

    names = list_models(pattern) or [facts(pattern)["name"]]
    published: dict[str, builtins.list[str]] = {}
    for entry in listing():
        published.setdefault(entry.architecture, []).append(entry.name)
    told = names if len(names) < 2 or not names[0].startswith("timm:") else track(names, "measuring timm's models")
    rows = [{**facts(name), "weights": published.get(name, [])} for name in told]
    asked = dict(params=params, macs=macs, size=size, stride=stride, family=family, arxiv=arxiv)
    gated = [row for row in rows if allowed(dict.fromkeys(("code", "weights"), row["licence"]), licence)]
    rows = [row for row in gated if fits(row, **asked)]
    return [row for row in rows if row["weights"]] if weights else rows


def info(name: str) -> dict[str, Any]:
    """A network's facts, weights and stages; or the config of a saved one, from its folder or its run's.

    `stages` has a row for the stem, every stage and the head: shape, parameters, multiply-accumulates, their shares.
    """
    import torch

    from .evaluate.anatomy import anatomy
    from .factory import create_model
    from .registry import input_channels
    from .weights import load

    folder = model_folder(name)
    if folder:
        net = load(folder)
        size = (net.config.get("preprocessing") or {}).get("size") or [
            list(net.config["architecture"])[0]["native"]
        ] * 2
        channels = net.config["arguments"].get("in_chans") or input_channels(net.config["architecture"])
        return {**net.config, "name": str(folder), "stages": anatomy(net.to("meta"), (channels, *size))}
    told = list(name.partition(".")[0])[0]
    with torch.device("meta"):
        shape = (input_channels(told["name"]), told["native"], told["native"])
        return {**told, "stages": anatomy(create_model(told["name"]), shape)}


def diff(first: str, second: str) -> dict[str, Any]:
    """Where two networks (names, saved networks or runs) differ: `facts` as [first, second], and `layers`."""
    import torch

    from .evaluate.anatomy import differences
    from .factory import create_model
    from .registry import facts
    from .weights import load

    told, nets = [], []
    for name in (first, second):
        folder = model_folder(name)
        with torch.device("meta"):
            nets.append(load(folder).to("meta") if folder else create_model(name.partition(".")[0]))
        told.append(facts(nets[-1].config["architecture"]))
    keys = [key for key in told[0] if key != "names" and told[0][key] != told[1].get(key)]
    return {"facts": {key: [told[0][key], told[1][key]] for key in keys}, "layers": differences(*nets)}


def model_folder(name: str | os.PathLike[str]) -> Path | None:
    """The folder of a saved network that a path means: itself, or `model/` of a run."""
    path = Path(name)
    return next((p for p in (path, path / "model") if (p / "config.json").is_file()), None)


def predict(run: str | Path, images: Iterable[PictureSource], *, top: int = 1) -> builtins.list[dict[str, Any]]:
    """The classes of pictures (files, or folders of them) by a run's exported model.

    One row a picture: `path`, `label`, `probability` and `top` pairs; or `path` and `error` where it cannot be read.
    """
    from .deploy.runtimes import Runtime

    runtime = Runtime(run)
    rows: builtins.list[dict[str, Any]] = []
    for path in pictures(images):
        try:
            p = runtime.predict([path])[0]
        except OpsinError as error:
            rows.append({"path": str(path), "error": str(error)})
            continue
        best = [{"label": runtime.labels[i], "probability": float(p[i])} for i in (-p).argsort()[:top]]
        rows.append({"path": str(path), **best[0], "top": best})
    return rows


def pictures(sources: Iterable[PictureSource]) -> builtins.list[Path]:
    """Files as they are, folders as the images below them, in order.

    Raises:
        OpsinError: a path that does not exist, or nothing at all.
    """
    from .data.reader import extensions

    found: builtins.list[Path] = []
    for source in map(Path, sources):
        if source.is_dir():
            found += sorted(p for p in source.rglob("*") if p.suffix.lower() in extensions() and p.is_file())
        elif source.exists():
            found.append(source)
        else:
            raise OpsinError(f"{source} does not exist: give image files or folders of them")
    if not found:
        raise OpsinError("no images there: give image files or folders of them")
    return found


def evaluate(run: str | Path, data: str, *, label: str = "label", seed: int = 0) -> dict[str, Any]:
    """A run's exported model on other labelled images: accuracy and the rest, with intervals.

    Classes are matched by name. Raises `OpsinError` for classes that the model does not know.
    """
    import numpy as np

    from . import data as reading
    from .data.splits import usable
    from .deploy.runtimes import Runtime
    from .evaluate import metrics
    from .progress import track

    runtime, found = Runtime(run), usable(reading.open(data, label=label, seed=seed))
    strange = sorted(set(found.classes) - set(runtime.labels))
    if strange:
        raise OpsinError(
            f"the model does not know the classes {', '.join(strange)}: it knows {', '.join(runtime.labels)}"
        )
    labels = np.array([runtime.labels.index(found.classes[sample.label]) for sample in found])
    read = (reading.read_image(sample, runtime.preprocessing["channels"]) for sample in found)
    made = np.concatenate([runtime.predict([image]) for image in track(read, "evaluating", len(found))])
    return {**metrics.score(made, labels, runtime.labels, seed=seed), "skipped": [*found.skipped]}


def benchmark(
    model: str, *, size: int | None = None, batch: int = 1, threads: int | None = None, seconds: float = 3.0
) -> dict[str, Any]:
    """Latency with its spread, throughput, peak memory, parameters and multiply-accumulates on this machine.

    `model`: a network's name (under torch), a saved network's folder, an .onnx file, or a run (its .onnx file).
    """
    from .evaluate.latency import benchmark as measured
    from .evaluate.latency import machine
    from .factory import create_model
    from .registry import facts
    from .weights import load

    path = Path(model)
    onnx = path if path.suffix == ".onnx" else path / "model.onnx"
    target: Network | Path
    folder = model_folder(model)
    if onnx.is_file():
        target, side = onnx, size
    elif folder:
        target, side = load(folder), size
    else:
        native = facts(model.partition(".")[0])["native"]
        target, side = create_model(model), native if size is None else size
    figures = measured(target, side, batch=batch, threads=threads, seconds=seconds)
    return {"model": model, "size": side, **figures, "machine": machine()}


def explain(
    run: str | Path, images: Iterable[PictureSource], *, out: str | Path | None = None, method: str = "eigencam"
) -> builtins.list[Path]:
    """Pictures with what the model looked at laid over them, as PNG files in `out` (default: `explain/` of the run).

    `method` "erf" draws one picture, the effective receptive field over all images, and measures it in a JSON file.
    """
    from .evaluate.explain import explain as drawn
    from .evaluate.receptive import draw
    from .weights import load

    folder = model_folder(run)
    if folder is None:
        raise OpsinError(f"{run} holds no saved network: give a run's folder, or one that opsin.save wrote")
    out = out or Path(run) / "explain"
    if method == "erf":
        return draw(load(folder), pictures(images), out)
    made = drawn(load(folder), pictures(images), method=method, out=out)
    return [Path(record["file"]) for record in made]


def papers(query: str | None = None, *, state: str | None = None, category: str | None = None) -> Sequence[Any]:
    """The catalogue of papers: what works, where it lives, what is missing."""
    from .papers import search

    return search(query, state=state, category=category)


EXTRAS = {
    "onnx": "export and fit",
    "onnxscript": "export and fit",
    "onnxruntime": "export, fit and predict",
    "simplejpeg": "faster JPEG reading",
    "numba": "state-space networks at full speed on a CPU",
    "pyarrow": "Parquet tables",
    "tifffile": "TIFF with more than four bands",
    "timm": "timm's models",
}


def doctor() -> dict[str, Any]:
    """What this machine and installation are, and what is missing for what."""
    import torch

    from . import __version__
    from .evaluate.latency import machine
    from .kernels.selective_scan import backend
    from .weights import cache

    found: dict[str, str | None] = {}
    for package in EXTRAS:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    folder = cache.folder()
    disk = shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.exists()))
    return {
        "opsin": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": machine(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "onednn": torch.backends.mkldnn.is_available(),
        "threads": torch.get_num_threads(),
        "selective_scan": backend(),
        "cache": str(folder),
        "free_gb": disk.free / 1e9,
        "offline": cache.offline(),
        "extras": found,
        "missing": {package: EXTRAS[package] for package, version in found.items() if version is None},
    }
