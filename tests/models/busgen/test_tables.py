"""The tables and samples of the report: that they say what was found, and leave nothing out."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import stats

from models.busgen import samples, tables
from models.busgen.data_tables import audit_table, data_tables, quarantine_table, split_table
from models.busgen.findings import Found
from models.common.report import SampleLine, Table, TokenLine
from tests.models.busgen.found import made_up_found

usual = cache(made_up_found)


def _row(table: Table, name: str) -> tuple[str, ...]:
    return next(row[1:] for row in table.rows if row[0] == name)


def test_the_headline_has_the_gain_in_pairs_with_students_interval() -> None:
    found = usual()
    _, gain, _, draws = _row(tables.headline(found), "few real + generated")
    pairs = np.array(found.aucs["both"]) - found.aucs["real"]
    low, high = stats.ttest_1samp(pairs, 0.0).confidence_interval(0.95)
    assert gain == f"{pairs.mean():+.3f} [{low:+.3f}, {high:+.3f}]"
    assert draws == "3"


def test_the_headline_says_of_how_many_images_a_draw_is() -> None:
    assert "of 4 dcis and 4 benign images" in tables.headline(usual()).caption
    assert "of 4 dcis and all benign images" in tables.headline(made_up_found(negative_shots=None)).caption


def test_real_alone_has_no_gain_over_itself() -> None:
    assert _row(tables.headline(usual()), "few real")[1] == ""


def test_one_draw_has_no_interval() -> None:
    auc, gain, *_ = _row(tables.headline(made_up_found(draws=1)), "few real + generated")
    assert "[" not in auc + gain


def test_each_classifier_has_its_diagnosis() -> None:
    found = usual()
    rows = tables.diagnosis_table(found).rows
    assert [row[0] for row in rows] == [
        "few real",
        "generated",
        "few real + generated",
        "published classifier",
        "by descriptors",
    ]
    auc = found.classifier.auc
    assert rows[3][1] == f"{auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}]"


def test_a_classifier_without_a_fault_has_no_slope() -> None:
    found = usual()
    faultless = replace(found, classifier_N=np.where(found.positive_N, 2.0, -2.0) + np.linspace(0, 1, 40))
    assert _row(tables.calibration_table(faultless), "published classifier")[1].startswith("none")


def test_distances_bear_the_name_of_what_made_the_features() -> None:
    found = usual()
    table = tables.distance_table(found.distances)
    for name, compared in found.distances.adapted.items():
        value, _, floor, size = _row(table, f"FD-{name}")
        measured = compared.measures[f"FD-{name}"]
        assert float(value.split(" ±")[0]) == pytest.approx(measured.value, rel=0.01)
        assert float(floor.split(" ±")[0]) == pytest.approx(measured.floor, rel=0.01)
        assert size == str(compared.images_a_side)


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (0.8166, 0.0577, "0.817 ± 0.06"),
        (133.2, 88.1, "133.2 ± 88"),
        (0.4, 7e-17, "0.4 ± 0"),
        (12345.6, 0.3, "12,345.6 ± 0.3"),
    ],
)
def test_numbers_with_a_spread_are_readable(value: float, error: float, shown: str) -> None:
    assert tables._spread(value, error) == shown  # pyright: ignore[reportPrivateUsage]


def test_the_search_for_copies_is_told_by_pixels_and_by_features() -> None:
    found = made_up_found(copied=3)
    table = tables.privacy_table(found)
    search = found.privacy.by_pixels
    assert table.columns[1:] == ("by pixels", "by features")
    copied = np.count_nonzero(search.generated.distance_N < search.threshold)
    assert copied >= 3
    assert _row(table, "generated images called copies")[0].startswith(f"{copied} of 24, ")
    assert _row(table, "planted copies found")[0] == f"{search.planted_found} of 5"
    assert "3 images came too near" in table.caption


def test_membership_is_told_by_image_and_by_patient() -> None:
    table = tables.memory_table(usual())
    of_patients = usual().losses.membership.of_patients
    assert _row(table, "membership, AUC over patients")[0].startswith(f"{of_patients.value:.3f} [")


def test_weights_stand_beside_their_descriptor_and_its_probe() -> None:
    found = usual()
    table = tables.descriptor_table(found)
    right, against, weights = _row(table, "margin")
    assert right == "75.0%"
    assert against == "circumscribed"
    assert f"spiculated {found.explained.weights['margin spiculated']:+.2f}" in weights
    assert len(weights.split(", ")) == 4


def test_a_probe_of_a_descriptor_that_nobody_knows_has_no_share() -> None:
    found = usual()
    unknown = replace(found, explained=replace(found.explained, probes_right={"margin": float("nan")}))
    assert _row(tables.descriptor_table(unknown), "margin")[0] == ""


def test_every_image_is_counted_in_its_split_and_class() -> None:
    found = usual()
    table = split_table(found)
    assert ("few_shot", "dcis", "6", "6") in table.rows
    assert sum(int(row[2]) for row in table.rows) == len(found.images)
    assert "test 40" in table.caption


def _with_quarantine(count: int) -> Found:
    return made_up_found(
        quarantined=[
            {"source": "busi", "file": f"{number}.png", "reason": f"too small: {number} by 3\npixels"}
            for number in range(count)
        ]
    )


def test_what_was_left_out_is_counted_by_reason() -> None:
    found = _with_quarantine(4)
    table = audit_table(found)
    assert _row(table, "found")[0] == str(len(found.images) + 4)
    assert _row(table, "quarantined, busi: too small")[0] == "4"
    assert _row(table, "frames like another of the same patient")[0] == "3"


def test_many_quarantined_files_end_in_a_count_of_the_others() -> None:
    rows = quarantine_table(_with_quarantine(63)).rows
    assert len(rows) == 51
    assert rows[0] == ("0.png", "busi", "too small: 0 by 3 pixels")
    assert rows[-1][0] == "and 13 more"
    assert len(quarantine_table(_with_quarantine(50)).rows) == 50


def test_nothing_left_out_is_no_table() -> None:
    assert "Quarantined images" not in [table.title for table in data_tables(_with_quarantine(0))]


def test_samples_show_right_and_wrong_cases_of_both_labels() -> None:
    found = usual()
    kinds = {(bool(found.positive_N[place]), found.explained.logits[place] > 0) for place in samples.shown_cases(found)}
    assert len(kinds) == 4


def test_a_sample_adds_up_to_the_logit_and_says_whether_it_is_right() -> None:
    found = usual()
    for place, sample in zip(samples.shown_cases(found), samples.make_samples(found), strict=True):
        _, score, called = sample.lines
        assert isinstance(score, TokenLine)
        assert isinstance(called, SampleLine)
        logit = found.explained.logits[place]
        assert sum(score.values) == pytest.approx(logit)
        assert (called.mark == "right") == ((logit > 0) == found.positive_N[place])


def test_fewer_kinds_of_cases_leave_room_for_others() -> None:
    found = usual()
    sure = [
        replace(one, logit=1.0 if positive else -1.0)
        for one, positive in zip(found.explained.explanations, found.positive_N, strict=True)
    ]
    assert len(samples.shown_cases(replace(found, explained=replace(found.explained, explanations=sure)))) == 4
