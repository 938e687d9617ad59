"""What can be told of a dataset before it is made: of phantoms, who they are and which split they go into. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from models.busgen.data_config import BreastImages, FilesOrigin
from models.busgen.images.cases import Case
from models.busgen.images.prepare import seed_of
from models.busgen.images.splits import patient_of, people_of, split_of, task_label
from models.busgen.networks.conditions_config import ConditionsConfig
from models.busgen.phantom.scans import cases_of, patients_of
from models.common.errors import ConfigError, DataError


def forecast(config: BreastImages) -> list[Case] | None:
    """The cases that phantoms will have, with their splits; None where files are among the origins.

    Raises DataError where a class has too few patients for its splits.
    """
    if any(isinstance(origin, FilesOrigin) for origin in config.origins):
        return None
    cases = [
        case
        for place, origin in enumerate(config.origins)
        if not isinstance(origin, FilesOrigin)
        for patient in patients_of(origin)
        for case in cases_of(origin, seed_of(config, place), patient)
    ]
    splits = split_of(people_of(cases, (), config.splits), config.splits, config.seed)
    return [replace(case, split=splits[patient_of(case)]) for case in cases]


def require_shots(cases: Sequence[Case], config: BreastImages, shots: int, negative_shots: int | None) -> None:
    """Raises DataError where the few lesions are fewer than asked for."""
    asked = {config.splits.positive: ("shots", shots), config.splits.negative: ("negative_shots", negative_shots or 1)}
    for label, (field, count) in asked.items():
        found = sum(case.split == "few_shot" and task_label(case, config.splits) == label for case in cases)
        if found < count:
            raise DataError(
                f"the split 'few_shot' will have {found} images of '{label}', and {count} shots are asked for\n"
                f"fits: at most {found} shots, or more patients in that split\ntry: --set task.{field}={found}"
            )


def require_words(cases: Sequence[Case], conditions: ConditionsConfig) -> None:
    """Raises ConfigError where the conditions do not list a class or a device that an image will have."""
    for what, listed in (("class", conditions.classes), ("device", conditions.devices)):
        found = {case.label(conditions.classes) if what == "class" else case.device for case in cases}
        if missing := sorted(found - {""} - set(listed)):
            field = "classes" if what == "class" else "devices"
            raise ConfigError(
                f"the images will have the {what} '{missing[0]}', and the conditions do not list it\n"
                f"listed: {', '.join(listed) or 'nothing'}\nadd it to conditions.{field}, or make no such images"
            )
