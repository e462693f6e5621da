import contextlib
import os
import pty
import subprocess
import sys

from opsin import progress


def test_items_pass_through_and_a_line_is_written(capsys):
    assert list(progress.track([3, 1, 2], "reading")) == [3, 1, 2]
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("reading: 3 in ")


def test_plain_lines_are_sparse_and_tell_the_time_left(capsys, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    list(progress.track(range(20), "reading"))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "reading: 5 of 20, 15 s left",
        "reading: 10 of 20, 10 s left",
        "reading: 15 of 20, 5 s left",
        "reading: 20 in 21 s",
    ]


def test_generators_need_no_length_and_labels_may_change(capsys):
    losses = []
    for loss in progress.track((x / 2 for x in (4, 1)), lambda: f"loss {losses[-1]}"):
        losses.append(loss)
    assert "loss 0.5: 2 in" in capsys.readouterr().err


def test_quiet_is_silent(capsys):
    with progress.quiet():
        assert list(progress.track(range(3), "x")) == [0, 1, 2]
        progress.say("nothing")
    assert capsys.readouterr() == ("", "")
    progress.say("something")
    assert capsys.readouterr() == ("", "something\n")


def test_durations():
    assert [progress.duration(s) for s in (0.123, 12.2, 185, 7800)] == ["0.12 s", "12 s", "3 min 05 s", "2 h 10 min"]


def test_a_terminal_gets_nested_bars_and_stdout_stays_clean():
    code = """
from opsin.progress import say, track
for a in track(range(3), "[outer]"):
    for b in track(range(2), "inner"):
        say(f"step {a}{b}")
for a in track(range(3), "again"):
    break
print("result")
"""
    main, terminal = pty.openpty()
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=terminal,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": path, "TERM": "xterm"},
    )
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # the end of a pty is an error on Linux
        while chunk := os.read(main, 65536):
            shown += chunk
    os.close(main)
    assert done.stdout == b"result\n"
    assert b"[outer]" in shown
    assert b"3/3" in shown
    assert b"step 21" in shown
