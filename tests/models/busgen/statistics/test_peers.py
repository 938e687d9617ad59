"""Value by value against prdc, torchmetrics, scikit-learn and scikit-image: what `benchmarks/busgen_peers.py` wrote."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.busgen.statistics.auc import area, roc_curve
from models.busgen.statistics.calibration import brier_score, expected_calibration_error, recalibration, reliability
from models.busgen.statistics.frechet import frechet_distance
from models.busgen.statistics.kernel_distance import kernel_distance
from models.busgen.statistics.manifold import overlap
from models.busgen.statistics.operating import sensitivity_at
from models.busgen.statistics.texture import co_occurrence

PEERS: dict[str, Any] = json.loads((Path(__file__).parent / "peers.json").read_text())


def test_distances_are_those_of_torchmetrics():
    real, generated = (np.array(PEERS["sets"][which]) for which in ("real", "generated"))
    assert frechet_distance(real, generated) == pytest.approx(PEERS["sets"]["frechet"], rel=1e-10)
    assert kernel_distance(real[:40], generated, 3) == pytest.approx(PEERS["sets"]["kernel"], rel=1e-10)


@pytest.mark.parametrize("neighbours", ["1", "5"])
def test_overlap_is_that_of_prdc(neighbours: str):
    found = overlap(np.array(PEERS["sets"]["real"]), np.array(PEERS["sets"]["generated"]), int(neighbours))
    for name, share in PEERS["sets"]["prdc"][neighbours].items():
        assert getattr(found, name) == pytest.approx(share, rel=1e-12)


def test_curve_and_area_are_those_of_scikit_learn():
    peer = PEERS["scores"]
    roc = roc_curve(peer["probability"], peer["positive"])
    assert roc.false_positive_rate_T == pytest.approx(peer["false_positive_rate"], rel=1e-14)
    assert roc.true_positive_rate_T == pytest.approx(peer["true_positive_rate"], rel=1e-14)
    assert area(peer["probability"], peer["positive"]) == pytest.approx(peer["auc"], rel=1e-14)
    sensitivity = sensitivity_at(0.8, peer["probability"], peer["positive"])
    assert sensitivity == pytest.approx(peer["sensitivity_at_0.8"], rel=1e-6)


def test_calibration_is_that_of_scikit_learn_and_torchmetrics():
    peer = PEERS["scores"]
    case = peer["probability"], peer["positive"]
    assert brier_score(*case) == pytest.approx(peer["brier"], rel=1e-12)
    found = recalibration(*case, 0.95)
    assert found is not None
    assert found.slope.value == pytest.approx(peer["slope"], rel=1e-5)
    assert found.intercept.value == pytest.approx(peer["intercept"], abs=1e-5)
    error = expected_calibration_error(reliability(*case, 10, "width", 0.95))
    assert error == pytest.approx(peer["calibration_error_10"], rel=1e-6)


def test_co_occurrence_is_that_of_scikit_image():
    peer = PEERS["images"]
    found = co_occurrence(np.array(peer["pixels"]), peer["levels"])
    for name in ("contrast", "homogeneity", "energy", "correlation"):
        assert getattr(found, name) == pytest.approx(peer[name], rel=1e-10)
