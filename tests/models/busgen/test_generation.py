"""Generated images: whoever makes them, of what was asked, and none too near to a real one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.busgen.diagnosis.classifier import ClassifierLearner
from models.busgen.diagnosis_config import DiagnosisNetworkConfig
from models.busgen.diffusion.generator import read_generator
from models.busgen.generation import Maker, make_maker
from models.busgen.images.dataset import Images, joined
from models.common.weights import load_weights
from tests.models.busgen.pipeline import Run

TASK = ("dcis", "benign")
CPU = torch.device("cpu")


def maker_of(run: Run, *, adapted: bool = True, draw: int = 0, seed: int = 3) -> Maker:
    stage = run.config.draw_stage(draw).generation
    inputs = run.world.inputs
    adapter = inputs["adaptation"] if adapted else None
    return make_maker(stage, replace(run.world, seed=seed), inputs["pretraining"], adapter)


def test_the_order_of_shards_changes_nothing(tiny_run: Run, tmp_path: Path) -> None:
    stage = tiny_run.config.generation_stage
    shards = stage.shards(tiny_run.world.inputs)
    assert sum(shard["count"] for shard in shards) == stage.images
    assert len(shards) > 1
    backwards = [stage.process(shard, tiny_run.world) for shard in reversed(shards)]
    stage.collect(backwards[::-1], tiny_run.world.inputs, tmp_path)
    for file in tmp_path.iterdir():
        assert file.read_bytes() == (tiny_run.world.inputs["generated"] / file.name).read_bytes()


def test_a_shard_that_is_not_full_takes_the_rest(tiny_run: Run) -> None:
    shards = tiny_run.config.generation_stage.but(images=25, images_at_once=10).shards({})
    numbers = [number for shard in shards for number in range(shard["first"], shard["first"] + shard["count"])]
    assert numbers == list(range(25))


def test_an_image_depends_on_seed_and_draw_alone(tiny_run: Run) -> None:
    one, again, other_draw, other_seed = (
        maker.make(12, 4).pixels_NHW
        for maker in (maker_of(tiny_run), maker_of(tiny_run), maker_of(tiny_run, draw=1), maker_of(tiny_run, seed=4))
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other_draw)
    assert not np.array_equal(one, other_seed)


def test_labels_take_turns(tiny_run: Run) -> None:
    cases = tiny_run.generated.cases
    assert [case.label(TASK) for case in cases] == [TASK[int(case.name) % 2] for case in cases]
    assert {case.pathology for case in cases if case.subtype == "dcis"} == {"malignant"}
    assert len({case.patient for case in cases}) == len(cases)
    assert {case.source for case in cases} == {"generated"}


def test_an_image_is_asked_for_in_words_that_real_images_had(tiny_run: Run) -> None:
    """The few, and of the rare label the class that it is a kind of; never an image of validation or test."""
    conditions, images = tiny_run.config.conditions, tiny_run.images
    learnt = [images.cases[row] for row in tiny_run.few()]
    learnt += [case for case in images.cases if case.split == "pretrain" and case.pathology == "malignant"]
    seen = {(case.pathology, name, value) for case in learnt for name, value in case.descriptors.items()}
    for case in tiny_run.generated.cases:
        assert case.device in conditions.devices
        assert {(case.pathology, name, value) for name, value in case.descriptors.items()} <= seen


def test_a_mask_lies_in_its_box(tiny_run: Run) -> None:
    images = tiny_run.generated
    side = images.side
    for case, mask_HW in zip(images.cases, images.masks_NHW, strict=True):
        [box] = case.boxes
        rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
        assert box.top * side - 1 < rows[0] <= rows[-1] < box.bottom * side + 1e-9
        assert box.left * side - 1 < columns[0] <= columns[-1] < box.right * side + 1e-9
        area = (box.right - box.left) * (box.bottom - box.top) * side**2
        assert mask_HW.sum() / 255 == pytest.approx(np.pi / 4 * area, rel=0.15), "an ellipse"


def test_images_that_are_too_near_are_drawn_anew(tiny_run: Run) -> None:
    maker = maker_of(tiny_run)
    free = replace(maker, threshold=0.0).make(0, 12)
    assert free.dropped == 0
    near_N = maker.index.nearest(free.pixels_NHW).distance_N
    threshold = float(np.median(near_N))
    strict = replace(maker, threshold=threshold).make(0, 12)
    numbers = [int(case.name) for case in strict.cases]
    assert maker.index.nearest(strict.pixels_NHW).distance_N.min() >= threshold
    for number, image_HW in zip(numbers, strict.pixels_NHW, strict=True):
        assert np.array_equal(image_HW, free.pixels_NHW[number]) == (near_N[number] >= threshold)
        assert strict.cases[numbers.index(number)] == free.cases[number], "what was asked for stays"
    assert strict.dropped >= (near_N < threshold).sum()
    assert set(np.flatnonzero(near_N >= threshold)) <= set(numbers)


def test_what_is_left_out_takes_its_mask_and_case_with_it(tiny_run: Run) -> None:
    maker = maker_of(tiny_run)
    free = replace(maker, threshold=0.0).make(0, 12)
    near_N = maker.index.nearest(free.pixels_NHW).distance_N
    threshold = float(np.median(near_N))
    once = replace(maker, threshold=threshold, config=maker.config.but(most_redrawn=0)).make(0, 12)
    kept = np.flatnonzero(near_N >= threshold)
    assert 0 < len(kept) < 12
    assert once.cases == tuple(free.cases[row] for row in kept)
    assert np.array_equal(once.pixels_NHW, free.pixels_NHW[kept])
    assert np.array_equal(once.masks_NHW, free.masks_NHW[kept])
    assert once.dropped == 12 - len(kept)


def test_what_is_too_near_in_every_round_is_left_out_and_counted(tiny_run: Run, tmp_path: Path) -> None:
    stage = tiny_run.config.generation_stage
    maker = replace(maker_of(tiny_run), threshold=9.0)
    part = maker.make(0, 5)
    assert len(part.cases) == len(part.pixels_NHW) == len(part.masks_NHW) == 0
    assert part.dropped == 5 * (1 + stage.most_redrawn)
    stage.collect([part, replace(maker, threshold=0.0).make(12, 12)], {}, tmp_path)
    images = Images.read(tmp_path)
    assert [int(case.name) for case in images.cases] == list(range(12, 24))
    assert images.audit == {"asked": stage.images, "kept": 12, "dropped": 5 * (1 + stage.most_redrawn), "draw": 0}


def test_the_threshold_is_one_that_so_few_real_images_come_below(tiny_run: Run) -> None:
    """All training images against those of other patients, one by one."""
    stage = tiny_run.config.generation_stage
    images = tiny_run.images
    few = images.take(tiny_run.few())
    maker, real = maker_of(tiny_run), joined(images.take(images.rows(split="pretrain")), few)
    found = maker.index.nearest(real.pixels_NHW, [f"{case.source}/{case.patient}" for case in real.cases])
    assert (found.distance_N < maker.threshold).mean() <= stage.privacy.false_alarms
    assert (found.distance_N <= maker.threshold).sum() >= 1


def test_an_unadapted_generator_takes_a_new_class_for_its_parent(tiny_run: Run) -> None:
    classes = tiny_run.config.conditions.classes
    weights = load_weights(tiny_run.world.inputs["pretraining"])
    tables = {name: value for name, value in weights.items() if name.endswith("labels.weight")}
    assert tables
    made = dict(maker_of(tiny_run, adapted=False).denoiser.named_parameters())
    dcis, malignant = classes.index("dcis") + 1, classes.index("malignant") + 1
    for name, value in tables.items():
        assert not torch.equal(value[dcis], value[malignant]), "untrained, as pretraining saw none"
        assert torch.equal(made[name][dcis], value[malignant])
        assert torch.equal(made[name][malignant], value[malignant])


def test_an_adapter_changes_the_images_and_not_what_is_asked_for(tiny_run: Run) -> None:
    adapted, unadapted = (replace(maker_of(tiny_run, adapted=which), threshold=0.0) for which in (True, False))
    one, other = adapted.make(0, 6), unadapted.make(0, 6)
    assert one.cases == other.cases
    assert np.array_equal(one.masks_NHW, other.masks_NHW)
    assert not np.array_equal(one.pixels_NHW, other.pixels_NHW)
    generator = read_generator(
        tiny_run.config.generator, tiny_run.world.inputs["pretraining"], tiny_run.world.inputs["adaptation"], CPU
    )
    ours = dict(adapted.denoiser.named_parameters())
    assert all(torch.equal(value, ours[name]) for name, value in generator.named_parameters())


def test_generated_images_are_a_dataset_that_a_classifier_learns_from(tiny_run: Run) -> None:
    network = DiagnosisNetworkConfig(width=4, stages=1, features=4)
    stage = tiny_run.config.classifier_stage.but(train_on="generated", network=network.model_dump())
    world = replace(tiny_run.world, inputs={"generated": tiny_run.world.inputs["generated"]})
    learner = ClassifierLearner(stage, world)
    assert 0.0 < learner.step()["loss"] < 2.0
    assert {len(group) for group in learner.pools[0].groups} == {len(tiny_run.generated) // 2}
