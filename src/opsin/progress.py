"""Progress of long work, on standard error, so that what a command prints for machines stays clean."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")
EVERY = 5.0  # seconds between two plain lines of one piece of work

_silent: ContextVar[bool] = ContextVar("silent", default=False)
_live: list[Any] = []  # the display on screen: work inside work adds a bar to it, a terminal holds one display only


@contextmanager
def quiet(on: bool = True) -> Iterator[None]:
    """Inside this block nothing is shown (with `on` false: as outside)."""
    token = _silent.set(on)
    try:
        yield
    finally:
        _silent.reset(token)


def say(text: str) -> None:
    """Show one line: a step that begins, a result that stands."""
    if not _silent.get():
        print(text, file=sys.stderr, flush=True)


def track(iterable: Iterable[T], label: str | Callable[[], str], total: int | None = None) -> Iterator[T]:
    """The same items, with their progress shown: a bar with the time left on a terminal, now and then a line elsewhere.

    `label` may be a function, asked at each refresh (to show a loss, say); `total` defaults to `len(iterable)`.
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    text = label if callable(label) else lambda: label
    if _silent.get():
        return iter(iterable)
    return _bar(iterable, text, total) if sys.stderr.isatty() else _lines(iterable, text, total)


def duration(seconds: float) -> str:
    """`0.42 s`, `12 s`, `3 min 05 s` or `2 h 10 min`."""
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60:02} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _lines(iterable: Iterable[T], label: Callable[[], str], total: int | None) -> Iterator[T]:
    start = last = time.monotonic()
    done = 0
    for item in iterable:
        yield item
        done += 1
        now = time.monotonic()
        if now - last >= EVERY and done != total:
            last = now
            left = f" of {total}, {duration((now - start) / done * (total - done))} left" if total else ""
            print(f"{label()}: {done}{left}", file=sys.stderr, flush=True)
    print(f"{label()}: {done} in {duration(time.monotonic() - start)}", file=sys.stderr, flush=True)


def _bar(iterable: Iterable[T], label: Callable[[], str], total: int | None) -> Iterator[T]:
    outermost = not _live
    if outermost:
        _live.append(_display())
        _live[0].start()
    display = _live[0]
    task = display.add_task(label(), total=total)
    try:
        for item in iterable:
            yield item
            display.update(task, advance=1, description=label())
    finally:
        if outermost:
            display.stop()
            _live.clear()
        else:
            display.remove_task(task)


def _display() -> Any:
    from rich import progress as rich
    from rich.console import Console

    text = rich.TextColumn("{task.description}", markup=False)  # file names may hold brackets
    times = rich.TimeElapsedColumn(), rich.TextColumn("elapsed,"), rich.TimeRemainingColumn(), rich.TextColumn("left")
    return rich.Progress(text, rich.BarColumn(), rich.MofNCompleteColumn(), *times, console=Console(stderr=True))
