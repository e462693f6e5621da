"""How good frozen features are: linear probe and nearest neighbours, cross-validated, with 95 % intervals."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from opsin.errors import OpsinError
from opsin.evaluate.metrics import Floats, Ints, score

NOISE = 1e-4
"""Of a feature's mean: a feature that varies less says nothing, as float32 carries seven digits."""

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


class ProbeError(OpsinError, ValueError):
    """Features that cannot be probed."""


@dataclass(frozen=True)
class Probe:
    """A fitted linear probe and what cross-validation says of it.

    `accuracy`, `balanced_accuracy` and their 95 % intervals come from the probabilities (N, K) that each sample got
    while it was left out; `C` is the inverse regularisation (scikit-learn's), chosen by the same left-out log loss,
    which flatters the figures by little as it chooses among six. `weight` (K, D) and `bias` (K,) act on raw features.
    """

    accuracy: float
    interval: list[float] | None
    balanced_accuracy: float
    balanced_interval: list[float] | None
    log_loss: float
    C: float
    probabilities: Floats
    weight: Tensor
    bias: Tensor

    def as_linear(self) -> nn.Linear:
        """The probe, standardisation included, as a classifier of raw features (N, D) -> logits (N, K)."""
        classes, dim = self.weight.shape
        linear = nn.Linear(dim, classes)
        with torch.no_grad():
            linear.weight.copy_(self.weight)
            linear.bias.copy_(self.bias)
        return linear

    def as_dict(self) -> dict[str, Any]:
        """The figures, ready for JSON."""
        names = ("accuracy", "interval", "balanced_accuracy", "balanced_interval", "log_loss", "C")
        return {name: getattr(self, name) for name in names}


def probe(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    classes: int | None = None,
    folds: int = 5,
    seed: int = 0,
    groups: Sequence[Any] | None = None,
    balanced: bool = False,
    strengths: Sequence[float] = STRENGTHS,
) -> Probe:
    """Multinomial logistic regression with an L2 penalty on standardised features (N, D), labels (N,).

    Folds keep the shares of classes, and samples of one group (a patient, say) on one side. `balanced` weighs classes
    alike. The final weights are fitted on all samples. Raises ProbeError.
    """
    x, y = _checked(features, labels)
    k = classes or int(y.max()) + 1
    fold = assign_folds(y, folds, seed, groups)
    parts = [fold == f for f in range(folds) if (fold == f).any()]
    paths = [_path(x[~part], y[~part], k, strengths, balanced) for part in parts]
    left_out, losses = [], [np.inf]
    for fits in zip(*paths):
        left_out.append(np.zeros((len(y), k)))
        for part, (weight, bias) in zip(parts, fits):
            left_out[-1][part] = (x[part] @ weight.T + bias).double().softmax(1).numpy()
        losses.append(float(-np.log(np.maximum(left_out[-1][np.arange(len(y)), y], 1e-15)).mean()))
        if losses[-1] > losses[-2]:  # weaker penalties take longest, and only do worse from here on
            break
    best = int(np.argmin(losses)) - 1
    *_, (weight, bias) = _path(x, y, k, strengths[: best + 1], balanced)
    figures = score(left_out[best], y, seed=seed)
    within = figures["intervals"]
    return Probe(
        figures["accuracy"],
        within["accuracy"],
        figures["balanced_accuracy"],
        within["balanced_accuracy"],
        figures["log_loss"],
        float(strengths[best]),
        left_out[best],
        weight,
        bias,
    )


def refitted(found: Probe, features: ArrayLike, labels: ArrayLike, strength: float) -> Probe:
    """A probe with the figures of `found` and the weights of another fit: more features of the same pictures."""
    x, y = _checked(features, labels)
    weight, bias = next(_path(x, y, len(found.bias), (strength,), False))
    return replace(found, weight=weight, bias=bias)


def knn(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    k: int = 20,
    temperature: float = 0.07,
    groups: Sequence[Any] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Accuracy of the k nearest neighbours by cosine, each sample left out in turn, with its 95 % interval.

    Neighbours vote with weight exp(cosine / temperature) (Wu et al., 2018, arXiv:1805.01978); none is of the sample's
    own group. Returns `accuracy`, `interval`, `balanced_accuracy`, `balanced_interval`, `k`. Raises ProbeError.
    """
    x, y = _checked(features, labels)
    own = np.arange(len(y)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    x, ids, truth = F.normalize(x, dim=1), torch.from_numpy(own), torch.from_numpy(y)
    k, votes = min(k, len(y) - 1), []
    for start in range(0, len(y), 1024):
        rows = torch.arange(start, min(start + 1024, len(y)))
        cosine = (x[rows] @ x.T).masked_fill(ids[rows, None] == ids, -torch.inf)
        near, which = cosine.topk(k)
        weight = ((near - near[:, :1].clamp(min=-1)) / temperature).exp()
        votes.append(torch.zeros(len(rows), int(y.max()) + 1).scatter_add_(1, truth[which], weight))
    total = torch.cat(votes).double() + 1e-12
    figures = score((total / total.sum(1, keepdim=True)).numpy(), y, seed=seed)
    return {
        "accuracy": figures["accuracy"],
        "interval": figures["intervals"]["accuracy"],
        "k": k,
        "balanced_accuracy": figures["balanced_accuracy"],
        "balanced_interval": figures["intervals"]["balanced_accuracy"],
    }


def assign_folds(labels: Ints, folds: int, seed: int, groups: Sequence[Any] | None = None) -> Ints:
    """The fold of each sample, (N,): shares of classes alike, groups undivided, the same for the same seed."""
    if groups is not None and len(groups) != len(labels):
        raise ProbeError(f"{len(groups)} groups for {len(labels)} samples: give one a sample")
    _, group = np.unique(np.arange(len(labels)) if groups is None else np.asarray(groups), return_inverse=True)
    if not 2 <= folds <= group.max() + 1:
        raise ProbeError(f"{folds} folds of {group.max() + 1} groups or samples: take from 2 to as many as there are")
    kinds = int(labels.max()) + 1
    table = np.bincount(group * kinds + labels, minlength=(group.max() + 1) * kinds).reshape(-1, kinds)
    order = np.random.default_rng(seed).permutation(len(table))
    order = order[np.argsort(-table[order].max(1), kind="stable")]  # large groups first: the small ones even out
    filled, fold = np.zeros((folds, kinds)), np.zeros(len(table), np.int64)
    rarity = 1 / np.maximum(table.sum(0), 1)
    for g in order:
        crowding = (filled * table[g] * rarity).sum(1) + 1e-6 * filled.sum(1)
        fold[g] = crowding.argmin()
        filled[fold[g]] += table[g]
    return fold[group]


def _checked(features: ArrayLike, labels: ArrayLike) -> tuple[Tensor, Ints]:
    x: NDArray[np.float32] = np.asarray(features, np.float32)
    y = np.asarray(labels)
    if x.ndim != 2 or y.shape != x.shape[:1] or not np.issubdtype(y.dtype, np.integer) or len(np.unique(y)) < 2:
        raise ProbeError(
            f"features {x.shape} and labels {y.shape} of {y.dtype}: give (N, D) and (N,) whole numbers "
            "of at least two classes"
        )
    if y.min() < 0 or not np.isfinite(x).all():
        raise ProbeError("features must be finite and labels at least 0")
    return torch.from_numpy(x), y.astype(np.int64)


def _path(
    x: Tensor, y: Ints, classes: int, strengths: Sequence[float], balanced: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Weight (K, D) and bias (K,) on raw features for each C, each fit starting from the one before."""
    mean, std = x.mean(0), x.std(0, correction=0)
    std = torch.where(std > NOISE * mean.abs() + 1e-6 * std.max(), std, torch.inf)
    z, truth = (x - mean) / std, torch.from_numpy(y)
    basis = None
    if len(z) < z.shape[1]:  # weights that are held back lie in the space of the samples: fewer numbers, equal answers
        basis, seen = torch.linalg.qr(z.T)
        z = seen.T.contiguous()
    tally = torch.bincount(truth, minlength=classes).float()
    emphasis = (len(y) / (tally.count_nonzero() * tally.clamp(min=1)) if balanced else torch.ones(classes))[truth]
    w = torch.zeros(classes, z.shape[1] + 1, requires_grad=True)
    for c in strengths:
        _minimise(w, z, truth, emphasis, 1 / (c * len(y)))
        weight = (w.detach()[:, :-1] if basis is None else w.detach()[:, :-1] @ basis.T) / std
        yield weight, w.detach()[:, -1] - weight @ mean


def _minimise(w: Tensor, z: Tensor, truth: Tensor, emphasis: Tensor, penalty: float) -> None:
    optimiser = torch.optim.LBFGS(
        [w], max_iter=200, tolerance_grad=1e-6, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits = torch.addmm(w[:, -1], z, w[:, :-1].T)
        value = (emphasis * F.cross_entropy(logits, truth, reduction="none")).mean()
        value = value + 0.5 * penalty * w[:, :-1].square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimiser.step(loss)
