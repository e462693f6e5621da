"""State-space networks as ONNX files: what writing their scans out costs, in two runtimes beside torch.

    python benchmarks/exported_scan.py [--seconds 5] [--threads 1] [--networks vim_tiny_patch16_224]

For each network at 224 x 224: nodes and size of the file, the largest difference of logits from torch's on pictures,
absolute and as a share of their spread, and milliseconds an image at batch 1 (median, quartiles), in turn in one
process. OpenVINO is measured where it is installed (`pip install openvino`), in float32.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))
import opsin
from opsin.deploy.export import FromPixels, converted
from opsin.kernels.selective_scan import backend

NETWORKS = ("vmamba_tiny_s1l8", "vim_tiny_patch16_224")
RECORD = {"size": [224, 224], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "channels": 3}
Run = Callable[[np.ndarray], np.ndarray]


def onnx_runtime(path: Path, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {"pixels": pixels})[0]


def openvino_runtime(path: Path, threads: int) -> Run | None:
    try:
        import openvino
    except ImportError:
        return None
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    return lambda pixels: compiled(pixels)[0]


def pictures(many: int) -> np.ndarray:
    """Smooth pictures uint8 (N, 224, 224, 3): noise of a few pixels a side, enlarged."""
    coarse = torch.rand(many, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    fine = torch.nn.functional.interpolate(coarse, size=224, mode="bicubic").clamp(0, 1)
    return (255 * fine).permute(0, 2, 3, 1).to(torch.uint8).numpy()


def measure(name: str, seconds: float, threads: int) -> None:
    torch.manual_seed(0)
    net = opsin.create_model(name).eval()
    whole = FromPixels(net, RECORD).eval()
    start = time.perf_counter()
    proto = converted(net, RECORD, "logits", batch=1)
    taken = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.onnx"
        path.write_bytes(proto.SerializeToString())
        weights = 4e-6 * sum(p.numel() for p in net.parameters())
        size = path.stat().st_size / 1e6
        print(
            f"{name}: {len(proto.graph.node)} nodes, {size:.1f} MB (weights {weights:.1f}), exported in {taken:.0f} s"
        )
        runs: dict[str, Run | None] = {
            "torch": lambda pixels: whole(torch.from_numpy(pixels)).numpy(),
            "ONNX Runtime": onnx_runtime(path, threads),
            "OpenVINO": openvino_runtime(path, threads),
        }
        report({label: run for label, run in runs.items() if run}, seconds)


def report(runs: dict[str, Run], seconds: float) -> None:
    given, taken = pictures(4), {label: [] for label in runs}
    with torch.inference_mode():
        logits = {label: np.concatenate([run(x[None]) for x in given]) for label, run in runs.items()}
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(taken["torch"]) < 5:
            for label, run in runs.items():
                start = time.perf_counter()
                run(given[:1])
                taken[label].append(1e3 * (time.perf_counter() - start))
    for label, times in taken.items():
        low, mid, high = np.percentile(times, (25, 50, 75))
        apart = float(np.abs(logits[label] - logits["torch"]).max())
        share = apart / float(logits["torch"].std())
        print(f"  {label}: {mid:.1f} ({low:.1f} to {high:.1f}) ms; logits differ by {apart:.1e}, {share:.1e} of spread")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"torch {torch.__version__}, {given.threads} threads, scans in torch by {backend()}")
    for name in given.networks:
        measure(name, given.seconds, given.threads)


if __name__ == "__main__":
    main()
