"""Training steps with the quick gradient of wide depthwise windows against torch's own: same network, calls in turn.

    python benchmarks/depthwise.py [--models convnext_tiny,...] [--batch 8] [--rounds 9] [--threads 1]

Prints milliseconds of CPU time a step (forward, cross-entropy, backward; median and quartiles) and the median of the
ratios of neighbours in time: 0.5 is twice as fast.
"""

import argparse
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

import opsin
from opsin.kernels.depthwise import quick

MODELS = ("convnext_tiny", "convnext_atto", "tf_efficientnet_lite0", "efficientnet_b0", "mobilenetv3_large_100")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print("| network | torch, ms | quick, ms | ratio |\n|---|---|---|---|")
    for name in given.models.split(","):
        plain, fast = measured(name, given.batch, given.rounds)
        print(f"| {name} | {spread(plain)} | {spread(fast)} | {spread(fast / plain, 2)} |", flush=True)


def measured(name: str, batch: int, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """CPU milliseconds of each round, without and with."""
    net = opsin.create_model(name, num_classes=10).to(memory_format=torch.channels_last).train()
    side = opsin.facts(name)["native"]
    x = torch.randn(batch, 3, side, side).to(memory_format=torch.channels_last)
    y = torch.arange(batch) % 10

    def step(mode: AbstractContextManager[object]) -> float:
        start = time.process_time()
        with mode:
            logits = net(x)
        F.cross_entropy(logits, y).backward()
        return (time.process_time() - start) * 1e3

    step(nullcontext()), step(quick())
    found = np.array([(step(nullcontext()), step(quick())) for _ in range(rounds)])
    return found[:, 0], found[:, 1]


def spread(values: np.ndarray, digits: int = 0) -> str:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


if __name__ == "__main__":
    main()
