"""Wishes have the labels asked for and descriptors as the cells weigh, and say no more than the generator is told."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.busgen.images.boxes import box_mask
from models.busgen.images.descriptors import DESCRIPTORS
from models.busgen.networks.conditions import conditions_of
from models.busgen.networks.conditions_config import ConditionsConfig
from models.busgen.tailor.wishes import draw_wishes, learn_knowledge
from models.busgen.tailor_config import PlaceConfig, TailorConfig
from models.common.errors import DataError
from tests.models.busgen.tailor.made_up import SIDE, images

LABELS = ("benign", "dcis")
CONFIG = TailorConfig(attributes=("margin",), rarity=0.5)
CONDITIONS = ConditionsConfig(
    classes=("normal", "benign", "malignant", "dcis"), devices=("a", "b"), descriptors=("margin", "halo"), mask="soft"
)
WANTED = ["benign", "dcis"] * 400


def _draw(config: TailorConfig = CONFIG, conditions: ConditionsConfig = CONDITIONS, labels=WANTED, seed: int = 0):
    knowledge = learn_knowledge(images(), LABELS, config)
    return knowledge, draw_wishes(knowledge, labels, conditions, np.random.default_rng(seed))


def test_cells_are_drawn_as_often_as_they_weigh() -> None:
    knowledge, wishes = _draw()
    found = np.bincount(knowledge.table.places(wishes.cases), minlength=len(knowledge.table.cells)) / 400
    error = np.sqrt(knowledge.weights_C * (1 - knowledge.weights_C) / 400)
    assert (np.abs(found - knowledge.weights_C) < 4 * error + 1e-9).all()
    seen = Counter(case.descriptors["margin"] for case in wishes.cases)
    assert seen["spiculated"] + seen["indistinct"] > 1.3 * len(WANTED) / 3  # of the real ones it is a third


def test_other_descriptors_come_with_the_cell_and_not_by_themselves() -> None:
    _, wishes = _draw()
    assert {(case.descriptors["margin"] != "circumscribed", case.descriptors["halo"]) for case in wishes.cases} == {
        (True, "present"),
        (False, "none"),
    }


def test_where_the_classifier_errs_more_is_drawn() -> None:
    data = images()
    wrong = np.array([case.descriptors.get("margin") == "spiculated" for case in data.cases])
    told = learn_knowledge(data, LABELS, CONFIG, wrong)
    plain = learn_knowledge(data, LABELS, CONFIG)
    spiculated = [cell.numbers == (DESCRIPTORS["margin"].index("spiculated") + 1,) for cell in told.table.cells]
    assert (told.weights_C[spiculated] > plain.weights_C[spiculated]).all()


def test_conditions_are_those_of_the_cases() -> None:
    _, wishes = _draw(labels=["dcis", "benign", "dcis"])
    assert wishes.conditions.labels_B.tolist() == [4, 2, 4]
    assert [case.pathology for case in wishes.cases] == ["malignant", "benign", "malignant"]
    assert [case.subtype for case in wishes.cases] == ["dcis", "", "dcis"]
    assert torch.equal(wishes.conditions.mask_B1HW[:, 0], torch.from_numpy(wishes.masks_NHW / np.float32(255)))
    by_box = draw_wishes(
        learn_knowledge(images(), LABELS, CONFIG), LABELS, CONDITIONS.but(mask="box"), np.random.default_rng(1)
    )
    for number, case in enumerate(by_box.cases):
        assert by_box.conditions.mask_B1HW[number, 0].numpy() == pytest.approx(box_mask(case.boxes, SIDE))


def test_a_case_says_no_more_than_the_generator_is_told() -> None:
    told = ConditionsConfig(classes=CONDITIONS.classes, devices=(), descriptors=("halo",), mask="none")
    _, wishes = _draw(conditions=told, labels=["dcis", "benign"])
    for case in wishes.cases:
        assert (case.device, case.boxes, set(case.descriptors)) == ("", (), {"halo"})
    assert wishes.masks_NHW.max() == 0
    assert wishes.conditions.mask_given_B.tolist() == [0.0, 0.0]


def test_a_normal_image_has_no_lesion_and_says_so() -> None:
    knowledge = learn_knowledge(images(), ("normal", "benign"), CONFIG)
    wishes = draw_wishes(knowledge, ["normal", "benign"], CONDITIONS, np.random.default_rng(0))
    assert wishes.cases[0].boxes == ()
    assert wishes.masks_NHW[0].max() == 0
    assert wishes.conditions.mask_given_B[0] == 1.0
    assert wishes.masks_NHW[1].max() == 255


def test_an_even_device_does_not_tell_the_label_and_one_as_seen_does() -> None:
    _, even = _draw()
    share = {label: np.mean([c.device == "a" for c in even.cases[place::2]]) for place, label in enumerate(LABELS)}
    assert all(abs(value - 0.5) < 0.1 for value in share.values())
    _, seen = _draw(CONFIG.but(devices="as_seen"), labels=["benign", "dcis"] * 5)
    assert [case.device for case in seen.cases] == ["a", "b"] * 5
    _, left_open = _draw(CONFIG.but(devices="open"), labels=["benign"])
    assert left_open.conditions.devices_B.tolist() == [0]


def test_the_same_generator_draws_the_same() -> None:
    moved = CONFIG.but(place=PlaceConfig(outline="moved"))
    one, again, other = (_draw(moved, labels=["dcis"] * 4, seed=seed)[1] for seed in (1, 1, 2))
    assert one.cases == again.cases
    assert np.array_equal(one.masks_NHW, again.masks_NHW)
    assert one.cases != other.cases


def test_a_label_with_few_boxes_takes_those_of_all_and_without_any_it_is_said() -> None:
    few = CONFIG.but(place=PlaceConfig(least_boxes=30))
    knowledge = learn_knowledge(images(), LABELS, few)
    assert len(knowledge.priors["dcis"].points_PD) == 40
    none = images()
    none = replace(none, cases=tuple(replace(case, boxes=()) for case in none.cases))
    with pytest.raises(DataError, match="0 boxes"):
        draw_wishes(learn_knowledge(none, LABELS, CONFIG), LABELS, CONDITIONS, np.random.default_rng(0))
    with pytest.raises(DataError, match="no image is 'malignant'"):
        learn_knowledge(images(), ("benign", "malignant", "dcis"), CONFIG)


def test_an_unseen_cell_gives_its_own_descriptors_and_leaves_the_others_open() -> None:
    config = CONFIG.but(cells="all", rarity=2.0)
    knowledge, wishes = _draw(config)
    empty = [case for case in wishes.cases if case.descriptors["margin"] in ("angular", "microlobulated")]
    assert len(empty) > 100
    assert all(set(case.descriptors) == {"margin"} for case in empty)
    known = conditions_of(images().take([0]), CONDITIONS)
    assert wishes.conditions.descriptors_BA.shape[1] == known.descriptors_BA.shape[1] == 2
    assert len(knowledge.table.cells) == 10
