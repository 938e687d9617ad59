"""Lesions against the words of their descriptors, measured on what was drawn."""

import numpy as np
import pytest

from models.busgen.images.descriptors import DESCRIPTORS
from models.busgen.phantom.lesions import ANGLES, LARGEST_MM, SMALLEST_MM, Lesion, draw_lesion

PLAIN = {name: values[0] for name, values in DESCRIPTORS.items()} | {"echo_pattern": "hypoechoic"}
ANGLE_A = np.arange(ANGLES) * (2 * np.pi / ANGLES)


def lesions(count: int = 40, **descriptors: str) -> list[Lesion]:
    return [draw_lesion({**PLAIN, **descriptors}, np.random.default_rng([7, seed])) for seed in range(count)]


def roughness(lesion: Lesion) -> float:
    """Perimeter^2 / (4 pi area) of the outline's polygon: 1 for a circle."""
    x, y = lesion.radius_A * np.cos(ANGLE_A), lesion.radius_A * np.sin(ANGLE_A)
    perimeter = np.hypot(np.diff(x, append=x[0]), np.diff(y, append=y[0])).sum()
    area = np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)) / 2
    return perimeter**2 / (4 * np.pi * area)


def width_over_height(lesion: Lesion) -> float:
    return np.ptp(lesion.radius_A * np.cos(ANGLE_A)) / np.ptp(lesion.radius_A * np.sin(ANGLE_A))


def diameter(lesion: Lesion) -> float:
    return float((lesion.radius_A + np.roll(lesion.radius_A, ANGLES // 2)).max())


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_every_value_of_a_descriptor_is_drawn_in_sizes_that_say_nothing_of_it(name: str):
    sizes = np.array([[diameter(one) for one in lesions(8, **{name: value})] for value in DESCRIPTORS[name]])
    assert sizes.min() >= SMALLEST_MM
    assert sizes.max() <= LARGEST_MM
    assert sizes == pytest.approx(np.broadcast_to(sizes[0], sizes.shape))
    assert sizes[0].std() > 1.0


def test_parallel_lesions_are_wider_than_tall_and_others_taller_than_wide():
    for shape in ("oval", "irregular"):
        parallel = [width_over_height(one) for one in lesions(shape=shape)]
        upright = [width_over_height(one) for one in lesions(shape=shape, orientation="not_parallel")]
        assert np.mean(np.array(parallel) > 1) >= 0.85
        assert np.mean(np.array(upright) < 1) >= 0.85
    assert np.mean([width_over_height(one) for one in lesions(shape="round")]) == pytest.approx(1.0, abs=0.15)


def test_only_a_circumscribed_or_an_indistinct_outline_is_smooth():
    smooth = np.mean([roughness(one) for one in lesions(shape="round")])
    assert smooth < 1.05
    assert np.mean([roughness(one) for one in lesions(shape="round", margin="indistinct")]) == pytest.approx(
        smooth, abs=0.02
    )
    for margin in ("microlobulated", "angular", "spiculated"):
        assert np.mean([roughness(one) for one in lesions(shape="round", margin=margin)]) > smooth + 0.1


def test_an_indistinct_border_is_the_widest():
    indistinct = min(one.half_width_mm for one in lesions(margin="indistinct"))
    others = (margin for margin in DESCRIPTORS["margin"] if margin != "indistinct")
    assert all(one.half_width_mm < indistinct for margin in others for one in lesions(margin=margin))


def test_calcifications_lie_where_the_descriptor_says():
    def share_of_radius(lesion: Lesion) -> np.ndarray:
        x, z = lesion.calcifications_P2.T
        angle = np.rint(np.arctan2(z, x) * ANGLES / (2 * np.pi)).astype(int) % ANGLES
        return np.hypot(x, z) / lesion.radius_A[angle]

    assert all(len(one.calcifications_P2) == 0 for one in lesions())
    assert all(share_of_radius(one).max() < 1 for one in lesions(calcifications="in_mass"))
    assert all(share_of_radius(one).min() > 1 for one in lesions(calcifications="outside_mass"))
    ducted = lesions(calcifications="intraductal")
    assert all(len(one.ducts) == 2 for one in ducted)
    for lesion in ducted:
        ways = np.array([[np.cos(duct.angle), np.sin(duct.angle)] for duct in lesion.ducts])
        beside = np.abs(lesion.calcifications_P2 @ np.stack([-ways[:, 1], ways[:, 0]])).min(axis=1)
        assert np.all(beside <= max(duct.half_width_mm for duct in lesion.ducts))


def test_attenuation_is_more_than_tissues_for_shadowing_and_less_for_enhancement():
    assert all(min(one.alpha_first, one.alpha_second) > 1.0 for one in lesions(posterior="shadowing"))
    assert all(max(one.alpha_first, one.alpha_second) < 0.6 for one in lesions(posterior="enhancement"))
    both = [sorted((one.alpha_first, one.alpha_second)) for one in lesions(posterior="combined")]
    assert all(low < 0.6 and high > 1.0 for low, high in both)
