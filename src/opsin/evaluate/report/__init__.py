"""`report.html`: one file that says what was found, how sure it is, and how to find it again."""

import os
from pathlib import Path
from typing import Any

from opsin.evaluate.report.page import page


def write_report(run: dict[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write the report of a run as one self-contained page: no scripts, no outside resources, light, dark, printable.

    Every entry may be missing; its section is then left out. Texts are escaped, whatever they hold.

    - `title`, `model` (the network's name), `task` ("616 photographs of ..."), `verdict` (a sentence; made from the
      figures when missing), `created` (text).
    - `test`: what `opsin.evaluate.metrics.score` returns. `calibration`: what `calibrate` returns.
    - `limits`: [{`limit`: "5ms", `what`: "latency_ms" | "size_mb" | "macs" | "params", `measured`, `kept`}].
    - `card`: `opsin.data.Card.to_dict()`. `samples`: [{`image`, `label`}], a few pictures of the data.
    - `history`: [{`epoch`, `train_loss`, `val_loss`, `val_accuracy`, ...}], one an epoch; `best_epoch`: from 1.
    - `mistakes`: [{`image`, `overlay`, `name`, `label`, `prediction`, `probability`}], worst first; pictures are
      files or uint8 arrays (H, W, 3), `overlay` (of `opsin.evaluate.explain`) may be missing.
    - `cost`: {`latency_ms`, `p10_ms`, `p90_ms`, `throughput`, `size_mb`, `params`, `macs`, `peak_memory_mb`, `threads`,
      `batch`}. `proof`: `opsin.deploy.export.Proof.as_dict()`.
    - `tried`: [{`name`, `size`, `latency_ms`, `size_mb`, `macs`, `kept`, `accuracy`, `interval`, `why`}]; the winner
      carries `winner`: True; `accuracy` and `interval` may lie in a dict `probe`. `tried_on`: what that accuracy is of.
    - `stages`: [{`name`, `accuracy`, `interval`, `note`, `winner`}], probe and fine-tuned, on validation images.
    - `provenance`, `licences`: nested dicts or texts. `reproduce`: {`command`, `seed`, `versions`, `machine`,
      `settings`, ...}. `notes`: texts that the reader must know.

    Raises OSError where the file cannot be written.
    """
    path = Path(path)
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_text(page(run), encoding="utf-8", errors="replace")
    unfinished.replace(path)
    return path
