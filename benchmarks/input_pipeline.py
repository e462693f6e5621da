"""Files to normalised tensors: ours against timm's evaluation transform on PIL images, paired and interleaved.

    python benchmarks/input_pipeline.py [--repeats 15]

One thread each, CPU time (other work on the machine does not count), every image once a round in random order, both
sides in turn. Prints the median over rounds, with quartiles, of milliseconds an image and of the ratio, and how far
the pixels are apart in levels of 255.
"""

import argparse
import io
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from reference import timm

from opsin.data import Preprocess, read_image
from opsin.weights import packaged

PHOTOGRAPHS = ("foolbox", "3.3.4", "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb")
"""Holds 20 ImageNet photographs of 512 x 512 pixels."""


def photographs(folder: Path) -> dict[str, list[Path]]:
    """The photographs as baseline JPEGs of quality 90, in three sizes."""
    wheel = packaged.wheel(*PHOTOGRAPHS)
    files = sorted(packaged.unpack(wheel, folder / "raw", "*imagenet*.jpg").rglob("*.jpg"))
    sets: dict[str, list[Path]] = {}
    for side in (512, 1024, 2048):
        sets[f"{side} x {side}"] = []
        for file in files:
            image = Image.fromarray(read_image(file)).resize((side, side), Image.Resampling.LANCZOS)
            path = folder / f"{file.stem}-{side}.jpg"
            image.save(path, quality=90)
            sets[f"{side} x {side}"].append(path)
    return sets


def milliseconds(work: Callable[[Path], torch.Tensor], file: Path) -> float:
    start = time.process_time()
    work(file)
    return (time.process_time() - start) * 1e3


def quartiles(values: list[float], digits: int = 2) -> str:
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    settings = {
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    }
    theirs = timm.data.create_transform((3, 224, 224), **settings)
    ways: dict[str, Callable[[Path], torch.Tensor]] = {
        "timm": lambda file: theirs(Image.open(io.BytesIO(file.read_bytes())).convert("RGB")),
        "exact": Preprocess((224, 224), **settings),
        "fast": Preprocess((224, 224), **settings, exact=False),
    }
    rng = np.random.default_rng(0)
    levels = 255 * torch.tensor(settings["std"]).view(3, 1, 1)
    with tempfile.TemporaryDirectory() as folder:
        for name, files in photographs(Path(folder)).items():
            times: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(repeats):
                total = dict.fromkeys(ways, 0.0)
                for i in rng.permutation(len(files)):
                    for way in rng.permutation(list(ways)):
                        total[way] += milliseconds(ways[way], files[i])
                for way in ways:
                    times[way].append(total[way] / len(files))
            print(f"\nJPEG {name} -> 224 x 224, {len(files)} photographs, {repeats} rounds")
            for way in ways:
                ratio = [a / b for a, b in zip(times["timm"], times[way])]
                apart = [((ways["timm"](file) - ways[way](file)) * levels).abs() for file in files]
                mean, top = (float(np.mean([f(d) for d in apart])) for f in (torch.mean, lambda d: d.quantile(0.99)))
                print(
                    f"  {way:5}  {quartiles(times[way])} ms an image, {quartiles(ratio)} x timm's speed; "
                    f"apart from timm: mean {mean:.3f}, 99 % below {top:.2f} levels"
                )


if __name__ == "__main__":
    main()
