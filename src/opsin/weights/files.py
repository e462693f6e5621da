"""Tensors from files that others wrote: safetensors, or torch's own format as far as it holds no code."""

import io
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import MissingWeights, WeightsError

NAMES = ("model.safetensors", "pytorch_model.bin")  # what a folder of weights is expected to hold, the better one first
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
# Where training scripts put the weights among other things; averaged ones, meant for use, before the raw ones.
WRAPPERS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model_state_dict", "model", "net", "params")
PREFIXES = ("module.", "_orig_mod.", "model.")  # of data parallel, compiled and wrapped networks


def read(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file, or of the only file of weights in a folder: {name: tensor}, on the CPU.

    Wrapped ones (`{"state_dict": ...}`; the averaged ones where there are two) and `module.` prefixes are unwrapped.

    Raises:
        WeightsError: no such file, damaged, holding code instead of tensors only, or no tensors in it.
    """
    path = find(Path(path))
    if path.suffix == ".safetensors":
        return _safetensors(path)
    with _opened(path) as stream:
        return unwrap(_pickled(stream, str(path)), str(path))


def parse(data: bytes, name: str) -> dict[str, Tensor]:
    """As `read`, from the bytes of a file in torch's own format; `name` is what messages call it."""
    return unwrap(_pickled(io.BytesIO(data), name), name)


def find(path: Path) -> Path:
    """The file of weights that a path means: itself, or the one inside a folder."""
    if not path.is_dir():
        if not path.is_file():
            raise MissingWeights(f"there is no file of weights at {path}; check the path")
        return path
    named = [path / name for name in NAMES if (path / name).is_file()]
    found = named[:1] or [item for item in sorted(path.iterdir()) if item.suffix in SUFFIXES and item.is_file()]
    if len(found) != 1:
        many = ", ".join(item.name for item in found) if found else f"none (expected {' or '.join(NAMES)})"
        raise WeightsError(f"the folder {path} should hold one file of weights, not {many}; name the file itself")
    return found[0]


def unwrap(held: Any, name: str) -> dict[str, Tensor]:
    """The state dict inside what a training script saved, without the prefixes that wrappers add."""
    state = held
    while isinstance(state, Mapping) and not _tensors_only(state):
        inner = [state[key] for key in WRAPPERS if isinstance(state.get(key), Mapping) and state[key]]
        if not inner:
            keys = ", ".join(map(str, list(state)[:10])) or "nothing"
            raise WeightsError(f"{name} has no state dict: at its top are {keys}; save model.state_dict() alone")
        state = inner[0]
    if not isinstance(state, Mapping):
        raise WeightsError(f"{name} holds {type(state).__name__}, not a dictionary of tensors")
    state = dict(state)
    while shared := [prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in state)]:
        state = {key.removeprefix(shared[0]): tensor for key, tensor in state.items()}
    return state


def _tensors_only(state: Mapping[Any, Any]) -> bool:
    return bool(state) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return unwrap(load_file(path), str(path))
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}; fetch it again") from error


def _opened(path: Path) -> io.BufferedReader:
    try:
        return open(path, "rb")
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error


def _pickled(stream: io.IOBase, name: str) -> Any:
    """What `torch.load` finds with `weights_only`: plain containers and tensors. Anything else is refused unread."""
    try:
        return torch.load(stream, map_location="cpu", weights_only=True)  # type: ignore[arg-type]
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{name} is refused: it holds more than tensors, and opening it could run code ({_first_line(error)}); "
            "ask its author for a safetensors file, or save its state dict anew where you trust it"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError, AssertionError) as error:
        raise WeightsError(f"{name} is not a readable checkpoint: {_first_line(error)}; fetch it again") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if "Unsupported" in line or "GLOBAL" in line]
    return (told or lines or [type(error).__name__])[0]


def encode(config: Mapping[str, Any], name: str) -> str:
    """A config as JSON text.

    Raises:
        WeightsError: a value in it that JSON has no form for.
    """
    try:
        return json.dumps(config, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{name} holds something that JSON cannot: {error}; keep it to plain values") from error
