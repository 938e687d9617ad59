"""The report beside numbers that were counted by hand, and its page."""

from pathlib import Path

import pytest

from infra.report_page import write_page
from models.common.metrics import student_quantile
from models.common.report import Figure, MapRow, Report, Table
from models.relay.config import EvaluationConfig
from models.relay.data_config import ProblemsData, TaskLengths
from models.relay.problems import Problems
from models.relay.reports.findings import lengths_text
from models.relay.reports.report import make_report
from models.relay.reports.samples import compare_steps
from models.relay.tasks.arithmetic import Arithmetic
from tests.fixtures.reports import lineage
from tests.models.relay import made_up

TESTS = 20


def _problems(*tasks: TaskLengths) -> Problems:
    return Problems.choose(ProblemsData(tasks=tasks, tests_per_length=TESTS))


@pytest.fixture(scope="module")
def sums() -> Problems:
    return _problems(TaskLengths(train_lengths=(2, 3), label_lengths=(4, 5), untouched_lengths=(6,)))


FAULTS = {
    ("teacher", "label"): 1,
    ("student_before", "train"): 2,
    ("student_before", "label"): 20,
    ("control", "label"): 19,
    ("student", "label"): 5,
    ("student", "untouched"): 20,
    ("control", "untouched"): 20,
    ("student_before", "untouched"): 20,
}


@pytest.fixture(scope="module")
def report(sums: Problems) -> Report:
    return make_report(EvaluationConfig(), made_up.found(sums, FAULTS))


def _table(report: Report, title: str) -> Table:
    return next(table for table in report.tables if table.title.startswith(title))


def test_metrics_hold_every_measure_by_task_model_and_length(report: Report) -> None:
    task = report.metrics["tasks"]["arithmetic"]
    assert task["train_lengths"] == [2, 3]
    assert task["beyond_lengths"] == [4, 5]
    assert task["untouched_lengths"] == [6]
    assert task["student"]["chain_exact_match"] == {"2": 1.0, "3": 1.0, "4": 0.75, "5": 0.75, "6": 0.0}
    assert task["student"]["answer_accuracy"] == dict.fromkeys("23456", 1.0), "its faults are in the first round"
    assert task["control"]["answer_accuracy"]["4"] == 0.05
    # Five of twenty chains of 4 * 5 tokens have one wrong token.
    assert task["student"]["token_accuracy"]["4"] == 1 - 5 / (20 * 20)
    assert task["student"]["first_wrong_round"]["4"] == [5, 0, 0, 0]
    assert task["control"]["first_wrong_round"]["4"] == [0, 0, 0, 19]
    low, high = task["student"]["chain_exact_match_interval"]["4"]
    assert (round(low, 3), round(high, 3)) == (0.531, 0.888), "Wilson's for 15 of 20"


def test_gates_compare_means_over_lengths(report: Report) -> None:
    gain, teacher, before = report.gates
    assert gain.value == pytest.approx(0.75 - 0.05)
    assert teacher.value == 1.0, "faults of the first round leave the answer right"
    assert before.value == pytest.approx(0.9)
    assert [gate.passed for gate in report.gates] == [True, True, False]


def test_the_headline_has_each_model_in_each_span(report: Report) -> None:
    assert report.headline
    assert report.headline.columns == (
        "model", "answers 2–3", "answers 4–5", "answers 6", "chains 2–3", "chains 4–5", "chains 6",
    )  # fmt: skip
    rows = {row[0]: row[1:] for row in report.headline.rows}
    assert rows["student after"] == ("100.0%", "100.0%", "100.0%", "100.0%", "75.0%", "0.0%")
    assert rows["student before"] == ("90.0%", "0.0%", "0.0%", "90.0%", "0.0%", "0.0%")
    assert "1 in 7" in report.headline.caption


def test_whole_chains_by_length_are_the_first_figure(report: Report) -> None:
    first = report.figures[0]
    assert isinstance(first, Figure)
    assert first.shaded == (2.0, 3.0)
    student = next(curve for curve in first.curves if curve.label == "student after")
    assert (student.x, student.y) == ((2.0, 3.0, 4.0, 5.0, 6.0), (1.0, 1.0, 0.75, 0.75, 0.0))
    assert all(low <= y <= high for low, y, high in zip(student.low, student.y, student.high, strict=True))


def test_chains_break_where_their_faults_are(report: Report) -> None:
    figure = next(each for each in report.figures if each.title.startswith("Where chains break"))
    assert isinstance(figure, Figure)
    curves = {curve.label: curve.y for curve in figure.curves}
    assert curves["student after"] == pytest.approx((0.75,) * 5)
    assert curves["control"] == pytest.approx((1.0, 1.0, 1.0, 1.0, 0.05))


def test_hit_matrices_stand_side_by_side(report: Report) -> None:
    row = next(each for each in report.figures if isinstance(each, MapRow))
    assert [one.title for one in row.maps] == ["looped teacher", "student before", "control", "student after"]
    student, control = row.maps[3], row.maps[2]
    assert student.values[0][0] == 0.75
    assert student.values[0][1] == 1.0
    assert control.values[-1][:2] == (0.05, 1.0), "the answer, then the end"


def test_labels_are_told_before_and_after_the_filter(report: Report) -> None:
    table = _table(report, "The labels, by length")
    assert [row[0] for row in table.rows] == ["4", "5"]
    assert [cell.split(" ")[0] for cell in table.rows[0]] == ["4", "20", "95.0%", "75.0%", "10", "100.0%", "90.0%"]
    filters = _table(report, "What a filter of the labels would do")
    assert [cell.split(" [")[0] for cell in filters.rows[0]] == ["(no filter)", "100.0%", "40", "95.0%", "75.0%"]
    assert [cell.split(" [")[0] for cell in filters.rows[1]][1:] == ["50.0%", "20", "100.0%", "90.0%"]
    of_four = report.metrics["labels"]["arithmetic"]["4"]
    assert (of_four["labels"], of_four["chains"], of_four["kept"], of_four["kept_chains"]) == (20, 0.75, 10, 0.9)
    assert of_four["alone"] == {"confidence": {"kept": 10, "answers": 1.0, "chains": 0.9}}


def test_loops_are_told_by_rule(report: Report) -> None:
    table = _table(report, "How often the teacher loops")
    given, longer = table.rows
    assert given[0] == "T"
    assert given[1:] == ("100.0%", "100.0%", "100.0%", "100.0%", "95.0%", "100.0%", "4.5")
    assert longer[0].split() == ["T", "+", "1"]
    assert longer[1:3] == ("100.0%", "5.0%")
    assert report.metrics["loops"]["arithmetic"]["T"]["mean_loops"] == {str(n): n for n in (2, 3, 4, 5, 6)}


def test_a_length_without_a_loop_is_left_out_of_its_rule() -> None:
    problems = _problems(TaskLengths(train_lengths=(1,), label_lengths=(2,), untouched_lengths=()))
    made = make_report(EvaluationConfig(), made_up.found(problems, {}))
    table = _table(made, "How often the teacher loops")
    assert table.rows[1][1:3] == ("", "100.0%")
    assert "Lengths at which no loop would be left are left out" in table.caption


def test_one_seed_is_compared_over_its_problems(sums: Problems) -> None:
    seeds = (made_up.seed(sums, 0, {"relay": 15, "control": 1, "vanilla_loop": 15}, answers_only=("vanilla_loop",)),)
    made = make_report(EvaluationConfig(), made_up.found(sums, FAULTS, seeds))
    table = _table(made, "Alternatives to RELAY, one seed")
    relay, control, loop = table.rows
    assert relay[1:] == ("75.0%", "100.0%", "75.0%", "0.0%", "", "")
    assert control[1:5] == ("5.0%", "100.0%", "5.0%", "0.0%")
    # 14 of 20 problems of both lengths differ, all one way: s^2 = 20/19 * 0.7 * 0.3, SE^2 = s^2 / 20 / 2.
    half = 1.959964 * (20 / 19 * 0.21 / 40) ** 0.5
    assert control[5] == f"+70.0 [{70 - 100 * half:+.1f}, {70 + 100 * half:+.1f}]"
    assert control[6] == "< 0.001", "28 problems of one sign: 2 / 2^28"
    assert loop[2:] == ("", "", "", "+0.0 [+0.0, +0.0]", "1.000")
    assert made.metrics["arms"]["arithmetic"]["control"]["relay_minus_this"]["mean"] == 0.7
    assert made.metrics["arms"]["arithmetic"]["control"]["by_seed"]["0"]["steps"] == 30.0


def test_several_seeds_are_compared_seed_by_seed(sums: Problems) -> None:
    seeds = tuple(made_up.seed(sums, n, {"relay": 14 + 2 * n, "control": 4, "truth": 20}) for n in range(3))
    made = make_report(EvaluationConfig(), made_up.found(sums, FAULTS, seeds))
    table = _table(made, "Alternatives to RELAY, 3 seeds")
    rows = {row[0].split(":")[0]: row for row in table.rows}
    # Differences to the control are 50, 60 and 70 points: their mean -+ t s / sqrt(3), s = 10.
    half = student_quantile(0.975, 2) * 10 / 3**0.5
    assert rows["control"][5] == f"+60.0 [{60 - half:+.1f}, {60 + half:+.1f}]"
    assert rows["control"][6] == "0.250", "three of three seeds of one sign: 2 / 8"
    assert rows["solver's labels"][5].startswith("-20.0 ")
    by_seed = _table(made, "Whole chains right, seed by seed")
    assert by_seed.columns[1:] == ("seed 0", "seed 1", "seed 2")
    assert by_seed.rows[0][1:] == ("100.0%, 70.0%, 0.0%", "100.0%, 80.0%, 0.0%", "100.0%, 90.0%, 0.0%")
    figure = next(each for each in made.figures if each.title.startswith("Whole chains right, by arm"))
    assert isinstance(figure, Figure)
    assert figure.curves[0].y == pytest.approx((1.0, 1.0, 0.8, 0.8, 0.0))


def test_a_run_without_seeds_has_no_table_of_arms(report: Report) -> None:
    assert [table.title for table in report.tables if "RELAY" in table.title] == []
    assert report.metrics["arms"] == {}


def test_samples_begin_with_a_problem_that_only_the_student_solves(report: Report) -> None:
    control, student, teacher = report.samples
    assert control.title.startswith("5 operators, control: first fault in step 5, 1 of 5 steps wrong")
    assert student.title == "5 operators, student after: right"
    assert control.lines[0] == student.lines[0] == teacher.lines[0], "the same problem"


def test_the_browser_has_right_and_wrong_chains_of_each_length_and_model(report: Report) -> None:
    assert report.browser
    kinds: dict[tuple[str, ...], int] = {}
    for each in report.browser.samples:
        kinds[each.values] = kinds.get(each.values, 0) + 1
        assert (each.values[2] == "right") == each.sample.title.endswith(": right")
    assert kinds["3 operators (trained on)", "control", "right"] == 3
    assert kinds["4 operators (labelled)", "looped teacher", "wrong"] == 1, "it has but one"
    assert kinds["4 operators (labelled)", "control", "right"] == 1
    assert kinds["5 operators (labelled)", "student after", "wrong"] == 3
    assert ("6 operators (untouched)", "student after", "right") not in kinds
    assert not any(values[0].startswith("2 ") for values in kinds), "only the longest that was trained on"


def test_many_lengths_have_few_samples_each() -> None:
    problems = _problems(
        TaskLengths(train_lengths=(2,), label_lengths=tuple(range(3, 16)), untouched_lengths=(16, 17, 18, 19, 20))
    )
    browser = make_report(EvaluationConfig(), made_up.found(problems, {("student", "label"): 4})).browser
    assert browser
    shown = list(dict.fromkeys(each.values[0].split()[0] for each in browser.samples))
    assert shown == ["2", "3", "7", "11", "15", "16", "18", "20"]


def test_steps_are_marked_against_those_of_the_same_number() -> None:
    sums = Arithmetic()
    right = sums.steps(sums.read("1 - 6 = 2"))
    lines = compare_steps(sums, sums.steps(sums.read("1 - 5 = 2 = 3")), right)
    assert [(line.label, line.text, line.mark, line.note) for line in lines] == [
        ("step 1", "1 - 5 =", "wrong", "should be: 1 - 6 ="),
        ("answer", "2 =", "wrong", "should be: 2"),
        ("step 3", "3", "wrong", "should have ended"),
    ]
    missing = compare_steps(sums, [], right)
    assert [line.text for line in missing] == ["(nothing)", "(nothing)"]


def test_several_tasks_are_told_apart(mixed: Problems, tmp_path: Path) -> None:
    seeds = tuple(made_up.seed(mixed, n, {"relay": 12, "control": 1 + n}) for n in range(2))
    made = make_report(EvaluationConfig(), made_up.found(mixed, {("control", "label"): 16}, seeds))
    tasks = list(mixed.tasks)
    assert list(made.metrics["tasks"]) == tasks
    names = {"arithmetic": "Arithmetic", "edit_distance": "Edit distance", "binary_addition": "Binary addition"}
    assert [gate.name.split(":")[0] for gate in made.gates] == [names[task] for task in tasks for _ in range(3)]
    assert made.headline
    assert [row[0].split(":")[0] for row in made.headline.rows] == [names[task] for task in tasks for _ in range(4)]
    assert len([each for each in made.figures if isinstance(each, MapRow)]) == 3
    for said in (made.summary, *(each.caption for each in made.figures), *(each.caption for each in made.tables)):
        assert "  " not in said
    told = [made.headline.caption, *(each.title for each in made.figures if "Edit distance" in each.title)]
    assert not any("operators" in text for text in told[1:]), "edit distance has no operators"
    write_page(made, lineage(), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Edit distance: 7 letters (labelled)" in page


def test_a_report_reads_back(report: Report, tmp_path: Path) -> None:
    report.write(tmp_path)
    assert Report.read(tmp_path) == report


@pytest.mark.parametrize(
    ("lengths", "text"),
    [((8,), "8"), ((6, 8, 7), "6–8"), ((5, 3), "3, 5"), ((1, 3, 5, 7, 9), "1–9 (5 lengths)")],
)
def test_lengths_are_told_briefly(lengths: tuple[int, ...], text: str) -> None:
    assert lengths_text(lengths) == text
