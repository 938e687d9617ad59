"""Random fields against the covariance that they promise."""

import math

import numpy as np
import pytest

from models.busgen.phantom.fields import draw_curve, draw_field


@pytest.mark.parametrize(("length_z", "length_x"), [(2.0, 2.0), (0.7, 5.0)])
def test_a_fields_covariance_is_gaussian_in_both_directions(length_z: float, length_x: float):
    rng = np.random.default_rng(0)
    z, x = np.array([10.0, 10.0 + length_z]), np.array([-3.0, -3.0 + 1.5 * length_x])
    values = np.array([draw_field(rng, length_z, length_x).at(z, x).ravel() for _ in range(1500)])
    down, along = math.exp(-0.5), math.exp(-(1.5**2) / 2)
    expected = np.kron([[1, down], [down, 1]], [[1, along], [along, 1]])
    assert np.cov(values.T) == pytest.approx(expected, abs=0.12)
    assert values.mean(axis=0) == pytest.approx(np.zeros(4), abs=0.1)


def test_places_far_apart_have_nothing_to_do_with_each_other():
    rng = np.random.default_rng(4)
    here, far = np.array([draw_curve(rng, 5.0).at(np.zeros(1), np.array([0.0, 40.0]))[0] for _ in range(4000)]).T
    assert np.mean(here * far) == pytest.approx(0.0, abs=0.05)
    assert np.mean(here**2) == pytest.approx(1.0, abs=0.1)


def test_a_field_read_elsewhere_is_the_same_field_moved():
    field = draw_field(np.random.default_rng(1), 1.0, 3.0)
    z, x = np.arange(0, 20, 0.5), np.arange(-10, 10, 0.5)
    assert field.at(z + 2.0, x + 1.5)[:-4, :-3] == pytest.approx(field.at(z, x)[4:, 3:], abs=1e-3)


def test_a_plane_far_off_is_another_field_and_a_near_one_nearly_the_same():
    rng = np.random.default_rng(2)
    z, x = np.arange(0, 60, 1.0), np.arange(0, 60, 1.0)
    field = draw_field(rng, 2.0, 2.0)
    here = field.at(z, x).ravel()
    near, far = field.at(z, x, 0.2).ravel(), field.at(z, x, math.pi).ravel()
    assert np.corrcoef(here, near)[0, 1] == pytest.approx(math.cos(0.1), abs=0.02)
    assert abs(np.corrcoef(here, far)[0, 1]) < 0.2


def test_a_curve_is_the_same_at_all_depths():
    curve = draw_curve(np.random.default_rng(3), 6.0)
    values = curve.at(np.array([0.0, 17.0]), np.arange(-10.0, 10.0))
    assert np.array_equal(values[0], values[1])
    assert values.std() > 0
