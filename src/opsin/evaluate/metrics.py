"""How right a classifier is, with 95 % intervals."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from opsin.errors import OpsinError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
CHUNK = 1 << 24  # numbers in memory at once while resampling


class MetricsError(OpsinError, ValueError):
    """Predictions and labels that cannot be scored."""


def softmax(logits: ArrayLike) -> Floats:
    """Probabilities (N, K) of logits (N, K)."""
    z: Floats = np.asarray(logits, np.float64)
    powers: Floats = np.exp(z - z.max(-1, keepdims=True))
    shares: Floats = powers / powers.sum(-1, keepdims=True)
    return shares


def score(
    probabilities: ArrayLike, labels: ArrayLike, names: list[str] | None = None, *, resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Every figure of a classifier from its probabilities (N, K) and the true classes (N,), ready for JSON.

    `accuracy`, `balanced_accuracy` (mean recall of the classes present), `macro_f1` (mean over classes present or
    predicted; no prediction counts as precision 0), `log_loss` (nats), `ece` (expected calibration error, 15 bins),
    `auroc` (two classes, else None), `per_class` (precision, recall, f1, support), `confusion` (row: true class,
    column: predicted), `count`, and `intervals`: 95 % percentile intervals of a plain bootstrap over the N samples,
    None where the resamples do not differ; a perfect accuracy gets Wilson's interval instead, for the same reason.
    The calibration error has none: resampling inflates it. Raises MetricsError.
    """
    p, y = checked(probabilities, labels)
    names = [str(k) for k in range(p.shape[1])] if names is None else list(names)
    if len(names) != p.shape[1]:
        raise MetricsError(f"{len(names)} class names for {p.shape[1]} columns of probabilities: give one a column")
    guess, losses = p.argmax(1), -np.log(np.maximum(p[np.arange(len(y)), y], 1e-15))
    right, support, predicted = counts(y, guess, p.shape[1])
    values = _summary(right, support, predicted)
    values["log_loss"] = losses.mean()
    values["auroc"] = auroc(p[:, 1], y) if p.shape[1] == 2 else math.nan
    intervals = _intervals(p, y, guess, losses, resamples, seed)
    if values["accuracy"] in (0.0, 1.0):
        intervals["accuracy"] = wilson(int(right.sum()), len(y))
    precision, recall, f1 = _per_class(right, support, predicted)
    per_class = [
        {"label": n, "precision": float(a), "recall": float(b), "f1": float(c), "support": int(s)}
        for n, a, b, c, s in zip(names, precision, recall, f1, support)
    ]
    return {
        "count": len(y),
        **{name: _plain(value) for name, value in values.items()},
        "ece": ece(p, y),
        "intervals": intervals,
        "per_class": per_class,
        "confusion": confusion(y, guess, p.shape[1]).tolist(),
    }


def checked(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Floats, Ints]:
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels)
    if p.ndim != 2 or y.shape != p.shape[:1] or not len(y):
        raise MetricsError(f"probabilities {p.shape} and labels {y.shape}: give (N, K) and (N,), N at least 1")
    if not np.isfinite(p).all():
        raise MetricsError(f"{(~np.isfinite(p)).any(1).sum()} of {len(p)} predictions hold NaN or infinity")
    if p.min() < -1e-6 or abs(p.sum(1) - 1).max() > 1e-3:
        raise MetricsError("probabilities must be at least 0 and sum to 1 in each row: apply softmax to logits first")
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= p.shape[1]:
        raise MetricsError(f"labels must be whole numbers from 0 to {p.shape[1] - 1}, got {y.min()} to {y.max()}")
    return p, y.astype(np.int64)


def counts(labels: Ints, guesses: Ints, classes: int) -> tuple[Ints, Ints, Ints]:
    """Right answers, samples and predictions of each class, (..., K), of labels and guesses (..., N)."""
    rows = labels.reshape(-1, labels.shape[-1])
    offset = np.arange(len(rows))[:, None] * classes

    def tally(of: Ints, where: NDArray[np.bool_] | slice = slice(None)) -> Ints:
        flat = (of.reshape(rows.shape) + offset)[where].ravel()
        return np.bincount(flat, minlength=len(rows) * classes).reshape(*labels.shape[:-1], classes)

    return tally(labels, rows == guesses.reshape(rows.shape)), tally(labels), tally(guesses)


def confusion(labels: Ints, guesses: Ints, classes: int) -> Ints:
    """Samples of true class (row) given the predicted class (column), (K, K)."""
    return np.bincount(labels * classes + guesses, minlength=classes**2).reshape(classes, classes)


def auroc(scores: ArrayLike, positive: ArrayLike, weights: Floats | None = None) -> Any:
    """Area under the ROC curve: the chance that a positive outranks a negative, ties counting half.

    `weights` (..., N) counts each sample so often; without both kinds the result is NaN.
    """
    s, y = np.asarray(scores, np.float64), np.asarray(positive, bool)
    order = np.argsort(s, kind="stable")
    w = (np.ones(len(s)) if weights is None else weights)[..., order]
    starts = np.flatnonzero(np.diff(s[order], prepend=-np.inf))
    up, down = (np.add.reduceat(w * kind, starts, axis=-1) for kind in (y[order], ~y[order]))
    below = np.cumsum(down, -1) - down / 2
    with np.errstate(invalid="ignore"):
        area = (up * below).sum(-1) / (up.sum(-1) * down.sum(-1))
    return float(area) if area.ndim == 0 else area


def reliability(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> list[dict[str, float]]:
    """Mean confidence and accuracy of the predictions in each occupied bin of confidence, of equal width."""
    p, y = checked(probabilities, labels)
    confidence, hit = p.max(1), p.argmax(1) == y
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    total = np.bincount(which, minlength=bins)
    sums = [np.bincount(which, v, bins) for v in (confidence, hit)]
    return [
        {"confidence": sums[0][b] / total[b], "accuracy": sums[1][b] / total[b], "count": int(total[b])}
        for b in np.flatnonzero(total)
    ]


def ece(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error: mean gap between confidence and accuracy (Guo et al., 2017, arXiv:1706.04599)."""
    table = reliability(probabilities, labels, bins)
    gaps = sum(row["count"] * abs(row["confidence"] - row["accuracy"]) for row in table)
    return float(gaps / sum(row["count"] for row in table))


def wilson(successes: int, trials: int, z: float = 1.959964) -> list[float]:
    """Wilson's 95 % interval of a proportion (Wilson, 1927)."""
    rate, shrink = successes / trials, 1 + z**2 / trials
    middle = (rate + z**2 / (2 * trials)) / shrink
    half = z / shrink * math.sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2))
    return [max(0.0, middle - half), min(1.0, middle + half)]


def percentiles(values: Floats) -> list[float] | None:
    """The middle 95 % of resampled values (R,); None if they do not differ."""
    values = values[np.isfinite(values)]
    if not len(values) or np.ptp(values) == 0:
        return None
    return [float(v) for v in np.quantile(values, (0.025, 0.975))]


def draws(count: int, resamples: int, seed: int) -> Iterator[Ints]:
    """Indices of bootstrap samples, (r, N) at a time, `resamples` rows in all."""
    rng = np.random.default_rng(seed)
    step = max(1, CHUNK // count)
    for start in range(0, resamples, step):
        yield rng.integers(count, size=(min(step, resamples - start), count))


def _intervals(p: Floats, y: Ints, guess: Ints, losses: Floats, resamples: int, seed: int) -> dict[str, Any]:
    parts = []
    for rows in draws(len(y), resamples, seed):
        part = _summary(*counts(y[rows], guess[rows], p.shape[1]))
        part["log_loss"] = losses[rows].mean(1)
        if p.shape[1] == 2:
            flat = (rows + np.arange(len(rows))[:, None] * len(y)).ravel()
            part["auroc"] = auroc(p[:, 1], y, np.bincount(flat, minlength=rows.size).reshape(rows.shape).astype(float))
        parts.append(part)
    return {name: percentiles(np.concatenate([part[name] for part in parts])) for name in parts[0]} if parts else {}


def _per_class(right: Ints, support: Ints, predicted: Ints) -> tuple[Floats, Floats, Floats]:
    parts = (predicted, 1), (support, 1), (support + predicted, 2)
    precision, recall, f1 = (scale * right / np.maximum(total, 1) for total, scale in parts)
    return precision, recall, f1


def _summary(right: Ints, support: Ints, predicted: Ints) -> dict[str, Any]:
    """Figures from the counts of each class, (..., K) -> (...)."""
    _, recall, f1 = _per_class(right, support, predicted)
    return {
        "accuracy": right.sum(-1) / support.sum(-1),
        "balanced_accuracy": recall.sum(-1) / (support > 0).sum(-1),
        "macro_f1": f1.sum(-1) / (support + predicted > 0).sum(-1),
    }


def _plain(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
