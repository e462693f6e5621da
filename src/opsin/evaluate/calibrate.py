"""Probabilities that mean what they say: temperature scaling (Guo et al., 2017, arXiv:1706.04599)."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from opsin.evaluate.metrics import checked, ece, reliability, softmax

COOLEST, HOTTEST = 0.05, 20.0  # a separable validation set would ask for temperature 0


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """The T that minimises the log loss of softmax(logits / T), logits (N, K), labels (N,); it changes no answer.

    The loss is convex in 1 / T, so the zero of its derivative is found by Newton steps inside a shrinking bracket.
    """
    z = np.asarray(logits, np.float64)
    _, y = checked(softmax(z), labels)
    low, high, inverse = 1 / HOTTEST, 1 / COOLEST, 1.0
    truth = z[np.arange(len(y)), y].mean()
    for _ in range(60):
        p = softmax(z * inverse)
        mean = (p * z).sum(1)
        slope = mean.mean() - truth
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        curvature = (p * (z - mean[:, None]) ** 2).sum(1).mean()
        step = inverse - slope / curvature if curvature > 0 else low
        step = step if low < step < high else (low + high) / 2
        if abs(step - inverse) < 1e-9:
            break
        inverse = step
    return float(1 / inverse)


def calibrate(
    validation: ArrayLike, validation_labels: ArrayLike, test: ArrayLike, test_labels: ArrayLike, *, bins: int = 15
) -> dict[str, Any]:
    """Fit the temperature on validation logits (N, K) and measure calibration on test logits (M, K), before and after.

    Returns `temperature`, `before` and `after`, each with `ece`, `log_loss` and `reliability` (rows of
    `opsin.evaluate.metrics.reliability`).
    """
    temperature = fit_temperature(validation, validation_labels)
    z = np.asarray(test, np.float64)
    return {
        "temperature": temperature,
        "before": _measure(softmax(z), test_labels, bins),
        "after": _measure(softmax(z / temperature), test_labels, bins),
    }


def _measure(probabilities: ArrayLike, labels: ArrayLike, bins: int) -> dict[str, Any]:
    p, y = checked(probabilities, labels)
    loss = -np.log(np.maximum(p[np.arange(len(y)), y], 1e-15)).mean()
    return {"ece": ece(p, y, bins), "log_loss": float(loss), "reliability": reliability(p, y, bins)}
