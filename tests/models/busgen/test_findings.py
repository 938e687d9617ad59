"""The numbers of an evaluation, worked out anew with scipy."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from models.busgen.findings import Found, make_metrics
from models.busgen.images.dataset import Images
from models.busgen.study import Draw
from tests.models.busgen.found import NEGATIVE, POSITIVE, made_up_found


def patients_of(found: Found) -> list[str]:
    cases = [found.images.cases[row] for row in found.test_rows_N]
    return [f"{case.source} of {case.patient}" for case in cases]


def area_by_scipy(found: Found, logits: Any) -> float:
    """Mann and Whitney's U over patients, each with the mean of its images' probabilities."""
    scores, positive = defaultdict(list), defaultdict(list)
    for patient, row, logit in zip(patients_of(found), found.test_rows_N, logits, strict=True):
        scores[patient].append(1 / (1 + math.exp(-logit)))
        positive[patient].append(found.images.cases[row].subtype == POSITIVE)
    sick = [float(np.mean(scores[patient])) for patient in scores if any(positive[patient])]
    well = [float(np.mean(scores[patient])) for patient in scores if not any(positive[patient])]
    assert len(sick) > 1 < len(well)
    return stats.mannwhitneyu(sick, well).statistic / (len(sick) * len(well))


def interval_by_scipy(values: list[float], confidence: float = 0.95) -> tuple[float, float]:
    return stats.t.interval(confidence, len(values) - 1, np.mean(values), stats.sem(values))


@pytest.fixture(scope="module")
def found() -> Found:
    """With several images of each patient of the test, and of some more than of others."""
    found = made_up_found(draws=4)
    cases, seen = list(found.images.cases), Counter[str]()
    for row in found.test_rows_N:
        label = cases[row].label((POSITIVE, NEGATIVE))
        cases[row] = replace(cases[row], patient=f"{label} {math.isqrt(2 * seen[label])}")
        seen[label] += 1
    return replace(found, images=replace(found.images, cases=tuple(cases)))


def test_some_patients_have_several_images(found: Found) -> None:
    images = Counter(patients_of(found))
    assert len(set(images.values())) > 1, "otherwise patients are not told from images here"


def test_an_area_is_over_patients(found: Found) -> None:
    for arm, aucs in found.aucs.items():
        assert aucs == pytest.approx([area_by_scipy(found, draw.logits[arm]) for draw in found.draws])


def test_the_published_classifier_is_measured_on_its_own_logits(found: Found) -> None:
    published = make_metrics(found)["published"]
    assert published["auc"] == pytest.approx(area_by_scipy(found, found.classifier_N))
    assert published["ci"][0] < published["auc"] <= published["ci"][1]


def test_an_arm_has_students_interval_over_draws(found: Found) -> None:
    for arm, told in make_metrics(found)["classifier"].items():
        aucs = found.aucs[arm]
        assert told["draws"] == aucs
        assert told["auc"] == pytest.approx(np.mean(aucs))
        assert told["ci"] == pytest.approx(interval_by_scipy(aucs), abs=1e-9)


def test_the_gain_is_the_mean_of_paired_differences(found: Found) -> None:
    both, real = found.aucs["both"], found.aucs["real"]
    differences = [one - other for one, other in zip(both, real, strict=True)]
    told = make_metrics(found)["gain"]
    assert told["auc"] == pytest.approx(np.mean(differences))
    assert told["ci"] == pytest.approx(interval_by_scipy(differences), abs=1e-9)
    paired = stats.ttest_rel(both, real).confidence_interval(0.95)
    assert told["ci"] == pytest.approx([paired.low, paired.high], abs=1e-9)
    assert 0.0 <= told["delong_p"] <= 1.0
    assert told["delong_auc"] == pytest.approx(differences[0]), "of the run's own draw"


def test_one_draw_has_no_width(found: Found) -> None:
    alone = replace(found, draws=found.draws[:1])
    gain = make_metrics(alone)["gain"]
    assert gain["ci"] == [gain["auc"], gain["auc"]]


def test_scaling_goes_from_none_to_all_images(found: Found) -> None:
    told = make_metrics(found)["scaling"]
    [size] = found.config.study.sizes
    assert list(told) == ["0", str(size), str(found.draws[0].generated)]
    assert told["0"]["auc"] == pytest.approx(np.mean(found.aucs["real"]))
    aucs = [area_by_scipy(found, draw.sizes[size]) for draw in found.draws]
    assert told[str(size)]["auc"] == pytest.approx(np.mean(aucs))
    assert told[str(size)]["ci"] == pytest.approx(interval_by_scipy(aucs), abs=1e-9)
    assert told[str(found.draws[0].generated)]["auc"] == pytest.approx(np.mean(found.aucs["both"]))


def test_scaling_shows_sizes_that_every_draw_has(found: Found) -> None:
    """A draw that lost images to the rejection has another number of all."""
    first, *others = found.draws
    fewer = Draw(first.draw, first.logits, {12: first.sizes[12], 20: first.logits["both"]}, 20, 4)
    assert list(replace(found, draws=[fewer, *others]).scaling) == [0, 12]


def test_metrics_have_their_names(found: Found) -> None:
    told = make_metrics(found)
    assert told["classifier"].keys() == {"real", "generated", "both"}
    assert all(arm.keys() >= {"auc", "ci"} for arm in told["classifier"].values())
    for extractor in ("probes", "classical", "random"):
        assert told["fd"][f"FD-{extractor}"] >= 0.0
        assert told["fd_unadapted"][f"FD-{extractor}"] > told["fd"][f"FD-{extractor}"], "made so"
    curves = [told["optimal_loss"][name] for name in ("sigma", "j_star", "j", "j_held_out")]
    assert {len(curve) for curve in curves} == {9}
    assert sorted(curves[0]) == curves[0]
    privacy = told["privacy"]
    assert privacy["planted"] == 5
    assert privacy["generated"] == len(found.generated)
    assert privacy["dropped"] == 0 + 1 + 2 + 3, "of all draws"


@pytest.mark.parametrize("copied", [0, 3])
def test_copies_are_counted(copied: int) -> None:
    found = made_up_found(copied=copied)
    privacy = make_metrics(found)["privacy"]
    assert (privacy["copies"], privacy["planted"], privacy["planted_found"]) == (copied, 5, 5)


@pytest.mark.parametrize("optimal_share", [0.6, 0.999], ids=["room", "no room"])
def test_metrics_are_json_whatever_the_meter_could_tell(optimal_share: float) -> None:
    told = make_metrics(made_up_found(optimal_share=optimal_share))
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_a_meter_that_cannot_tell_is_none() -> None:
    found = made_up_found()
    nothing = replace(found.losses.memorisation, overall=float("nan"), overall_error=float("nan"))
    told = make_metrics(replace(found, losses=replace(found.losses, memorisation=nothing)))
    assert told["memorisation"] == {"share": None, "error": None}


def test_what_was_learnt_from_is_pretraining_and_the_few(found: Found) -> None:
    images: Images = found.images
    cases = [images.cases[row] for row in found.training_rows_R]
    task = found.config.generation.adaptation
    few = [case for case in cases if case.split == "few_shot"]
    assert {case.split for case in cases} == {"pretrain", "few_shot"}
    assert sum(case.split == "pretrain" for case in cases) == sum(case.split == "pretrain" for case in images.cases)
    assert sum(case.subtype == POSITIVE for case in few) == task.shots
    assert {case.label((POSITIVE, NEGATIVE)) for case in few} == {POSITIVE, NEGATIVE}
