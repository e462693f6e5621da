"""Two networks side by side on the CPU, as papers compare them: images a second of each, and their ratio.

    python benchmarks/pairs.py inception_next_tiny convnext_tiny --train --batch 4
    python benchmarks/pairs.py fasternet_t0 timm:mobilevit_xxs --batch 1

Calls take turns in one process, so that both see the same machine. Prints the median images a second of each, and the
median and quartiles of the first one's speed over the second's, call by call. `--train` measures a step: forward,
cross-entropy, backward, SGD.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))
import opsin


def worker(name: str, batch: int, size: int, train: bool) -> Callable[[], object]:
    torch.manual_seed(0)
    net, x = opsin.create_model(name), torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    if not train:
        net.eval()
        return torch.inference_mode()(lambda: net(x))
    optimiser, labels = torch.optim.SGD(net.train().parameters(), lr=1e-3), torch.arange(batch)

    def step() -> None:
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(x), labels).backward()
        optimiser.step()

    return step


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs=2)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    calls = [worker(name, given.batch, given.size, given.train) for name in given.names]
    for call in calls:
        call()
    taken, end = [], time.perf_counter() + given.seconds
    while len(taken) < 5 or time.perf_counter() < end:
        taken.append([timed(call) for call in calls])
    seconds = np.array(taken)
    for name, speed in zip(given.names, given.batch / np.median(seconds, 0)):
        print(f"{name:28} {speed:8.2f} images a second")
    low, middle, high = np.percentile(seconds[:, 1] / seconds[:, 0], (25, 50, 75))
    print(f"{given.names[0]} is {middle:.2f}x [{low:.2f}, {high:.2f}] as fast, over {len(seconds)} calls")


if __name__ == "__main__":
    main()
