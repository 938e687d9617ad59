"""What is measured of a run: gaps, memberships, distances, and a diagnosis that can be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from models.busgen import measurement
from models.busgen.diagnosis.classifier import predict, read_classifier
from models.busgen.diffusion.denoiser import make_denoiser
from models.busgen.images.cases import Case
from models.busgen.images.dataset import Images, as_network_input
from models.busgen.measurement import Losses
from models.busgen.networks.conditions import OPEN, Conditions
from models.busgen.networks.conditions_config import ConditionsConfig
from models.busgen.optimal.curve import CONDITIONAL, UNCONDITIONAL, OptimalCurve
from models.busgen.tailor.combination import columns_of, design_of
from models.common.contract import World
from tests.models.busgen.pipeline import Run
from tests.models.rto.ppo_worlds import saved


def losses(train: list[float], optimal: list[float], untrained: list[float]) -> Losses:
    levels_S, nothing = np.arange(1.0, len(train) + 1), cast(Any, None)
    return Losses(
        levels_S=levels_S,
        train_S=np.array(train),
        errors_S=0 * levels_S,
        held_out_S=np.array(train),
        optimal_S=np.array(optimal),
        untrained_S=np.array(untrained),
        memorisation=nothing,
        membership=nothing,
    )


def written(images: Images, folder: Path) -> Path:
    folder.mkdir()
    images.write(folder)
    return folder


def test_the_gap_is_the_share_of_an_untrained_networks_that_is_left() -> None:
    # Level by level, in units of the untrained loss: left 0.2, 0.25; room 0.4, 0.75.
    assert losses([4.0, 2.0], [3.0, 1.0], [5.0, 4.0]).gap == pytest.approx(0.45 / 1.15)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_the_best_has_no_gap_and_an_untrained_network_all_of_it(scale: float) -> None:
    optimal, untrained = [3.0 * scale, 1.0], [5.0 * scale, 4.0]
    assert losses(optimal, optimal, untrained).gap == 0.0
    assert losses(untrained, optimal, untrained).gap == pytest.approx(1.0)


def test_an_untrained_network_is_the_best_that_knows_mean_and_variance_alone(tiny_run: Run) -> None:
    """min over a of E|a (x0 + s eps) - x0|^2 for pixels of that variance: searched for."""
    found = measurement.measure_losses(tiny_run.config.evaluation_stage, tiny_run.world)
    curve = OptimalCurve.read(tiny_run.world.inputs["optimal_loss"], CONDITIONAL)
    variance = curve.total_variance / curve.pixels
    a = np.linspace(0.0, 1.0, 20_001)
    for s, untrained in zip(found.levels_S, found.untrained_S, strict=True):
        searched = curve.pixels * ((1 - a) ** 2 * variance + a**2 * s**2).min()
        assert untrained == pytest.approx(searched, rel=1e-4)
    assert (found.optimal_S <= 1.02 * found.untrained_S).all(), "but for the error of its draws"
    assert found.levels_S[0] == pytest.approx(curve.levels_S[0])
    assert found.levels_S[-1] == pytest.approx(curve.levels_S[-1])


def test_the_loss_of_an_image_is_its_squared_error_told_its_class_alone(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generator that answers with c_skip x, as an EDM network of zeros does, has a loss in closed form:
    E|c_skip (x0 + s eps) - x0|^2 = (1 - c_skip)^2 |x0|^2 + c_skip^2 s^2 d,   c_skip = 0.25 / (s^2 + 0.25).
    """
    images = tiny_run.images
    rows = images.rows(split="validation")
    monkeypatch.setattr(measurement, "matched_rows", lambda *_: (rows, rows))
    found = measurement.measure_losses(tiny_run.config.evaluation_stage, zeros(tiny_run, tmp_path))
    validation = as_network_input(images.pixels_NHW[rows])
    squares = (validation**2).sum(axis=(1, 2, 3)).mean()
    skip_S = 0.25 / (found.levels_S**2 + 0.25)
    expected_S = (1 - skip_S) ** 2 * squares + skip_S**2 * found.levels_S**2 * validation[0].size
    np.testing.assert_allclose(found.held_out_S, expected_S, rtol=0.05)


@pytest.mark.parametrize(
    ("condition", "curve", "label_open", "device_open"),
    [
        ("none", UNCONDITIONAL, True, True),
        ("class", CONDITIONAL, False, True),
        ("class_and_device", CONDITIONAL, False, False),
    ],
)
def test_the_generator_is_told_what_the_optimal_loss_is_of(
    tiny_run: Run, monkeypatch: pytest.MonkeyPatch, condition: str, curve: str, label_open: bool, device_open: bool
) -> None:
    told: list[Conditions] = []

    def seen(denoise: Any, images: torch.Tensor, conditions: Conditions, levels: list[float], seed: int) -> np.ndarray:
        told.append(conditions)
        return np.ones((len(images), len(levels))) + np.arange(len(images))[:, None]

    monkeypatch.setattr(measurement, "level_losses", seen)
    stage = tiny_run.config.evaluation_stage.but(condition=condition)
    found = measurement.measure_losses(stage, tiny_run.world)
    optimal = OptimalCurve.read(tiny_run.world.inputs["optimal_loss"], curve)
    np.testing.assert_array_equal(found.optimal_S, optimal.at(found.levels_S))
    for one in told:
        assert bool((one.labels_B == OPEN).all()) == label_open
        assert bool((one.devices_B == OPEN).all()) == device_open
        assert not one.descriptors_BA.any()
        assert not one.mask_given_B.any()


def zeros(run: Run, folder: Path) -> World:
    denoiser = make_denoiser(run.config.generator)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.zero_()
    return run.but(pretraining=saved(denoiser, folder / "zeros", start_from=None))


def test_a_generator_that_learnt_nothing_does_not_tell_who_was_in_training(tiny_run: Run, tmp_path: Path) -> None:
    found = measurement.measure_losses(tiny_run.config.evaluation_stage, zeros(tiny_run, tmp_path))
    patients = found.membership.of_patients
    assert 0.0 < patients.low < 0.5 < patients.high < 1.0


def test_distances_are_told_by_three_extractors_for_both_generators(tiny_run: Run) -> None:
    found = measurement.measure_distances(tiny_run.config.evaluation_stage, tiny_run.world)
    for compared in (found.adapted, found.unadapted):
        assert list(compared) == ["probes", "classical", "random"]
        for name, one in compared.items():
            assert {f"FD-{name}", f"KD-{name}"} <= one.measures.keys()
            assert all(np.isfinite(value) for value in one.flat().values())
    assert found.adapted["probes"].measures != found.unadapted["probes"].measures
    again = measurement.unadapted_images(tiny_run.config.evaluation_stage, tiny_run.world, 16)
    np.testing.assert_array_equal(found.unadapted_shown.pixels_NHW, again.pixels_NHW)


def test_both_generators_are_asked_for_the_same(tiny_run: Run) -> None:
    """16 images are more than one shard of 12."""
    unadapted = measurement.unadapted_images(tiny_run.config.evaluation_stage, tiny_run.world, 16)
    adapted = {case.name: case for case in tiny_run.generated.cases}
    assert [case.name for case in unadapted.cases] == list(adapted)[:16]
    assert [adapted[case.name] for case in unadapted.cases] == list(unadapted.cases)
    np.testing.assert_array_equal(unadapted.masks_NHW, tiny_run.generated.masks_NHW[:16])


def test_real_images_in_place_of_generated_ones_are_at_their_floor(tiny_run: Run, tmp_path: Path) -> None:
    images = tiny_run.images
    test = images.take(images.rows(split="test", labels=("dcis", "benign"), classes=("dcis", "benign")))
    world = tiny_run.but(generated=written(test, tmp_path / "real"))
    stage = tiny_run.config.evaluation_stage.but(images=100)
    found = measurement.measure_distances(stage, world).adapted["random"].measures["FD-random"]
    assert (
        found.value < measurement.measure_distances(stage, tiny_run.world).adapted["random"].measures["FD-random"].value
    )
    assert found.value < 2 * found.floor


def test_a_generated_image_that_is_a_training_image_is_found(tiny_run: Run, tmp_path: Path) -> None:
    stage = tiny_run.config.evaluation_stage
    stage = stage.with_overrides({"generation.privacy.false_alarms": 0.02})
    generated = tiny_run.generated
    pixels = np.array(generated.pixels_NHW)
    few = tiny_run.few()[0]
    pixels[5] = tiny_run.images.pixels_NHW[few]
    world = tiny_run.but(generated=written(replace(generated, pixels_NHW=pixels), tmp_path / "copied"))
    found = measurement.search_for_copies(stage, world).by_pixels
    before = measurement.search_for_copies(stage, tiny_run.world).by_pixels
    assert set(found.copies) - set(before.copies) == {5}
    assert found.generated.distance_N[5] < 1e-3
    assert found.planted == stage.generation.privacy.plant.copies


def test_the_diagnosis_by_descriptors_adds_up(tiny_run: Run) -> None:
    """Against the columns and weights themselves, one image at a time."""
    world = tiny_run.world
    found = measurement.explain_diagnosis(tiny_run.config.evaluation_stage, world)
    images = tiny_run.images
    rows = measurement.test_rows(images, "dcis", "benign")
    told = predict(read_classifier(world.inputs["probes"], world.device), images.pixels_NHW[rows])
    columns = columns_of(tiny_run.config.conditions.descriptors, overall=True)
    assert list(found.weights) == [f"{column.attribute} {column.value}".strip() for column in columns]
    raw_N = design_of(told, columns) @ np.array(list(found.weights.values()))
    offset_N = np.array(found.logits) - raw_N
    np.testing.assert_allclose(offset_N, offset_N[0], atol=1e-9)
    for logit, one in zip(found.logits, found.explanations, strict=True):
        assert one.logit == pytest.approx(logit)
        assert one.baseline + sum(one.contributions.values()) == pytest.approx(logit)
    assert found.probes_right.keys() == set(tiny_run.config.conditions.descriptors)


def test_the_diagnosis_is_fitted_to_validation_alone(tiny_run: Run, tmp_path: Path) -> None:
    stage = tiny_run.config.evaluation_stage
    before = measurement.explain_diagnosis(stage, tiny_run.world)
    for split, changes in (("test", False), ("pretrain", False), ("few_shot", False), ("validation", True)):
        world = tiny_run.but(images=written(_with_noise(tiny_run.images, split), tmp_path / split))
        after = measurement.explain_diagnosis(stage, world)
        assert (after.weights != before.weights) == changes, split
        assert (after.logits != before.logits) == (changes or split == "test"), split


def _with_noise(images: Images, split: str) -> Images:
    """Other pixels in this split."""
    pixels = np.array(images.pixels_NHW)
    rows = images.rows(split=split)
    pixels[rows] = np.random.default_rng(1).integers(0, 256, pixels[rows].shape, dtype=np.uint8)
    return replace(images, pixels_NHW=pixels)


def test_the_labels_of_the_test_change_nothing_in_the_diagnosis(tiny_run: Run, tmp_path: Path) -> None:
    images = tiny_run.images
    other = {"dcis": ("benign", ""), "benign": ("malignant", "dcis")}
    cases = [
        replace(case, pathology=new[0], subtype=new[1])
        if case.split == "test" and (new := other.get(case.label(("dcis", "benign"))))
        else case
        for case in images.cases
    ]
    world = tiny_run.but(images=written(replace(images, cases=tuple(cases)), tmp_path / "swapped"))
    stage = tiny_run.config.evaluation_stage
    before, after = (measurement.explain_diagnosis(stage, one) for one in (tiny_run.world, world))
    assert before.logits == after.logits
    assert before.weights == after.weights


def test_losses_are_of_the_training_s_shares_of_each_class_in_both_splits() -> None:
    counts = {("pretrain", "benign"): 40, ("pretrain", "malignant"): 20, ("pretrain", "normal"): 4}
    counts |= {("validation", "benign"): 30, ("validation", "malignant"): 5, ("validation", "normal"): 4}
    cases = tuple(
        Case(
            name=f"{split}{label}{number}", source="s", patient=f"{split}{label}{number}", pathology=label, split=split
        )
        for (split, label), count in counts.items()
        for number in range(count)
    )
    blank = np.zeros((len(cases), 4, 4), np.uint8)
    images = Images(blank, blank, cases, {})
    for most, of_each in ((100, [10, 5, 1]), (8, [5, 2, 1])):
        found = measurement.matched_rows(images, ConditionsConfig(), most, np.random.default_rng(0))
        for rows, split in zip(found, ("pretrain", "validation"), strict=True):
            assert {cases[row].split for row in rows} == {split}
            labels = [cases[row].pathology for row in rows]
            assert [labels.count(label) for label in ("benign", "malignant", "normal")] == of_each
            assert len(set(rows)) == len(rows)
