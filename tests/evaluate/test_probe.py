import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from opsin.evaluate.probe import ProbeError, assign_folds, knn, probe


def blobs(n=300, d=20, k=3, spread=2.0, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(k, size=n)
    x = rng.normal(size=(k, d))[y] + spread * rng.normal(size=(n, d))
    return (x * rng.uniform(0.1, 30, d) + rng.normal(size=d) * 50).astype(np.float32), y


@pytest.mark.parametrize(("c", "balanced"), [(0.01, False), (1.0, False), (0.1, True)])
def test_the_fit_is_scikit_learns_and_folds_into_a_linear_layer(c, balanced):
    x, y = blobs()
    y[y == 2] = np.where(np.arange((y == 2).sum()) % 4, 0, 2)  # unequal classes
    ours = probe(x, y, strengths=[c], balanced=balanced)
    z = StandardScaler().fit_transform(x)
    theirs = LogisticRegression(C=c, class_weight="balanced" if balanced else None, max_iter=5000, tol=1e-8).fit(z, y)
    with torch.no_grad():
        got = ours.as_linear()(torch.from_numpy(x)).softmax(1).numpy()
    assert np.abs(got - theirs.predict_proba(z)).max() < 2e-3


def test_cross_validation_leaves_samples_out_and_chooses_the_strength():
    x, y = blobs(n=240, d=150, spread=8.0)
    got = probe(x, y)
    fold = assign_folds(y, 5, 0)
    left_out = np.zeros((240, 3))
    for f in range(5):
        scale = StandardScaler().fit(x[fold != f])
        fit = LogisticRegression(C=got.C, max_iter=5000, tol=1e-8).fit(scale.transform(x[fold != f]), y[fold != f])
        left_out[fold == f] = fit.predict_proba(scale.transform(x[fold == f]))
    assert np.abs(got.probabilities - left_out).max() < 0.01
    assert got.accuracy == pytest.approx((left_out.argmax(1) == y).mean(), abs=0.01)
    assert got.C < 1
    assert got.log_loss < probe(x, y, strengths=[1.0]).log_loss
    assert got.interval[0] < got.accuracy < got.interval[1]
    assert probe(x, y).as_dict() == got.as_dict()


def test_noise_gets_no_credit():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 50)), rng.integers(2, size=400)
    for accuracy in (probe(x, y).accuracy, knn(x, y)["accuracy"]):
        assert 0.4 < accuracy < 0.6


def test_groups_stay_together_and_classes_spread():
    rng = np.random.default_rng(0)
    groups = [f"patient {g}" for g in rng.integers(60, size=500)]
    y = rng.choice(3, size=500, p=[0.7, 0.2, 0.1])
    fold = assign_folds(y, 5, 0, groups)
    assert all(len(set(fold[np.array(groups) == g])) == 1 for g in set(groups))
    shares = np.array([[(y[fold == f] == c).mean() for c in range(3)] for f in range(5)])
    assert np.ptp(shares, 0).max() < 0.12
    alone = assign_folds(y, 5, 0)
    assert all(np.ptp([((y == c) & (alone == f)).sum() for f in range(5)]) <= 1 for c in range(3))


def test_groups_are_no_neighbours_of_themselves():
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(100, 30)), 4, 0) + 0.01 * rng.normal(size=(400, 30))
    y = np.repeat(rng.integers(2, size=100), 4)
    assert knn(x, y)["accuracy"] == 1
    assert knn(x, y, groups=np.repeat(np.arange(100), 4))["accuracy"] < 0.65


def test_neighbours_find_clusters():
    x, y = blobs(spread=0.3)
    got = knn((x - x.mean(0)) / x.std(0), y)
    assert got["accuracy"] > 0.95
    assert got["k"] == 20


@pytest.mark.parametrize(
    ("x", "y", "more", "message"),
    [
        (np.zeros((4, 2)), [0, 0, 0, 0], {}, "two classes"),
        (np.zeros((4, 2)), [0, 1], {}, "give"),
        (np.full((4, 2), np.nan), [0, 1, 0, 1], {}, "finite"),
        (np.zeros((4, 2)), [0, 1, 0, 1], {"folds": 5}, "5 folds of 4"),
        (np.zeros((4, 2)), [0, 1, 0, 1], {"groups": [1]}, "1 groups for 4"),
    ],
)
def test_what_cannot_be_probed_says_why(x, y, more, message):
    with pytest.raises(ProbeError, match=message):
        probe(x, np.array(y), **more)


def test_what_only_varies_by_rounding_has_no_weight():
    draw = np.random.default_rng(0)
    labels = np.arange(60) % 2
    x = np.stack([labels + draw.normal(0, 0.3, 60), 100 + 1e-5 * labels, np.full(60, 7.0)], 1).astype(np.float32)
    weight = probe(x, labels).weight
    assert (weight[:, 0] != 0).all()
    assert (weight[:, 1:] == 0).all()
