"""The page: which sections there are, and the verdict above them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from opsin.evaluate.report import charts, results, sources
from opsin.evaluate.report.markup import Html, join, tag
from opsin.evaluate.report.say import between, known, percent, unit

Run = dict[str, Any]
SECTIONS: list[tuple[str, str, Callable[[Run], Html | None]]] = [
    ("test", "Test results", results.test),
    ("confusion", "What is taken for what", results.confusion),
    ("mistakes", "The worst mistakes", results.mistakes),
    ("calibration", "Can its confidence be trusted?", results.calibration),
    ("cost", "Cost", results.cost),
    ("tried", "What was tried", results.tried),
    ("training", "Training", results.training),
    ("data", "Data", sources.data),
    ("sources", "Provenance and licences", sources.provenance),
    ("again", "How to reproduce", sources.reproduce),
]
# Whatever a name smuggles in, the page loads nothing and runs nothing.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page(run: Run) -> str:
    """The whole document as text; see `write_report` for what `run` holds."""
    made = [(key, name, build(run)) for key, name, build in SECTIONS]
    made = [(key, name, body) for key, name, body in made if body]
    title = str(run.get("title") or "Report")
    style = Html(Path(__file__).with_name("style.css").read_text(encoding="utf-8"))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("title", f"{title} · opsin"),
        tag("style", style),
    )
    contents = tag("nav", [tag("a", name, href=f"#{key}") for key, name, _ in made])
    sections = [tag("section", tag("h2", name), body, id=key) for key, name, body in made]
    told = " · ".join(str(part) for part in (run.get("created"), "written by opsin") if part)
    body = tag("main", tag("h1", title), hero(run), contents, sections, tag("footer", told))
    return "<!doctype html>\n" + tag("html", head, tag("body", body), lang="en")


def hero(run: Run) -> Html:
    """The verdict, its figure and the limits."""
    test = run.get("test") or {}
    ends = (test.get("intervals") or {}).get("accuracy")
    figure = None
    if known(test.get("accuracy")):
        small = f"accuracy on {test['count']:,} test images" if known(test.get("count")) else "test accuracy"
        figure = tag("div", percent(test["accuracy"]), tag("small", small), class_="figure")
    limits = [
        tag(
            "li",
            tag("b", limit.get("limit")),
            " asked, ",
            unit(limit.get("what", ""), limit.get("measured")),
            " measured",
            class_="yes" if limit.get("kept") else "no",
        )
        for limit in run.get("limits") or []
    ]
    strip = charts.span(test["accuracy"], ends, guessed(test)[1]) if figure else None
    notes = [tag("p", note, class_="soft") for note in run.get("notes") or []]
    right = tag(
        "div",
        tag("p", run.get("verdict") or verdict(run), class_="verdict"),
        strip,
        tag("ul", limits, class_="chips") if limits else None,
        notes,
    )
    return tag("section", tag("div", figure, right, class_="hero"))


def verdict(run: Run) -> Html:
    """One sentence: what, how right, how sure, how fast, and against which guess."""
    test, cost = run.get("test") or {}, run.get("cost") or run.get("proof") or {}
    if not known(test.get("accuracy")):
        return join("There are no test results.")
    ends = between((test.get("intervals") or {}).get("accuracy"))
    right = f" is right on {percent(test['accuracy'])} of images it never saw"
    parts: list[Any] = [tag("b", run.get("model") or "The model"), right]
    if ends:
        parts.append(f" (95% interval {ends})")
    if known(cost.get("latency_ms")):
        parts.append(f" and takes {unit('latency_ms', cost['latency_ms'])} for a picture")
    common, share = guessed(test)
    if common:
        parts.append(f". Always answering “{common}” would be right on {percent(share)}")
    missed = [str(limit.get("limit")) for limit in run.get("limits") or [] if not limit.get("kept")]
    return join(parts, ".", f" It does not keep {' and '.join(missed)}." if missed else None)


def guessed(test: Run) -> tuple[str, float]:
    """The commonest class of the test images and how often it alone would be right."""
    supports = [(row["support"], row["label"]) for row in test.get("per_class") or []]
    total = sum(support for support, _ in supports)
    if not total:
        return "", 0.0
    most, name = max(supports, key=lambda pair: pair[0])
    return name, most / total
