import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from opsin.evaluate.calibrate import COOLEST, calibrate, fit_temperature
from opsin.evaluate.metrics import softmax


def overconfident(n=4000, k=4, factor=3.0, seed=0):
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(n, k)) * 2
    y = (softmax(honest).cumsum(1) < rng.random((n, 1))).sum(1).clip(max=k - 1)
    return factor * honest, y


@pytest.mark.parametrize("factor", [0.2, 1.0, 3.0])
def test_the_temperature_is_the_minimum_and_recovers_the_factor(factor):
    z, y = overconfident(factor=factor)
    found = fit_temperature(z, y)
    best = minimize_scalar(
        lambda t: log_loss(y, softmax(z / t)), bounds=(0.05, 20), method="bounded", options={"xatol": 1e-8}
    ).x
    assert found == pytest.approx(best, rel=1e-4)
    assert found == pytest.approx(factor, rel=0.1)


def test_calibration_error_falls_and_answers_stay():
    z, y = overconfident()
    got = calibrate(z[:2000], y[:2000], z[2000:], y[2000:])
    assert got["before"]["ece"] > 0.1
    assert got["after"]["ece"] < 0.04
    assert got["after"]["log_loss"] < got["before"]["log_loss"]
    assert sum(row["count"] for row in got["after"]["reliability"]) == 2000


def test_separable_and_constant_logits_stay_in_bounds():
    assert COOLEST <= fit_temperature(np.eye(3) * 9, [0, 1, 2]) < 0.5
    assert np.isfinite(fit_temperature(np.zeros((5, 3)), [0, 1, 2, 0, 1]))
