"""Splits: no patient in two, a rare class unseen by pretraining, shares as asked, and nobody moved by more images."""

from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from models.busgen.data_config import SplitConfig
from models.busgen.images.cases import Case
from models.busgen.images.splits import SPLITS, patient_of, people_of, split_of
from models.common.errors import DataError

SPLIT = SplitConfig()
CLINIC = {"benign": 100, "dcis": 20, "malignant": 50, "normal": 30}


def _cases(frames: int = 1, **of_class: int) -> list[Case]:
    return [
        Case(
            f"{label}-{number}-{frame}",
            "made",
            f"{label}-{number}",
            "malignant" if label == "dcis" else label,
            subtype="dcis" if label == "dcis" else "",
        )
        for label, count in of_class.items()
        for number in range(count)
        for frame in range(frames)
    ]


def _assigned(cases: list[Case], config: SplitConfig = SPLIT, seed: int = 0, **more: Any) -> dict[str, str]:
    return split_of(people_of(cases, more.get("linked", ()), config), config, seed)


def _counted(splits: dict[str, str]) -> dict[str, Counter[str]]:
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for patient, split in splits.items():
        found[patient.removeprefix("made/").split("-")[0]][split] += 1
    return found


def test_shares_are_those_asked_for_and_a_rare_class_is_not_pretrained_on() -> None:
    found = _counted(_assigned(_cases(**CLINIC, frames=3)))
    assert found["benign"] == {"pretrain": 50, "validation": 10, "few_shot": 20, "test": 20}
    assert found["dcis"] == {"few_shot": 10, "test": 10}
    assert found["malignant"] == {"pretrain": 45, "validation": 5}
    assert found["normal"] == {"pretrain": 27, "validation": 3}


def test_numbers_of_patients_are_kept_to() -> None:
    config = SplitConfig(validation=7, few_shot=16, test=30, rare_few_shot=16)
    found = _counted(_assigned(_cases(**CLINIC), config))
    assert found["benign"] == {"pretrain": 47, "validation": 7, "few_shot": 16, "test": 30}
    assert found["dcis"] == {"few_shot": 16, "test": 4}


def test_a_positive_class_that_is_not_rare_is_shared_as_the_negative_one() -> None:
    config = SplitConfig(positive="malignant", rare=False)
    found = _counted(_assigned(_cases(benign=50, malignant=100), config))
    assert found["malignant"] == {"pretrain": 50, "validation": 10, "few_shot": 20, "test": 20}


def test_the_seed_decides_and_nothing_else() -> None:
    cases = _cases(**CLINIC)
    assert _assigned(cases) == _assigned(cases[::-1])
    assert _assigned(cases) != _assigned(cases, seed=1)


def test_more_images_of_a_patient_move_nobody_and_a_new_patient_moves_few() -> None:
    cases = _cases(**CLINIC)
    before = _assigned(cases)
    assert _assigned([*cases, *(replace(case, name=f"{case.name}-more") for case in cases[:40])]) == before
    after = _assigned([*cases, Case("new", "made", "benign-new", "benign")])
    assert sum(after[patient] != split for patient, split in before.items()) <= 3


def test_a_patient_with_both_classes_counts_as_positive() -> None:
    cases = _cases(benign=20, dcis=10)
    cases += [Case(f"other-{number}", "made", f"dcis-{number}", "benign") for number in range(10)]
    found = _counted(_assigned(cases))
    assert set(found["dcis"]) == {"few_shot", "test"}


def test_linked_patients_go_the_same_way() -> None:
    cases = _cases(**CLINIC)
    linked = [(f"made/benign-{number}", f"made/benign-{number + 1}") for number in range(0, 60, 3)]
    linked += [("made/benign-1", "made/benign-90"), ("made/normal-3", "made/dcis-3")]
    found = _assigned(cases, linked=linked)
    assert all(found[one] == found[other] for one, other in linked)
    assert found["made/normal-3"] in ("few_shot", "test")
    assert len(found) == sum(CLINIC.values())


def test_splits_that_the_data_name_are_kept_and_the_others_filled_up() -> None:
    cases = _cases(**CLINIC)
    given = [replace(case, split="test") if case.patient in ("benign-0", "dcis-0") else case for case in cases]
    found = _assigned(given)
    assert found["made/benign-0"] == found["made/dcis-0"] == "test"
    assert _counted(found)["benign"]["test"] == 20


def test_a_patient_in_two_splits_is_named_with_both() -> None:
    cases = _cases(benign=20, dcis=10, frames=2)
    cases[0] = replace(cases[0], split="test")
    cases[1] = replace(cases[1], split="pretrain")
    with pytest.raises(DataError, match=r"patient made/benign-0 is in splits pretrain and test\n.*one split"):
        people_of(cases, (), SPLIT)


def test_a_split_that_does_not_exist_and_a_rare_class_in_pretraining_are_refused() -> None:
    cases = _cases(benign=20, dcis=10)
    with pytest.raises(DataError, match="patient made/dcis-0 is in split 'train'\nfits: pretrain, validation"):
        people_of([replace(cases[20], split="train")], (), SPLIT)
    with pytest.raises(DataError, match=r"patient made/dcis-0 is in split pretrain.*'dcis'\nfits: few_shot or test"):
        _assigned([*cases[:20], replace(cases[20], split="pretrain"), *cases[21:]])


@pytest.mark.parametrize(
    ("of_class", "fields", "told"),
    [
        ({"benign": 30, "dcis": 3}, {}, r"class 'dcis' has 3 patients, and 4 are needed: .* 2 in few_shot \(found 2\)"),
        ({"benign": 30}, {}, "class 'dcis' has 0 patients, and 4 are needed"),
        ({"benign": 7, "dcis": 8}, {}, "class 'benign' has 7 patients, and 8 are needed"),
        ({"benign": 30, "dcis": 8}, {"few_shot": 16, "test": 16}, "class 'benign' has 30 patients, and 37 are needed"),
        ({"benign": 30, "dcis": 8}, {"rare_few_shot": 7}, r"class 'dcis' has 8 patients, and 9 are needed"),
    ],
)
def test_too_few_patients_are_refused_with_what_was_found_and_needed(
    of_class: dict[str, int], fields: dict[str, Any], told: str
) -> None:
    with pytest.raises(DataError, match=told):
        _assigned(_cases(**of_class), SplitConfig(**fields))


def test_the_least_number_of_patients_is_enough() -> None:
    found = _counted(_assigned(_cases(benign=8, dcis=4, normal=1)))
    assert found["benign"] == dict.fromkeys(SPLITS, 2)
    assert found["dcis"] == {"few_shot": 2, "test": 2}
    assert found["normal"] == {"pretrain": 1}


def test_sources_may_call_two_patients_the_same() -> None:
    assert patient_of(Case("a", "busi", "1", "benign")) != patient_of(Case("a", "breast", "1", "benign"))


def test_shares_leave_a_part_for_pretraining_and_classes_differ() -> None:
    with pytest.raises(ValidationError, match="take 1 of the patients"):
        SplitConfig(validation=0.2, few_shot=0.4, test=0.4)
    with pytest.raises(ValidationError, match="positive and negative are both 'benign'"):
        SplitConfig(positive="benign")


def test_a_number_and_a_share_are_read_back_as_what_they_are() -> None:
    config = SplitConfig(few_shot=16, test=0.25)
    assert SplitConfig.model_validate_json(config.model_dump_json()) == config
    assert config.but(few_shot=8).few_shot == 8
    assert isinstance(SplitConfig(few_shot=1).few_shot, int)
