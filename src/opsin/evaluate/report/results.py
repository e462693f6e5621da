"""Sections about the model: test, confusion, calibration, mistakes, cost, rivals, training."""

import base64
import io
from collections.abc import Sequence
from typing import Any

from opsin.evaluate.report import charts
from opsin.evaluate.report.markup import Html, join, tag
from opsin.evaluate.report.say import between, known, large, number, percent, shortened, small, unit

Run = dict[str, Any]
THUMB = 220  # pixels
MOST_MISTAKES = 24
FIGURES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "auroc": "AUROC",
    "log_loss": "log loss (nats)",
}


def tiles(facts: Sequence[tuple[Any, str]]) -> Html:
    return tag("div", [tag("div", tag("b", value), tag("span", name)) for name, value in facts], class_="tiles")


def table(
    head: Sequence[str], rows: Sequence[Sequence[Any]], best: int | None = None, words: int | None = None
) -> Html:
    """A table whose first column is text; `best` is a row to lift out, `words` a second column of text."""
    kinds = ["words" if j == words else None for j in range(len(head))]
    heads = tag("tr", [tag("th", name, class_=kind) for name, kind in zip(head, kinds)])
    body = [
        tag(
            "tr", [tag("td", cell, class_=kind) for cell, kind in zip(row, kinds)], class_="best" if i == best else None
        )
        for i, row in enumerate(rows)
    ]
    return tag("div", tag("table", tag("thead", heads), tag("tbody", body)), class_="scroll")


def test(run: Run) -> Html | None:
    told = run.get("test")
    if not told:
        return None
    ends = told.get("intervals") or {}
    facts = []
    for key, name in FIGURES.items():
        if known(told.get(key)):
            loss, between_ = key == "log_loss", ends.get(key)
            value = number(told[key]) if loss or key == "auroc" else percent(told[key])
            spread = "–".join(number(v) for v in between_ or ()) if loss or key == "auroc" else between(between_)
            facts.append((join(name, tag("br"), spread), value))
    rows = sorted(told.get("per_class") or [], key=lambda row: row["f1"])
    cells = [
        [
            shortened(row["label"], 60),
            f"{row['support']:,}",
            percent(row["precision"]),
            join(percent(row["recall"]), charts.bar(row["recall"])),
            percent(row["f1"]),
        ]
        for row in rows
    ]
    words = (
        "Figures come with their 95% intervals (bootstrap over the test images). The test images were looked at "
        "once, after every choice was made. The table starts with the hardest class."
    )
    return join(
        tag("p", words, class_="soft"),
        tiles(facts),
        table(["class", "images", "precision", "recall", "F1"], cells) if cells else None,
    )


def confusion(run: Run) -> Html | None:
    told = run.get("test") or {}
    counts, names = told.get("confusion"), [row["label"] for row in told.get("per_class") or []]
    if not counts or len(names) != len(counts):
        return None
    wrong = sorted(
        ((count, i, j) for i, row in enumerate(counts) for j, count in enumerate(row) if i != j and count), reverse=True
    )
    rows = [
        [shortened(names[i], 50), shortened(names[j], 50), count, percent(count / sum(counts[i]))]
        for count, i, j in wrong[:8]
    ]
    words = "A row is a true class, a column an answer, a cell's shade its share of the row. The diagonal is right."
    most = (
        [tag("h3", "Most frequent confusions"), table(["is", "taken for", "images", "of its class"], rows, words=1)]
        if len(names) > 2 and rows
        else None
    )
    return join(tag("p", words, class_="soft"), charts.matrix(counts, names, "Confusion matrix"), most)


def calibration(run: Run) -> Html | None:
    told = run.get("calibration") or {}
    before, after = told.get("before"), told.get("after")
    if not before or not after:
        return None
    words = (
        f"When the model says 90%, is it right nine times in ten? Its confidence was off by "
        f"{100 * before['ece']:.1f} points on average (expected calibration error); one temperature fitted on "
        f"validation images, T = {told['temperature']:.2f}, makes that {100 * after['ece']:.1f}. Dots on "
        "the dashed line are honest; above it the model is too modest, below it too sure."
    )
    curves = {"as trained": before["reliability"], "calibrated": after["reliability"]}
    facts = [
        ("calibration error, as trained", percent(before["ece"])),
        ("calibrated", percent(after["ece"])),
        ("log loss, as trained", number(before["log_loss"])),
        ("calibrated", number(after["log_loss"])),
    ]
    return join(
        tag("p", words, class_="soft"),
        tag("div", charts.reliability(curves, "Reliability diagram"), tiles(facts), class_="pair"),
    )


def mistakes(run: Run) -> Html | None:
    told = run.get("mistakes")
    if not told:
        return None
    figures = []
    for wrong in told[:MOST_MISTAKES]:
        pictures = [thumbnail(wrong.get(key)) for key in ("image", "overlay")]
        pictures = [picture for picture in pictures if picture]
        sure = f" {percent(wrong.get('probability'), 0)}"
        labelled, name = shortened(wrong.get("label"), 40), shortened(wrong.get("name", ""), 48)
        caption = tag(
            "figcaption",
            tag("b", shortened(wrong.get("prediction"), 40)),
            sure,
            tag("br"),
            f"labelled {labelled}",
            tag("br"),
            tag("span", name, class_="soft"),
        )
        figures.append(tag("figure", tag("div", pictures, class_=None if len(pictures) > 1 else "one"), caption))
    words = (
        "The test images that the model was surest about and wrong, with what it looked at (Eigen-CAM). Some may "
        "be wrong labels: worth a look before training again."
    )
    return join(tag("p", words, class_="soft"), tag("div", figures, class_="gallery"))


def cost(run: Run) -> Html | None:
    told, proof = run.get("cost") or {}, run.get("proof") or {}
    told = {**{key: proof[key] for key in ("latency_ms", "p90_ms", "size_mb", "threads") if key in proof}, **told}
    if not told:
        return None
    batch = told.get("batch", 1)
    once = "a picture, median" if batch == 1 else f"a batch of {batch}, median"
    facts = [
        (once, unit("latency_ms", told.get("latency_ms"))),
        ("nine in ten are faster", unit("latency_ms", told.get("p90_ms"))),
        ("pictures a second", number(told.get("throughput"))),
        ("file", unit("size_mb", told.get("size_mb"))),
        ("peak memory", unit("peak_memory_mb", told.get("peak_memory_mb"))),
        ("parameters", large(told.get("params"))),
        ("multiply-accumulates", large(told.get("macs"))),
        ("threads", number(told.get("threads"))),
    ]
    proved = None
    if known(proof.get("max_difference")):
        proved = tag(
            "p",
            f"The exported file was run on {number(proof.get('images'))} real images beside the trained "
            f"network: probabilities differ by at most {small(proof['max_difference'])} (allowed: "
            f"{small(proof.get('tolerance'))}), and the answers agree on {percent(proof.get('agreement'))}.",
        )
    return join(tiles([(name, value) for name, value in facts if not value.startswith("–")]), proved)


def tried(run: Run) -> Html | None:
    rows = run.get("tried") or []
    stages = [row for row in run.get("stages") or [] if known(row.get("accuracy"))]
    if not rows and not stages:
        return None
    rows = [{**{key: (row.get("probe") or {}).get(key) for key in ("accuracy", "interval")}, **row} for row in rows]
    rows.sort(key=lambda row: -(row["accuracy"] if known(row["accuracy"]) else -1))
    probed = [row for row in rows if known(row["accuracy"])]
    parts = []
    if probed:
        words = run.get("tried_on") or "cross-validated linear probe on frozen features"
        parts += [
            tag("p", f"Accuracy of each candidate ({words}) with its 95% interval.", class_="soft"),
            charts.dots(
                [{**row, "value": row["accuracy"], "best": row.get("winner"), "note": _cost(row)} for row in probed],
                "Candidates by accuracy",
            ),
        ]
    if rows:
        cells = [
            [
                row["name"],
                why(row),
                number(row.get("size")),
                unit("latency_ms", row.get("latency_ms")),
                unit("size_mb", row.get("size_mb")),
                large(row.get("macs")),
            ]
            for row in rows
        ]
        best = next((i for i, row in enumerate(rows) if row.get("winner")), None)
        parts.append(table(["network", "outcome", "pixels", "latency", "file", "MACs"], cells, best, words=1))
    if stages:
        parts += [
            tag("h3", "The winner, stage by stage, on validation images"),
            charts.dots(
                [
                    {"note": percent(row["accuracy"]), **row, "value": row["accuracy"], "best": row.get("winner")}
                    for row in stages
                ],
                "Stages by accuracy",
            ),
        ]
    return join(parts)


def why(row: Run) -> str:
    """Why a candidate won or lost, in words."""
    if row.get("why"):
        return str(row["why"])
    if row.get("winner"):
        return "chosen"
    if row.get("kept") is False:
        return f"over the limit {number(row.get('over'))}×" if known(row.get("over")) else "over the limit"
    return "less accurate" if known(row.get("accuracy")) else "not ranked"


def training(run: Run) -> Html | None:
    history = [row for row in run.get("history") or [] if isinstance(row, dict)]
    if not history:
        return None
    drawn = []
    for label, shares, keys in (
        ("Loss", False, {"training": "train_loss", "validation": "val_loss"}),
        ("Accuracy", True, {"training": "train_accuracy", "validation": "val_accuracy"}),
    ):
        series = {name: [row.get(key) for row in history] for name, key in keys.items()}
        if any(known(v) for values in series.values() for v in values):
            chart = charts.lines(series, f"{label} by epoch", shares, run.get("best_epoch"))
            drawn.append(tag("div", tag("h3", label), chart))
    kept = f" The dashed line is the epoch that was kept, {run['best_epoch']}." if run.get("best_epoch") else ""
    words = tag("p", f"{len(history)} epochs.{kept}", class_="soft")
    return join(words, tag("div", drawn, class_="pair")) if drawn else None


def thumbnail(picture: Any, words: str = "") -> Html | None:
    """A file or a uint8 array (H, W, 3) as a small JPEG inside the page; one that cannot be read shows as nothing."""
    if picture is None:
        return None
    from PIL import Image

    from opsin.data import DataError, read_image

    try:
        pixels = picture if hasattr(picture, "shape") else read_image(picture)
    except (DataError, OSError):
        return None
    pixels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    image = Image.fromarray(pixels).convert("RGB")
    image.thumbnail((THUMB, THUMB))
    held = io.BytesIO()
    image.save(held, "JPEG", quality=85)
    source = f"data:image/jpeg;base64,{base64.b64encode(held.getvalue()).decode()}"
    return tag("img", src=source, alt=words, loading="lazy")


def _cost(row: Run) -> str:
    latency = f"  ·  {unit('latency_ms', row['latency_ms'])}" if known(row.get("latency_ms")) else ""
    return percent(row["accuracy"]) + latency
