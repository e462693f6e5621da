import json

import numpy as np
import pytest
from sklearn import metrics as sk

from opsin.evaluate.metrics import MetricsError, auroc, ece, reliability, score, softmax, wilson


def sample(n=400, k=5, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(k, size=n)
    return softmax(rng.normal(size=(n, k)) + 1.5 * np.eye(k)[y]), y


@pytest.mark.parametrize("k", [2, 5, 40])
def test_figures_equal_scikit_learn(k):
    p, y = sample(k=k)
    got, guess = score(p, y, resamples=10), p.argmax(1)
    assert got["accuracy"] == pytest.approx(sk.accuracy_score(y, guess))
    assert got["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(y, guess))
    assert got["macro_f1"] == pytest.approx(sk.f1_score(y, guess, average="macro"))
    assert got["log_loss"] == pytest.approx(sk.log_loss(y, p))
    assert got["confusion"] == sk.confusion_matrix(y, guess).tolist()
    theirs = sk.precision_recall_fscore_support(y, guess)
    for name, values in zip(("precision", "recall", "f1", "support"), theirs):
        assert [row[name] for row in got["per_class"]] == pytest.approx(list(values))
    assert got["auroc"] == (pytest.approx(sk.roc_auc_score(y, p[:, 1])) if k == 2 else None)
    json.dumps(got, allow_nan=False)


def test_classes_that_never_occur_or_are_never_predicted():
    p = np.eye(4)[[0, 0, 1, 1, 3]]  # class 2 nowhere, class 3 predicted only
    y = np.array([0, 1, 1, 1, 0])
    got = score(p, y)
    assert got["balanced_accuracy"] == pytest.approx(np.mean([1 / 2, 2 / 3]))
    assert got["macro_f1"] == pytest.approx(sk.f1_score(y, p.argmax(1), average="macro"))
    assert got["per_class"][2] == {"label": "2", "precision": 0, "recall": 0, "f1": 0, "support": 0}


def test_auroc_counts_ties_half_and_takes_weights():
    rng = np.random.default_rng(0)
    s, y, w = rng.integers(5, size=200) / 4, rng.integers(2, size=200), rng.integers(4, size=200).astype(float)
    assert auroc(s, y) == pytest.approx(sk.roc_auc_score(y, s))
    assert auroc(s, y, w[None])[0] == pytest.approx(sk.roc_auc_score(y, s, sample_weight=w))
    assert score(np.eye(2)[[0, 1]], [1, 1])["auroc"] is None


def test_intervals_are_seeded_and_those_of_a_literal_bootstrap():
    p, y = sample(k=2)
    got = score(p, y, seed=3)["intervals"]
    assert got == score(p, y, seed=3)["intervals"]
    rng, guess, values = np.random.default_rng(3), p.argmax(1), {"accuracy": [], "macro_f1": [], "auroc": []}
    for rows in rng.integers(len(y), size=(1000, len(y))):
        values["accuracy"].append(sk.accuracy_score(y[rows], guess[rows]))
        values["macro_f1"].append(
            np.mean(
                [2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in ((y[rows] == c, guess[rows] == c) for c in (0, 1))]
            )
        )
        values["auroc"].append(auroc(p[rows, 1], y[rows]))
    for name, resampled in values.items():
        assert got[name] == pytest.approx(list(np.quantile(resampled, (0.025, 0.975)))), name


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    rng, inside = np.random.default_rng(0), 0
    for seed in range(200):
        hit = rng.random(150) < 0.8
        got = score(np.eye(2)[hit.astype(int)], np.ones(150, int), resamples=300, seed=seed)
        low, high = got["intervals"]["accuracy"]
        inside += low <= 0.8 <= high
    assert 180 <= inside <= 198


def test_a_perfect_score_does_not_claim_certainty():
    got = score(np.eye(2)[[0, 1] * 5], [0, 1] * 5)
    assert got["intervals"]["accuracy"] == pytest.approx([0.7225, 1], abs=1e-3)
    assert got["intervals"]["macro_f1"] is None
    assert wilson(8, 10) == pytest.approx([0.4902, 0.9433], abs=1e-4)


def test_calibration_error_by_hand():
    p = np.array([[0.9, 0.1]] * 4 + [[0.4, 0.6]] * 2)
    y = np.array([0, 0, 0, 1, 1, 0])
    assert ece(p, y, bins=10) == pytest.approx(4 / 6 * 0.15 + 2 / 6 * 0.1)
    assert [row["count"] for row in reliability(p, y, bins=10)] == [2, 4]


@pytest.mark.parametrize(
    ("p", "y", "message"),
    [
        (np.zeros((0, 2)), [], "at least 1"),
        ([[0.5, 0.5]], [2], "from 0 to 1"),
        ([[0.5, 0.5]], [0.5], "whole numbers"),
        ([[3.0, -1.0]], [0], "apply softmax"),
        ([[np.nan, 1.0]], [0], "NaN"),
        ([[0.5, 0.5]], [0, 1], "labels"),
    ],
)
def test_what_cannot_be_scored_says_why(p, y, message):
    with pytest.raises(MetricsError, match=message):
        score(p, np.asarray(y))
