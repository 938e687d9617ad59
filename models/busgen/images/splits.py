"""Who is pretrained on, validated on, adapted to and tested on: by patient, never by image."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import floor

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from models.busgen.data_config import SplitConfig
from models.busgen.images.cases import PATHOLOGIES, Case
from models.common.errors import DataError

SPLITS = ("pretrain", "validation", "few_shot", "test")  # from what is seen first to what is seen last


@dataclass(frozen=True)
class Person:
    """Patients that go the same way: one, or several who share an image and so may be the same."""

    patients: tuple[str, ...]
    label: str
    given: str = ""  # the split that the data themselves name


def patient_of(case: Case) -> str:
    """The patient's name among those of all sources."""
    return f"{case.source}/{case.patient}"


def task_label(case: Case, config: SplitConfig) -> str:
    """The positive or the negative class where the case has one of them, else its pathology."""
    return case.label((config.positive, config.negative))


def given_splits(cases: Sequence[Case]) -> dict[str, str]:
    """The split of each patient that the data themselves put into one.

    Raises DataError where they put a patient into two, or into one that does not exist.
    """
    given: dict[str, str] = {}
    for case in cases:
        if not case.split:
            continue
        patient = patient_of(case)
        if case.split not in SPLITS:
            raise DataError(f"patient {patient} is in split '{case.split}'\nfits: {', '.join(SPLITS)}")
        if given.setdefault(patient, case.split) != case.split:
            _refuse((patient,), {given[patient], case.split})
    return given


def _refuse(patients: tuple[str, ...], splits: set[str]) -> None:
    whose = f"patient {patients[0]} is" if len(patients) == 1 else f"{', '.join(patients)} share images and are"
    named = " and ".join(split for split in SPLITS if split in splits)
    raise DataError(f"{whose} in splits {named}\nname one split for all images of a patient, or none at all")


def people_of(cases: Sequence[Case], linked: Iterable[tuple[str, str]], config: SplitConfig) -> list[Person]:
    """The patients of these cases, those that are linked as one, each with the label that decides where it may go.

    Of several labels that is the positive class, then the negative one, then the gravest pathology. Raises DataError
    where the data put those who are one into two splits.
    """
    given = given_splits(cases)
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for case in cases:
        labels[patient_of(case)].add(task_label(case, config))
    order = (config.positive, config.negative, *reversed(PATHOLOGIES))
    people = []
    for patients in _joined(sorted(labels), linked):
        splits = {given[patient] for patient in patients if patient in given}
        if len(splits) > 1:
            _refuse(patients, splits)
        found = set().union(*(labels[patient] for patient in patients))
        people.append(Person(patients, min(found, key=order.index), *splits))
    return people


def _joined(patients: Sequence[str], linked: Iterable[tuple[str, str]]) -> list[tuple[str, ...]]:
    """The patients in groups that no link leaves."""
    place = {patient: number for number, patient in enumerate(patients)}
    pairs = np.array([(place[one], place[other]) for one, other in linked], dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(patients), len(patients)))
    count, groups = connected_components(graph, directed=False)
    members: list[list[str]] = [[] for _ in range(count)]
    for patient, group in zip(patients, groups, strict=True):
        members[group].append(patient)
    return [tuple(group) for group in members]


def split_of(people: Sequence[Person], config: SplitConfig, seed: int) -> dict[str, str]:
    """The split of each patient: label by label, in an order that only the seed and the patients' names decide.

    More images of a patient move nobody, and another patient moves few. Raises DataError where a class has too few
    patients for its splits.
    """
    found: dict[str, str] = {}
    by_label: defaultdict[str, list[Person]] = defaultdict(list)
    for person in people:
        by_label[person.label].append(person)
    for label in dict.fromkeys((config.positive, config.negative, *sorted(by_label))):
        members = sorted(by_label[label], key=lambda person: _rank(person, seed))
        for person, split in zip(members, _splits(label, members, config), strict=True):
            found |= dict.fromkeys(person.patients, split)
    return found


def _rank(person: Person, seed: int) -> str:
    return min(hashlib.sha256(f"{seed} {patient}".encode()).hexdigest() for patient in person.patients)


def _splits(label: str, members: Sequence[Person], config: SplitConfig) -> list[str]:
    """The splits of the people of one class, in their order."""
    amounts, rest = _amounts(label, config)
    total, least = len(members), config.least_patients
    given = Counter(person.given for person in members if person.given)
    if label not in (config.positive, config.negative):  # the task needs none of this class
        if total < least * (len(amounts) + 1):
            amounts = {}
    elif outside := [person for person in members if person.given not in ("", *amounts, rest)]:
        raise DataError(
            f"patient {outside[0].patients[0]} is in split {outside[0].given}, and has the rare class '{label}'\n"
            f"fits: {' or '.join((*amounts, rest))}; or set splits.rare=false"
        )
    wanted = {split: _count(amount, total, least) for split, amount in amounts.items()}
    turns = iter([split for split, count in wanted.items() for _ in range(count - given[split])])
    splits = [person.given or next(turns, rest) for person in members]
    if label in (config.positive, config.negative):
        _require(label, Counter(splits), {rest: least} | (dict.fromkeys(wanted, least) if given else wanted))
    return splits


def _require(label: str, found: Counter[str], needed: dict[str, int]) -> None:
    if any(found[split] < count for split, count in needed.items()):
        shown = ", ".join(f"{count} in {split} (found {found[split]})" for split, count in needed.items())
        raise DataError(
            f"class '{label}' has {found.total()} patients, and {sum(needed.values())} are needed: {shown}\n"
            "add patients, ask for fewer in the data's splits, or name another class there"
        )


def _amounts(label: str, config: SplitConfig) -> tuple[dict[str, int | float], str]:
    """How many of a class each split takes, and the split that takes the others."""
    if label == config.positive and config.rare:
        return {"few_shot": config.rare_few_shot}, "test"
    if label in (config.positive, config.negative):
        return {"test": config.test, "few_shot": config.few_shot, "validation": config.validation}, "pretrain"
    return {"validation": config.validation}, "pretrain"


def _count(amount: int | float, total: int, least: int) -> int:
    return amount if isinstance(amount, int) else max(least, floor(amount * total + 0.5))
