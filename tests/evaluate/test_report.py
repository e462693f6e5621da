import re
import xml.etree.ElementTree as xml
from html.parser import HTMLParser

import numpy as np
import pytest
from runs import photograph, run

from opsin.evaluate.report import charts, write_report
from opsin.evaluate.report.markup import Html, join, tag

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(1)>&'\udcff\x00"


class Page(HTMLParser):
    """What a browser would act on."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.open, self.words = [], [], [], []
        self.feed(text)

    def handle_starttag(self, name, attributes):
        self.tags.append(name)
        self.links += [v for k, v in attributes if k in ("src", "href", "xlink:href", "action", "data")]
        assert not any(k.startswith("on") for k, _ in attributes)
        if name not in ("meta", "img", "br"):
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, words):
        self.words.append(words)


def read(path):
    text = path.read_text(encoding="utf-8")
    return Page(text), text


@pytest.mark.parametrize("k", [2, 10, 100])
def test_a_whole_report_stands_alone_and_shows_its_figures(tmp_path, k):
    made = run(k, 400)
    page, text = read(write_report(made, tmp_path / "report.html"))
    assert not page.open
    assert "script" not in page.tags
    assert {link[:5] for link in page.links} <= {"data:", *(link[:5] for link in page.links if link.startswith("#"))}
    assert "http" not in re.sub(r'xmlns="[^"]*"|http-equiv', "", text)
    assert "@import" not in text
    assert "url(" not in text
    assert page.tags.count("section") == 11
    words = " ".join(page.words)
    low, high = made["test"]["intervals"]["accuracy"]
    for shown in (
        f"{made['test']['accuracy']:.1%}",
        f"{100 * low:.1f}–{100 * high:.1f}%",
        "3.41 ms",
        "CC BY-NC-SA 4.0",
        "opsin fit demo:solar-cells --under 5ms --seed 0",
        f"T = {made['calibration']['temperature']:.2f}",
        "cells/cell1207.png",
        "over the limit 4.2×",
        made["mistakes"][0]["name"],
    ):
        assert shown in words, shown
    assert ("does not keep 300MMACs" in words) == (k == 10)
    assert page.tags.count("img") == 2 * len(made["mistakes"]) + len(made["samples"])
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_names_cannot_act(tmp_path):
    def poison(told):
        if isinstance(told, dict):
            return {HOSTILE if key in ("functional", "source", "torch") else key: poison(v) for key, v in told.items()}
        if isinstance(told, list):
            return [poison(v) for v in told]
        return HOSTILE if isinstance(told, str) and told not in ("latency_ms", "macs") else told

    made = poison({**run(2, 60), "verdict": HOSTILE, "notes": [HOSTILE]})
    page, text = read(write_report(made, tmp_path / "report.html"))
    assert not page.open
    assert "script" not in page.tags
    assert "<script" not in text
    assert all(link.startswith(("data:image/jpeg;base64,", "#")) for link in page.links)
    assert "alert(1)" in " ".join(page.words)


def test_missing_sections_are_left_out(tmp_path):
    for key, value in run(2, 60).items():
        page, _ = read(write_report({key: value}, tmp_path / "report.html"))
        assert not page.open
        assert page.tags.count("section") <= 3
    page, _ = read(write_report({}, tmp_path / "report.html"))
    assert page.tags.count("section") == 1
    assert "There are no test results." in "".join(page.words)


def test_odd_values_do_not_stop_it(tmp_path):
    made = run(2, 60)
    made["history"] = [{"epoch": 1, "train_loss": float("nan"), "val_loss": 0.5, "val_accuracy": None}]
    wrong = {"label": "a", "prediction": "b", "probability": None}
    made["mistakes"] = [{**wrong, "image": "not/there.png"}, {**wrong, "image": photograph(1)[..., :1]}]
    made["test"] |= {"auroc": None, "intervals": {"accuracy": None}}
    made["tried"] = [{"name": "only", "accuracy": 1.0, "interval": None}]
    made["limits"] = [{"limit": "5ms", "what": "latency_ms", "measured": None, "kept": False}]
    page, text = read(write_report(made, tmp_path / "report.html"))
    assert not page.open
    assert not re.search(r"\b(nan|None)\b", " ".join(page.words))
    assert 'class="no"' in text


def test_marks_lie_where_the_numbers_say():
    rows = [{"name": "a", "value": 0.8, "interval": [0.7, 0.9]}, {"name": "b", "value": 0.6, "interval": None}]
    drawn = xml.fromstring(charts.dots(rows, "two"))
    at = lambda e, key: float(e.get(key))
    by = lambda kind: [e for e in drawn.iter() if (e.get("class") or "").startswith(kind)]
    labels = {e.text: at(e, "x") for e in drawn.iter() if e.get("text-anchor") == "middle"}
    first, second = by("dot")
    assert at(first, "cx") == pytest.approx(labels["80%"], abs=0.02)
    assert at(second, "cx") == pytest.approx(labels["60%"], abs=0.02)
    (whisker,) = by("whisker")
    assert (at(whisker, "x1"), at(whisker, "x2")) == pytest.approx((labels["70%"], labels["90%"]), abs=0.02)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.61, 0.67), (3, 3), (-2, 1e6), (1e-9, 2e-9)])
def test_ticks_are_round_and_enclose(low, high):
    marks = charts.ticks(low, high)
    assert marks[0] <= low
    assert marks[-1] >= high
    assert 2 <= len(marks) <= 8
    assert np.allclose(np.diff(marks), marks[1] - marks[0])


def test_markup_escapes_all_but_itself():
    assert tag("p", "<b>", tag("b", 1), None, class_='"x"') == '<p class="&quot;x&quot;">&lt;b&gt;<b>1</b></p>'
    assert join(Html("<i>"), ["&", 2]) == "<i>&amp;2"
