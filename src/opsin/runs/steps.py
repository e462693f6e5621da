"""What a run has done so far, kept so that an interrupted one goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import OpsinError
from ..progress import say
from ..weights import cache


class RunError(OpsinError):
    """A run folder that cannot be used as it was asked for."""


class Steps:
    """The results of a run's steps in its folder, `steps/NAME.json`, each written at once or not at all."""

    def __init__(self, folder: Path):
        self.folder = folder / "steps"
        self.number = 0

    def do(self, name: str, label: str, work: Callable[[], Any]) -> Any:
        """The kept result of a step, or what `work()` gives now; results are plain JSON."""
        self.number += 1
        path = self.folder / f"{name}.json"
        if path.is_file():
            say(f"{self.number}. {label}: kept")
            return json.loads(path.read_text(encoding="utf-8"))
        say(f"{self.number}. {label}")
        result = json.loads(json.dumps(work()))
        self.folder.mkdir(parents=True, exist_ok=True)
        with cache.atomic(path) as part:
            part.write_text(json.dumps(result, indent=1), encoding="utf-8")
        return result


def append(path: Path, **line: Any) -> None:
    """Add one line of JSON to a file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
