"""What a run found, laid out for its report."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__, data
from ..evaluate.explain import explain
from ..evaluate.report import write_report
from ..weights import load
from .settings import Settings

MISTAKES = 12  # pictures shown


def write(run: Any, done: Mapping[str, Any]) -> dict[str, Any]:
    """Write `report.html` and give the run's summary."""
    row, settings = done["ranking"][0], run.settings
    told = {
        "title": f"{run.images.name}: {row['name']}",
        "model": f"{row['name']} at {row['size']} px",
        "task": f"{len(run.images)} images of {len(run.images.classes)} classes",
        "test": done["test"],
        "calibration": done["calibration"],
        "limits": done["limits"],
        "card": done["card"]["card"],
        "history": (done["made"]["finetuned"] or {}).get("history", {}).get("epochs", []),
        "mistakes": mistakes(run, row),
        "cost": {
            **{k: row[k] for k in ("params", "macs", "threads")},
            "latency_ms": done["proof"]["latency_ms"],
            "p90_ms": done["proof"]["p90_ms"],
            "size_mb": done["proof"]["size_mb"],
            "batch": 1,
        },
        "proof": done["proof"],
        "tried": tried(done),
        "tried_on": "cross-validated probe on frozen features",
        "stages": stages(done),
        "provenance": load(run.folder / "model").config.get("provenance"),
        "licences": {
            "model": load(run.folder / "model").config.get("licence"),
            "data": run.images.licence or "not told",
        },
        "reproduce": reproduce(settings, run.folder, done["machine"]),
        "notes": [
            f"{name}: changes answers on these images, so training does without it"
            for name, flip in done["made"]["probe"]["flips"].items()
            if not flip["kept"]
        ],
    }
    write_report(told, run.folder / "report.html")
    return summary(run, done, row)


def summary(run: Any, done: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    test, proof = done["test"], done["proof"]
    low, high = test["intervals"]["accuracy"] or [test["accuracy"]] * 2
    missed = [limit["limit"] for limit in done["limits"] if not limit["kept"]]
    verdict = (
        f"{row['name']} at {row['size']} px ({done['winner']}): {test['accuracy']:.1%} right on {test['count']} images "
        f"it never saw (95 % interval {low:.1%} to {high:.1%}), {proof['latency_ms']:.2f} ms a picture, "
        f"{proof['size_mb']:.1f} MB" + (f"; it misses {' and '.join(missed)}" if missed else "")
    )
    return {
        "folder": str(run.folder),
        "verdict": verdict,
        "winner": done["winner"],
        "network": row["name"],
        "size": row["size"],
        "test": test,
        "limits": done["limits"],
        "proof": proof,
        "report": str(run.folder / "report.html"),
    }


def mistakes(run: Any, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The test images that the model is surest about and wrong, with what it looked at."""
    test, made = run.images.part("test"), np.load(run.work / "test.npy", allow_pickle=False)
    guess = made.argmax(1)
    wrong = np.flatnonzero(guess != test.labels)
    worst = wrong[np.argsort(-made[wrong, guess[wrong]])][:MISTAKES]
    if not len(worst):
        return []
    images = [picture(test[int(i)]) for i in worst]
    overlays = [seen["overlay"] for seen in explain(load(run.folder / "model"), images)]
    return [
        {
            "image": image,
            "overlay": overlay,
            "name": test[int(i)].member or test[int(i)].path.name,
            "label": test.classes[test.labels[i]],
            "prediction": test.classes[guess[i]],
            "probability": float(made[i, guess[i]]),
        }
        for i, image, overlay in zip(worst, images, overlays)
    ]


def picture(sample: data.Sample) -> np.ndarray:
    """An image as 8-bit RGB for people."""
    image = data.read_image(sample, None)[..., :3]
    image = image if image.shape[2] == 3 else np.repeat(image[..., :1], 3, 2)
    if image.dtype == np.uint8:
        return image
    low, high = float(image.min()), float(image.max())
    return ((image.astype(np.float32) - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)


def tried(done: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every candidate with why it lost."""
    order = {row["name"]: row for row in done["ranking"]}
    best = done["ranking"][0]
    out = []
    for row in done["shortlist"]:
        row = order.get(row["name"], row)
        if row["name"] == best["name"]:
            why = "won"
        elif "probe" in row:
            why = f"{best['probe']['accuracy'] - row['probe']['accuracy']:.1%} less in the probe"
        else:
            why = "beyond the limit" if not row["kept"] else "cheaper than the networks that were probed"
        out.append({**row, "winner": row["name"] == best["name"], "why": why})
    return out


def stages(done: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Probes and fine-tuned network on the validation images."""
    labels = {
        "probe": "linear probe on frozen features",
        "finetuned": "fine-tuned",
        "reprobed": "fine-tuned, averaged with a probe of all its stages",
    }
    rows = [(name, labels[name], told) for name, told in done["made"].items() if told]
    return [
        {
            "name": label,
            "accuracy": told["val"]["accuracy"],
            "interval": told["val"]["intervals"]["accuracy"],
            "winner": name == done["winner"],
            "note": "kept" if name == done["winner"] else "",
        }
        for name, label, told in rows
    ]


def reproduce(settings: Settings, folder: Path, machine: Mapping[str, Any]) -> dict[str, Any]:
    command = [
        "opsin",
        "fit",
        settings.data,
        *[x for text in settings.under for x in ("--under", text)],
        "--model",
        settings.model,
        "--minutes",
        str(settings.minutes),
        "--seed",
        str(settings.seed),
    ]
    return {
        "command": shlex.join(command),
        "settings": asdict(settings),
        "seed": settings.seed,
        "versions": {"opsin": __version__, "python": sys.version.split()[0], "torch": machine.get("torch")},
        "machine": dict(machine),
        "files": {"config": str(folder / "config.yaml"), "model": str(folder / "model.onnx")},
    }
