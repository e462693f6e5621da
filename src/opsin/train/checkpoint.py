"""State on disk: tensors as safetensors with JSON in their header, one file, replaced in one step."""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .settings import TrainError


def write(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Writes both, or leaves the file as it was. Raises `TrainError` where there is no room."""
    part = path.with_name(f".{path.name}.part")
    laid = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(laid, part, metadata={"state": json.dumps(state)})
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            part.unlink()
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space" in str(error)
        remedy = "free space on that disk" if full else "check that it is a folder you may write to"
        kept = "; the state before is kept" if path.is_file() else ""
        raise TrainError(f"cannot write {path} ({error}){kept}; {remedy}, then resume") from error


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and state of a file that `write` wrote. Raises `TrainError` for any other."""
    try:
        with safe_open(path, "pt") as file:
            state = json.loads((file.metadata() or {})["state"])
            return {name: file.get_tensor(name) for name in file.keys()}, state  # noqa: SIM118 (it is no dict)
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise TrainError(f"{path} is no checkpoint of a training run ({error}); remove it to start over") from error


def write_text(path: Path, text: str) -> None:
    """A small file, replaced in one step."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise TrainError(f"cannot write {path}: {error.strerror}; free space there, then resume") from error
