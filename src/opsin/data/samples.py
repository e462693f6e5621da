"""Named sample sets: `demo:solar-cells`, `demo:fashion-mnist`, `demo:shapes`."""

import difflib
import gzip
import hashlib
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from opsin import progress
from opsin.data import idx
from opsin.data.dataset import DataError, Dataset, Sample, shown
from opsin.weights import cache, packaged

SOLAR = ("elpv-dataset", "1.0.0.post1", "85e31c1126ee9b48e62d3a0232c58f58b2d189b0814a45c13642fa0415af4a4c")
SOLAR_LICENCE = """\
Solar cells (elpv-dataset 1.0.0.post1): 2,624 electroluminescence photographs of solar cells with defect probabilities.
  Licence: CC BY-NC-SA 4.0: no commercial use; name the authors; share what you derive under the same terms.
  Authors: Buerhop-Lutz et al., EU PVSEC 2018, doi:10.4229/35thEUPVSEC20182018-5CV.3.15; Deitsch et al., Solar Energy
  185, 2019, doi:10.1016/j.solener.2019.02.067; Deitsch et al., Machine Vision and Applications 32(4), 2021,
  doi:10.1007/s00138-021-01191-9."""

FASHION_LICENCE = """\
Fashion-MNIST: 70,000 grey pictures of articles of clothing, 28 x 28 pixels. Licence: MIT, copyright Zalando SE.
  Xiao, Rasul, Vollgraf: Fashion-MNIST, a novel image dataset for benchmarking machine learning algorithms,
  arXiv:1708.07747."""
FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
FASHION_PACKAGE = "dataset-fashion-mnist"
FASHION_INSTALLED = Path("/usr/share/datasets/fashion-mnist")
FASHION_SHA256 = {  # of the files inside the Debian package, version 0.0~git20200523.55506a9-1
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
}

SHAPES = ("circle", "cross", "square", "triangle")
SHAPES_EACH = 30


def sample(name: str, *, seed: int = 0, quiet: bool = False) -> Dataset:
    """A sample set by name; `NAME@FOLDER` takes its files from a folder instead of downloading them.

    Raises:
        DataError: unknown name, or files that cannot be read.
        opsin.weights.WeightsError: the files cannot be downloaded or written.
    """
    name, _, folder = name.partition("@")
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, 1)
        hint = f"did you mean demo:{near[0]}? " if near else ""
        raise DataError(f"no sample set {name!r}; {hint}there are {', '.join('demo:' + n for n in NAMES)}")
    if folder and name != "fashion-mnist":
        raise DataError(f"demo:{name} cannot be taken from a folder ({folder}); give the folder itself as the data")
    data = NAMES[name](Path(folder) if folder else None, seed)
    if data.licence and not quiet:
        progress.say(data.licence)
    return data


def solar_cells(_: Path | None, seed: int) -> Dataset:
    """Functional against defective: a defect probability of 0.5 or more counts as defective."""
    wheel = packaged.wheel(*SOLAR)
    table = packaged.member(wheel, "elpv_dataset/data/labels.csv", limit=2**20).decode()
    rows = [line.split() for line in table.splitlines() if line.strip()]
    samples = tuple(
        Sample(wheel, int(float(probability) >= 0.5), member=f"elpv_dataset/data/{file}")
        for file, probability, _ in rows
    )
    return Dataset(samples, ("functional", "defective"), "demo:solar-cells", SOLAR_LICENCE)


def fashion_mnist(folder: Path | None, seed: int) -> Dataset:
    """Ten kinds of clothing; 60,000 training and 10,000 test pictures, as given."""
    if folder is None:
        folder = FASHION_INSTALLED if FASHION_INSTALLED.is_dir() else _fashion_download()
    return idx_folder(folder, "demo:fashion-mnist", FASHION_CLASSES, FASHION_LICENCE)


def shapes(_: Path | None, seed: int) -> Dataset:
    """Four drawn shapes on noise, 30 PNGs of 64 x 64 pixels each, the same for the same seed."""
    from opsin.data.sources import open as open_data

    folder = cache.folder() / "samples" / f"shapes-{seed}"
    if not folder.is_dir():
        with cache.atomic(folder) as new:
            _draw_shapes(new, seed)
    data = open_data(folder, quiet=True)
    return Dataset(data.samples, data.classes, "demo:shapes", skipped=data.skipped)


NAMES: dict[str, Callable[[Path | None, int], Dataset]] = {
    "solar-cells": solar_cells,
    "fashion-mnist": fashion_mnist,
    "shapes": shapes,
}


def idx_folder(folder: Path, name: str, classes: tuple[str, ...] = (), licence: str = "") -> Dataset:
    """Images and labels of an MNIST-like set: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, the same with
    `t10k-`, plain or `.gz` (those are unpacked into the cache, once)."""
    samples: list[Sample] = []
    for part, prefix in (("train", "train"), ("test", "t10k")):
        images = _plain(folder, f"{prefix}-images{idx.IMAGES}")
        found = idx.labels(_plain(folder, f"{prefix}-labels{idx.LABELS}"))
        if len(idx.images(images)) != len(found):
            raise DataError(f"{shown(images)} holds {len(idx.images(images))} images, there are {len(found)} labels")
        samples += [Sample(images, int(label), part, member=str(i)) for i, label in enumerate(found)]
    count = 1 + max((sample.label for sample in samples), default=-1)
    if classes and count > len(classes):
        raise DataError(f"{shown(folder)} has labels up to {count - 1}, {name} has {len(classes)} classes")
    return Dataset(tuple(samples), classes or tuple(map(str, range(count))), name, licence)


def _plain(folder: Path, name: str) -> Path:
    """The file unpacked: memory-mapping needs it so. The copy is named by the content of the packed one."""
    packed = folder / f"{name}.gz"
    if (folder / name).is_file():
        return folder / name
    if not packed.is_file():
        raise DataError(f"{shown(folder)} has neither {name} nor {name}.gz")
    target = cache.folder() / "samples" / "idx" / cache.sha256(packed)[:16] / name
    if not target.is_file():
        try:
            with cache.atomic(target) as new, gzip.open(packed) as source, new.open("wb") as copy:
                shutil.copyfileobj(source, copy)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{shown(packed)} is broken: {error}; fetch it again") from error
    return target


def _fashion_download() -> Path:
    """The four files out of Debian's package, which apt downloads without installing it and without root."""
    folder = cache.folder() / "samples" / "fashion-mnist"
    if folder.is_dir():
        return folder
    by_hand = f"put its four files ({', '.join(FASHION_SHA256)}) into a folder and use demo:fashion-mnist@FOLDER"
    if cache.offline():
        raise DataError(f"Fashion-MNIST is not in the cache and downloads are off; {by_hand}")
    progress.say(f"opsin: downloading {FASHION_PACKAGE} (31 MB) into {folder} (once)")
    with cache.scratch(cache.folder()) as scratch:
        package = _apt_download(scratch, by_hand)
        with cache.atomic(folder) as new:
            new.mkdir()
            _unpack_deb(package, new, by_hand)
    return folder


def _apt_download(into: Path, by_hand: str) -> Path:
    try:
        command = ["apt-get", "download", "-qq", FASHION_PACKAGE]
        done = subprocess.run(command, cwd=into, capture_output=True, text=True, timeout=900, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"Fashion-MNIST comes as Debian's {FASHION_PACKAGE}, and {error}; {by_hand}") from error
    found = list(into.glob("*.deb"))
    if done.returncode or not found:
        reason = (done.stderr.strip().splitlines() or ["apt-get gave no reason"])[-1]
        raise DataError(f"{FASHION_PACKAGE} could not be downloaded ({reason}); {by_hand}")
    return found[0]


def _unpack_deb(package: Path, into: Path, by_hand: str) -> None:
    """Only the four files, under names that we give: nothing else of the package is written or run."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for entry in archive:
                name = Path(entry.name).name
                if name in FASHION_SHA256 and (data := archive.extractfile(entry)):
                    (into / name).write_bytes(data.read())
    for name, expected in FASHION_SHA256.items():
        actual = hashlib.sha256((into / name).read_bytes()).hexdigest() if (into / name).is_file() else "nothing"
        if actual != expected:
            raise DataError(f"{name} in {package.name} is {actual}, not the pinned {expected}; {by_hand}")


def _draw_shapes(folder: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for shape in SHAPES:
        (folder / shape).mkdir(parents=True)
        for i in range(SHAPES_EACH):
            noise = rng.integers(0, 120, (64, 64, 3), dtype=np.uint8)
            image = Image.fromarray(noise)
            x, y = rng.integers(20, 44, 2)
            colour = tuple(int(v) for v in rng.integers(130, 256, 3))
            _draw(ImageDraw.Draw(image), shape, int(x), int(y), int(rng.integers(10, 18)), colour)
            image.save(folder / shape / f"{i:03}.png")


def _draw(pen: ImageDraw.ImageDraw, shape: str, x: int, y: int, r: int, colour: tuple[int, ...]) -> None:
    if shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    elif shape == "square":
        pen.rectangle((x - r, y - r, x + r, y + r), fill=colour)
    elif shape == "triangle":
        pen.polygon(((x, y - r), (x - r, y + r), (x + r, y + r)), fill=colour)
    else:
        pen.rectangle((x - r, y - r // 4, x + r, y + r // 4), fill=colour)
        pen.rectangle((x - r // 4, y - r, x + r // 4, y + r), fill=colour)
