"""Runs: a folder of images and a limit in, the best model that keeps it out, with evidence."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..progress import say
from .settings import Settings, begin, merge
from .steps import RunError

__all__ = ["RunError", "Settings", "fit"]


def fit(
    data: str,
    *,
    under: Iterable[str] = (),
    model: str = "auto",
    minutes: float = 7.5,
    licence: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    seed: int = 0,
    settings: Iterable[str] = (),
) -> dict[str, Any]:
    """Train the best network that keeps the limits on a set of labelled images, check it, export it, report on it.

    Args:
        data: a folder of class folders, of train/val/test folders, a CSV or Parquet table, or `demo:NAME`.
        under: limits such as "5ms" (of one picture on this machine), "20MB", "300MMACs"; all are kept.
        model: `auto` tries every published weight; or names, parted by commas.
        minutes: for the whole run but for downloads.
        licence: a gate on the licences of weights and code, such as "permissive".
        out: the run folder; default `runs/` and the name of the data.
        resume: go on with the run that is in `out`, with its own settings.
        seed: of splits, draws and batches.
        settings: `key=value` texts over `Settings`, such as "test=0.2" or "train.lr=0.001".

    Returns:
        The run's summary: folder, winner, test figures with intervals, cost, limits.

    Raises:
        OpsinError: data, limits, weights or a folder that cannot be used; the message says what to do.
    """
    given = Settings(data=str(data), under=list(under), model=model, minutes=minutes, licence=licence, seed=seed)
    given = merge(given, settings)
    folder = Path(out) if out else Path("runs") / Path(str(data).rstrip("/")).name.replace("demo:", "")
    given = begin(folder, given, resume)
    return steps(folder, given)


def steps(folder: Path, settings: Settings) -> dict[str, Any]:
    """All steps of a run, those that are done already taken from its folder."""
    from . import report
    from .run import Run

    run = Run(folder, settings)
    do = run.steps.do
    card = do("data", "Reading and checking the images", run.card)
    rows = do("shortlist", "Measuring networks on this machine", run.shortlist)
    order = do("ranking", "Ranking them by probes on frozen features", lambda: run.rank(rows))
    row = order[0]
    probe = do("probe", f"Fitting a probe on {row['name']}", lambda: run.probed(row))
    tuned = again = None
    if settings.finetune:
        tuned = do("finetune", f"Fine-tuning {row['name']}", lambda: run.finetuned(row, probe["flips"]))
        again = do("reprobe", "Fitting a probe on what it sees now", lambda: run.reprobed(row, probe["flips"]))
    made = {"probe": probe, "finetuned": tuned, "reprobed": again}
    winner = run.chosen(made)
    tested = do("test", "Testing once on images never seen", lambda: run.tested(winner, row))
    exported = do(
        "export", "Exporting, and proving the file", lambda: run.exported(row, tested["calibration"]["temperature"])
    )
    done = {"card": card, "shortlist": rows, "ranking": order, "made": made, **tested, **exported}
    summary = do("report", "Writing the report", lambda: report.write(run, done))
    say(summary["verdict"])
    return summary
