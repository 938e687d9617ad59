"""Generated sets beside real ones: the floor of real against real, and what lies above it."""

import numpy as np
import pytest

from models.busgen.statistics.comparison import compare, standardised
from models.busgen.statistics.frechet import frechet_distance
from models.busgen.statistics_config import DistancesConfig
from models.common.errors import DataError

CONFIG = DistancesConfig(repeats=6, neighbours=3)


def drawn(seed: int, images: int, features: int = 6, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((images, features)) + shift


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_generator_of_the_true_distribution_stands_at_the_floor():
    found = compare("toy", drawn(0, 200), drawn(1, 150), CONFIG, rng())
    assert found.images_a_side == 100
    assert set(found.measures) == {f"{name}-toy" for name in ("FD", "KD", "precision", "recall", "density", "coverage")}
    for measured in found.measures.values():
        spread = np.hypot(measured.error, measured.floor_error)
        assert abs(measured.value - measured.floor) < 4 * spread
    assert abs(found.kernel) < 4 * found.kernel_error


def test_a_shifted_generator_stands_above_it():
    found = compare("toy", drawn(0, 200), drawn(1, 200, shift=1.0), CONFIG, rng())
    fd, kd = found.measures["FD-toy"], found.measures["KD-toy"]
    assert fd.value - fd.floor == pytest.approx(6.0, rel=0.25)  # six features, each off by one deviation
    assert kd.value > kd.floor + 5 * kd.floor_error
    assert found.frechet_at_infinity == pytest.approx(6.0, rel=0.25)


def test_the_same_random_numbers_give_the_same_numbers_under_plain_names():
    flat = [compare("toy", drawn(0, 60), drawn(1, 40), CONFIG, rng()).flat() for _ in range(2)]
    assert flat[0] == flat[1]
    assert {"FD-toy", "FD-toy_floor", "FD-toy_error", "KD-toy_all", "FD-toy_at_infinity"} <= set(flat[0])
    assert not [name for name in flat[0] if "FID" in name]


def test_units_of_a_feature_do_not_matter_where_it_is_standardised():
    units = np.array([1e-3, 1.0, 1e4, 1.0, 1.0, 50.0])
    plain, scaled = (compare("toy", drawn(0, 60) * by, drawn(1, 40) * by, CONFIG, rng()) for by in (1.0, units))
    assert scaled.measures["FD-toy"].value == pytest.approx(plain.measures["FD-toy"].value, rel=1e-9)
    raw = compare("toy", drawn(0, 60) * units, drawn(1, 40) * units, CONFIG.but(standardise=False), rng())
    assert raw.measures["FD-toy"].value > 1e3


def test_a_feature_that_the_real_images_do_not_vary_in_stays_as_it_is():
    real, generated = drawn(0, 20), drawn(1, 20)
    real[:, 2], generated[:, 2] = 0.1, 0.4
    scaled = standardised(real, generated)
    assert scaled[1][:, 2] == pytest.approx(0.3)
    assert scaled[0].std(axis=0) == pytest.approx([1, 1, 0, 1, 1, 1])
    moved = standardised(real, real + 2 * real.std(axis=0))[1]
    assert moved.mean(axis=0)[[0, 1, 3]] == pytest.approx(2.0)


def test_halves_by_patient_lift_the_floor_where_images_of_a_patient_are_alike():
    patients = np.repeat(np.arange(20), 10)
    real = drawn(0, 20)[patients] + 0.05 * drawn(1, 200)
    names = [f"patient {number}" for number in patients]
    apart = compare("toy", real, drawn(2, 100), CONFIG, rng(), patients_N=names).measures["FD-toy"]
    mixed = compare("toy", real, drawn(2, 100), CONFIG, rng()).measures["FD-toy"]
    assert apart.floor > 3 * mixed.floor


def test_distances_are_of_as_many_images_a_side_as_the_floor():
    real, generated = drawn(0, 40), drawn(1, 300)
    found = compare("toy", real, generated, CONFIG.but(standardise=False), rng())
    assert found.images_a_side == 20
    assert found.measures["FD-toy"].value > frechet_distance(real, generated)  # with few images it is larger


def test_too_few_images_are_refused():
    with pytest.raises(DataError, match="3 images a side"):
        compare("toy", drawn(0, 50), drawn(1, 3), CONFIG, rng())
    with pytest.raises(DataError, match="50 real images of 2 patients"):
        compare("toy", drawn(0, 50), drawn(1, 30), CONFIG, rng(), patients_N=["a", "b"])
