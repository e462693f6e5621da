"""From labelled images to a proved model: the steps of a run, one method each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .. import data
from ..blocks import Network
from ..deploy.export import ExportError, Proof, export
from ..deploy.fuse import fuse, unfused
from ..deploy.runtimes import Runtime
from ..evaluate import calibrate, metrics
from ..evaluate.latency import machine, quietest
from ..evaluate.probe import Probe
from ..progress import say
from ..train.settings import TrainSettings
from ..weights import load, save
from . import limits, pixels, shortlist, transfer
from .frozen import Frozen
from .settings import Settings
from .steps import Steps, append

RESERVE = 0.2  # of the time given, for what comes behind fine-tuning
LONG = 60.0  # times the training images' latencies: with so much time, some fifteen epochs, crops pay
PAUSES = (2, 5, 10, 20)  # seconds before a file that misses a limit of latency is timed once more
LOOKS = 0.04  # of the time given, for more looks at the training images by the probe


class Run:
    """A run folder and what is being made in it."""

    def __init__(self, folder: Path, settings: Settings):
        self.folder, self.settings = folder, settings
        self.steps, self.work = Steps(folder), folder / "work"
        self.limits = limits.parse(settings.under)
        self.images = pixels.opened(settings)
        self.channels = pixels.channels(self.images)
        self.began = time.monotonic()

    # ---------------------------------- 1 to 3: data, shortlist, ranking ----------------------------------

    def card(self) -> dict[str, Any]:
        """What the data is, and which image is in which part."""
        found = data.card(self.images)
        say(str(found))
        return {"card": found.to_dict(), "parts": pixels.assigned(self.images)}

    def shortlist(self) -> list[dict[str, Any]]:
        classes = len(self.images.classes)
        return shortlist.shortlist(self.limits, classes, self.channels, self.settings, self.work)

    def rank(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The candidates with their probes, best first."""
        chosen = [row for row in rows if row["kept"]]
        chosen = sorted(chosen, key=lambda row: -row["macs"])[: self.settings.candidates]
        train = self.images.part("train")
        train = train.subset(pixels.sample(train.labels, self.settings.probe_images, self.settings.seed))
        for row in chosen:
            features = self.features(row, train, f"   features of {row['name']}")
            found = transfer.fitted(features, train.labels, len(self.images.classes), self.settings.seed)
            row["probe"] = found.as_dict()
            append(self.folder / "metrics.jsonl", step="probe", name=row["name"], size=row["size"], **row["probe"])
            say(f"   {row['name']} at {row['size']} px: {found.accuracy:.1%} {interval(found.interval)}")
        return transfer.ranked(chosen, len(train), self.settings.finetune)

    def frozen(self, row: dict[str, Any], net: Network | None = None) -> Frozen:
        """The features of a candidate, or of `net`, which has been trained since."""
        base = row["base"]
        path = self.work / f"{row['name']}-{base}{'-finetuned' if net else ''}.onnx"
        return Frozen(net or self.filled(row, base), row["record"], base, path)

    def filled(self, row: dict[str, Any], size: int, levels: bool = True) -> Network:
        return shortlist.filled(row["name"], len(self.images.classes), self.channels, size, self.settings, levels)

    def features(self, row: dict[str, Any], part: data.Dataset, label: str) -> NDArray[Any]:
        return self.frozen(row).features(pixels.at(part, row["record"], self.work), label)

    # ---------------------------------- 4: the probe, then fine-tuning ----------------------------------

    def probed(self, row: dict[str, Any]) -> dict[str, Any]:
        """The winner's probe on all training images, as a whole network, with which flips are harmless."""
        val = self.images.part("val")
        frozen, held = self.frozen(row), pixels.at(val, row["record"], self.work)

        def features(x: NDArray[Any], label: str) -> NDArray[Any]:
            return frozen.features(x, f"   features, {label}")

        first = self.fitted(frozen, row, ())
        flips = transfer.harmless(first, features, held, val.labels)
        kept = [name for name in transfer.FLIPS if flips[name]["kept"]]
        found = first if self.settings.finetune else self.fitted(frozen, row, kept)
        net = self.network(row, found.as_linear())
        save(net, self.work / "probe")
        return {"probe": found.as_dict(), "flips": flips, "val": self.scored(net, row, "val")}

    def fitted(self, frozen: Frozen, row: dict[str, Any], flips: Sequence[str]) -> Probe:
        """A probe on all training images, with as many looks at each, made of flips, as there is time for."""
        train = self.images.part("train")
        images = pixels.at(train, row["record"], self.work)
        most = int(self.settings.minutes * 60 * LOOKS * 1e3 / (row["latency_ms"] * len(train)))
        looks = transfer.views(flips, max(1, most))
        seen = [
            frozen.features(look(images), f"   features of training images, {name}") for name, look in looks.items()
        ]
        found = transfer.fitted(seen[0], train.labels, len(self.images.classes), self.settings.seed)
        return transfer.looked(found, seen, train.labels) if len(seen) > 1 else found

    def network(self, row: dict[str, Any], classifier: nn.Linear | None = None) -> Network:
        """The chosen network for the run's classes: on all its stages' maps with the probe's classifier, else plain."""
        net = self.filled(row, row["size"], levels=classifier is not None)
        if classifier is not None:
            for m in (m for m in net.get_classifier().modules() if isinstance(m, nn.Linear)):
                m.load_state_dict(classifier.state_dict())
        net.config.update(labels=list(self.images.classes), preprocessing=row["record"])
        return net

    def left(self) -> float:
        """Seconds for fine-tuning."""
        return max(30.0, self.settings.minutes * 60 * (1 - RESERVE) - (time.monotonic() - self.began))

    def recipe(self, row: dict[str, Any], flips: dict[str, Any]) -> TrainSettings:
        """How the winner is fine-tuned: with the changes of pictures that do no harm, as far as there is time for them.

        The whole time counts, not what is left of it, so that a run which is resumed decides alike.
        """
        from ..train import recipes

        kept = [name for name, told in flips.items() if told["kept"]]
        patience = self.settings.minutes * 60 * (1 - RESERVE) / self.seen_once(row)
        crop = ("crop" in kept and patience > LONG) or not row["pretrained"]  # random features tell nothing
        make = recipes.named(self.settings.recipe or ("finetune" if row["pretrained"] else "scratch"))
        return make(flips=[name for name in kept if name != "crop"], crop=crop, **self.settings.train)

    def seen_once(self, row: dict[str, Any]) -> float:
        """Seconds in which the exported network would see all training images, one by one."""
        return float(len(self.images.part("train")) * row["latency_ms"] / 1e3)

    def finetuned(self, row: dict[str, Any], flips: dict[str, Any]) -> dict[str, Any]:
        from ..train import finetune
        from .front import ahead

        settings, net = self.recipe(row, flips), self.network(row)
        for m in (m for m in net.get_classifier().modules() if isinstance(m, nn.Linear)):
            nn.init.zeros_(m.weight)  # drawn weights would first of all disturb the features (arXiv:1912.11370)
        # norms that stay cost a quarter of a step
        trained = fuse(net).requires_grad_() if settings.freeze_norm else net
        larger = {"train": pixels.LARGER if "crop" in settings.augment else 1.0, "val": 1.0}
        images = {part: pixels.at(self.images.part(part), row["record"], self.work, larger[part]) for part in larger}
        behind = ahead(trained, settings, row["record"], images, self.left() / self.seen_once(row), self.work)
        learner, how, seen = behind or (trained, settings, images)
        history = finetune(
            learner,
            (seen["train"], self.images.part("train").labels),
            (seen["val"], self.images.part("val").labels),
            how,
            run_folder=self.work / "finetune",
            resume=True,
            seed=self.settings.seed,
            deadline=self.left(),
        )
        net = unfused(trained, net) if settings.freeze_norm else net
        save(net, self.work / "finetuned")
        return {"history": history, "val": self.scored(net, row, "val")}

    def reprobed(self, row: dict[str, Any], flips: dict[str, Any]) -> dict[str, Any]:
        """A probe once more, on the features of all stages of the fine-tuned network, averaged with its classifier."""
        tuned = load(self.work / "finetuned")
        kept = [name for name in transfer.FLIPS if flips[name]["kept"]]
        whole = transfer.poured(self.filled(row, row["base"]), tuned)
        found = self.fitted(self.frozen(row, whole), row, kept)
        net = transfer.poured(self.network(row, transfer.averaged(found.as_linear(), tuned.get_classifier())), tuned)
        save(net, self.work / "reprobed")
        return {"probe": found.as_dict(), "val": self.scored(net, row, "val")}

    # ---------------------------------- 5 to 7: test, export, report ----------------------------------

    def chosen(self, candidates: dict[str, dict[str, Any] | None]) -> str:
        """Which does best on the validation part, by log loss: of few images, it tells more than accuracy."""
        losses = {name: told["val"]["log_loss"] for name, told in candidates.items() if told}
        return min(losses, key=lambda name: losses[name])

    def logits(self, net: nn.Module, row: dict[str, Any], part: str) -> NDArray[np.float32]:
        images = self.images.part(part)
        prepare = data.Preprocess.from_dict(row["record"])
        found = data.batches(
            pixels.at(images, row["record"], self.work),
            images.labels,
            prepare,
            batch_size=64,
            classes=len(self.images.classes),
        )
        net = fuse(net)
        with torch.inference_mode():
            return np.concatenate([net(x).numpy() for x, _ in found.epoch()])

    def scored(self, net: nn.Module, row: dict[str, Any], part: str) -> dict[str, Any]:
        made = metrics.softmax(self.logits(net, row, part))
        return metrics.score(made, self.images.part(part).labels, list(self.images.classes), seed=self.settings.seed)

    def tested(self, winner: str, row: dict[str, Any]) -> dict[str, Any]:
        """The one look at the test part, and the saved model."""
        net = load(self.work / winner)
        val, test = (self.logits(net, row, part) for part in ("val", "test"))
        labels = {part: self.images.part(part).labels for part in ("val", "test")}
        calibration = calibrate.calibrate(val, labels["val"], test, labels["test"])
        made = metrics.softmax(test / calibration["temperature"])
        figures = metrics.score(made, labels["test"], list(self.images.classes), seed=self.settings.seed)
        np.save(self.work / "test.npy", made)
        append(self.folder / "metrics.jsonl", step="test", accuracy=figures["accuracy"], log_loss=figures["log_loss"])
        net.config["provenance"]["finetuned"] = {"data": self.images.name, "images": len(self.images.part("train"))}
        net.config["licence"] = {**net.config.get("licence", {}), "finetuning_data": self.images.licence or None}
        save(net, self.folder / "model")
        return {"winner": winner, "test": figures, "calibration": calibration}

    def exported(self, row: dict[str, Any], temperature: float) -> dict[str, Any]:
        """model.onnx, proved on test images, and its cost held against the limits.

        A file in 8 bits is another model than the one that was tested: its own test figures take the place of those.
        """
        proof = self.quiet(self.file(row, temperature), row)
        cost = {**{k: row[k] for k in ("params", "macs")}, "latency_ms": proof.latency_ms, "size_mb": proof.size_mb}
        kept = [
            {
                "limit": limit.text,
                "what": limit.what,
                "most": limit.most,
                "measured": cost[limit.what],
                "kept": cost[limit.what] <= limit.most,
            }
            for limit in self.limits
        ]
        tested = {"test": self.of_file(row)} if proof.precision == "int8" else {}
        return {"proof": proof.as_dict(), "limits": kept, "machine": machine(), **tested}

    def file(self, row: dict[str, Any], temperature: float) -> Proof:
        test, train, seed = self.images.part("test"), self.images.part("train"), self.settings.seed
        some = pixels.sample(test.labels, 64 if row["precision"] == "fp32" else 512, seed)
        images = list(pixels.at(test, row["record"], self.work)[some])
        seen = pixels.sample(train.labels, 64, seed)
        write = partial(
            export,
            load(self.folder / "model"),
            self.folder / "model.onnx",
            images=images,
            temperature=temperature,
            tolerance=self.settings.tolerance,
            agreement=self.settings.agreement,
            threads=self.settings.threads or row["threads"],
            seconds=2.0,
        )
        if row["precision"] == "int8":
            try:
                return write(calibration=list(pixels.at(train, row["record"], self.work)[seen]))
            except ExportError as error:
                say(f"   in 8 bits {error}; exporting in fp32")
        return write()

    def quiet(self, proof: Proof, row: dict[str, Any]) -> Proof:
        """The proof, its file timed anew while it misses a latency limit: on a shared machine others' load passes."""
        most = min((limit.most for limit in self.limits if limit.what == "latency_ms"), default=float("inf"))
        runtime = Runtime(self.folder, proof.threads)
        image = runtime.prepared(pixels.at(self.images.part("test"), row["record"], self.work)[0])[None]
        for pause in PAUSES:
            if proof.latency_ms <= most:
                break
            say(f"   {proof.latency_ms:.2f} ms a picture: timing the file again in {pause} s")
            time.sleep(pause)
            times = quietest(partial(runtime.run, image), 2.0)
            again = replace(proof, latency_ms=times["latency_ms"], p90_ms=times["p90_ms"])
            proof = min(proof, again, key=lambda found: found.latency_ms)
        return proof

    def of_file(self, row: dict[str, Any]) -> dict[str, Any]:
        """The exported file's own figures on the test part."""
        test = self.images.part("test")
        made = Runtime(self.folder, row["threads"]).predict(list(pixels.at(test, row["record"], self.work)))
        np.save(self.work / "test.npy", made)
        figures = metrics.score(made, test.labels, list(self.images.classes), seed=self.settings.seed)
        append(self.folder / "metrics.jsonl", step="file", accuracy=figures["accuracy"], log_loss=figures["log_loss"])
        return figures


def interval(ends: list[float] | None) -> str:
    return f"[{ends[0]:.1%}, {ends[1]:.1%}]" if ends else ""
