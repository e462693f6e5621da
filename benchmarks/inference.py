"""Our networks against timm's in eager PyTorch on the CPU: same weights, same input, calls in turn in one process.

    python benchmarks/inference.py [--models resnet50,...] [--batches 1,16] [--seconds 10] [--threads 1] [--train]
    python benchmarks/inference.py --models families    # the lightest network of every family

Three sides take turns call by call: ours, timm's as it is made, and timm's in channels_last memory, which ours always
has. Prints milliseconds of CPU time and of wall time a call (median, quartiles) and the median of the ratios of
neighbours in time: below 1 is faster than timm's. CPU time leaves out what else the machine does. `--train` measures a
step: forward, cross-entropy, backward, SGD. `--as-made` leaves the third side out. Networks that timm does not have run
alone.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).parent.parent / "src"))
from reference import timm
from test_timm import table
from zoo import randomise

import opsin
from opsin.convert import rename

MODELS = (
    "resnet50",
    "mobilenetv2_100",
    "efficientnet_b0",
    "convnext_tiny",
    "vit_small_patch16_224",
    "swin_tiny_patch4_window7_224",
    "densenet121",
    "ddrnet23_slim",
)


def lightest() -> list[str]:
    """The network of fewest MACs of every family that timm has, too."""
    found: dict[str, str] = {}
    for name in sorted(filter(timm.is_model, opsin.list_models()), key=lambda name: opsin.facts(name)["macs"]):
        found.setdefault(opsin.facts(name)["family"], name)
    return sorted(found.values())


def sides(name: str, as_made: bool) -> dict[str, nn.Module]:
    """The networks to compare, with the same weights; ours first."""
    ours = opsin.create_model(name)
    if not timm.is_model(name):
        return {"ours": ours}
    theirs = timm.create_model(name, num_classes=1000)
    randomise(theirs)
    state = theirs.state_dict()
    named = rename(state, table(name, state, ours.state_dict()))
    ours.load_state_dict({key: named[key].reshape(own.shape) for key, own in ours.state_dict().items()})
    if as_made:
        return {"ours": ours, "timm": theirs}
    last = timm.create_model(name, num_classes=1000)
    last.load_state_dict(state)
    return {"ours": ours, "timm": theirs, "timm channels_last": last.to(memory_format=torch.channels_last)}


def call(net: nn.Module, x: Tensor, train: bool) -> Callable[[], None]:
    if not train:
        return torch.inference_mode()(lambda: net.eval()(x))
    net.train()
    optimiser, labels = torch.optim.SGD(net.parameters(), lr=1e-4), torch.zeros(len(x), dtype=torch.long)

    def step() -> None:
        optimiser.zero_grad()
        y = net(x)
        F.cross_entropy(y.mean((2, 3)) if y.ndim == 4 else y, labels).backward()
        optimiser.step()

    return step


def measure(calls: list[Callable[[], None]], seconds: float) -> np.ndarray:
    """Milliseconds (rounds, sides, 2): CPU and wall time of each call, every round in another order."""
    for one in calls:
        one()
    draw = np.random.default_rng(0)
    rounds: list[list[tuple[float, float]]] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rounds) < 5:
        made = [(0.0, 0.0)] * len(calls)
        for i in draw.permutation(len(calls)):
            cpu, wall = time.process_time(), time.perf_counter()
            calls[i]()
            made[i] = (time.process_time() - cpu) * 1e3, (time.perf_counter() - wall) * 1e3
        rounds.append(made)
    return np.array(rounds)


def quartiles(values: np.ndarray, digits: int) -> str:
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each network and batch size")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--train", action="store_true", help="a training step instead of an answer")
    parser.add_argument("--as-made", action="store_true", help="without timm's in channels_last memory")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print("| network | batch | side | CPU ms | wall ms | ours / it, CPU | ours / it, wall | rounds |")
    print("|---" * 8 + "|")
    for name in lightest() if given.models == "families" else given.models.split(","):
        torch.manual_seed(0)
        nets, size = sides(name, given.as_made), opsin.facts(name)["native"]
        for batch in map(int, given.batches.split(",")):
            x = torch.randn(batch, 3, size, size)
            times = measure([call(net, x, given.train) for net in nets.values()], given.seconds)
            ratios = times[:, :1] / times
            for i, side in enumerate(nets):
                spent, ratio = ([quartiles(of[:, i, k], d) for k in (0, 1)] for of, d in ((times, 1), (ratios, 2)))
                print("|", " | ".join([name, str(batch), side, *spent, *ratio, str(len(times))]), "|", flush=True)


if __name__ == "__main__":
    main()
