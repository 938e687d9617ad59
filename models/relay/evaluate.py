"""What the four models can do, by length: within training, at the lengths the teacher labelled, and beyond."""

# P problems   L tokens of a problem   W tokens written after it

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from models.common.contract import World
from models.common.metrics import wilson_interval
from models.common.report import Curve, Figure, Gate, Report, Sample, SampleLine, Table
from models.relay.arithmetic import (
    Arithmetic,
    Tokens,
    exact_matches,
    problem_width,
    solution_width,
    steps,
    written_answers,
)
from models.relay.config import EvaluationConfig
from models.relay.labels import ACCURACY_FILE
from models.relay.problems import Problems

# By the name of the input: what people read. The order is that of tables and figures.
MODELS = {
    "teacher": "looped teacher",
    "student_before": "student before",
    "control": "control",
    "student": "student after",
}
TRAINED = {  # curves of the stages, by the name of the input
    "teacher": "teacher",
    "student_before": "student",
    "student": "fine-tuning",
    "control": "control",
}

_SAMPLES = 5


def shards(inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Each model on each length, the longest problems first."""
    lengths = sorted(Problems.read(inputs["problems"]).all_lengths, reverse=True)
    return [{"model": model, "length": length} for length in lengths for model in MODELS]


def process(shard: dict[str, Any], world: World) -> Tokens:
    """What the model writes after each test problem of this length, greedily and on its own."""
    from models.relay.decoding import write_on
    from models.relay.network import read_student, read_teacher
    from models.relay.teacher import work_off

    problems = Problems.read(world.inputs["problems"])
    tests_PL = problems.tests(shard["length"])
    folder, vocabulary = world.inputs[shard["model"]], len(problems.arithmetic.vocabulary)
    if shard["model"] == "teacher":
        return work_off(read_teacher(folder, vocabulary, world.device), tests_PL)
    # Room for one round more than is right, so that a chain that is too long can still end in the right answer.
    most = solution_width(shard["length"]) + problem_width(shard["length"])
    return write_on(read_student(folder, vocabulary, world.device), tests_PL, most)


@dataclass(frozen=True)
class Score:
    """How many of a length's test problems a model solved."""

    problems: int
    right_answers: int
    right_chains: int

    @property
    def answer_accuracy(self) -> float:
        return self.right_answers / self.problems

    @property
    def chain_exact_match(self) -> float:
        return self.right_chains / self.problems


Scores = dict[str, dict[int, Score]]  # by model and length


def collect(config: EvaluationConfig, parts: list[Any], inputs: Mapping[str, Path], folder: Path) -> None:
    """Scores what was written and writes the report."""
    problems = Problems.read(inputs["problems"])
    written = {(shard["model"], shard["length"]): part for shard, part in zip(shards(inputs), parts, strict=True)}
    scores: Scores = {
        model: {length: score(problems, length, written[model, length]) for length in problems.all_lengths}
        for model in MODELS
    }
    label_accuracy = json.loads((inputs["labels"] / ACCURACY_FILE).read_text())
    losses = {label: _loss_curve(inputs[name], label) for name, label in TRAINED.items()}
    make_report(config, problems, scores, label_accuracy, losses, written).write(folder)


def score(problems: Problems, length: int, written_PW: Tokens) -> Score:
    """Compares what a model wrote with the solver's chains and answers."""
    tests_PL = problems.tests(length)
    return Score(
        problems=len(tests_PL),
        right_answers=int((written_answers(written_PW) == problems.arithmetic.answers(tests_PL)).sum()),
        right_chains=int(exact_matches(written_PW, problems.arithmetic.solutions(tests_PL)).sum()),
    )


def make_report(
    config: EvaluationConfig,
    problems: Problems,
    scores: Scores,
    label_accuracy: Mapping[str, Mapping[str, int]],
    losses: Mapping[str, Curve],
    written: Mapping[tuple[str, int], Tokens],
) -> Report:
    beyond = problems.label_lengths
    student = mean_over(scores["student"], beyond, "chain_exact_match")
    control = mean_over(scores["control"], beyond, "chain_exact_match")
    teacher = mean_over(scores["teacher"], beyond, "answer_accuracy")
    before = mean_over(scores["student_before"], problems.train_lengths, "answer_accuracy")
    trained, labelled = _span(problems.train_lengths), _span(beyond)
    return Report(
        workload="relay",
        title="RELAY: a student that learned longer arithmetic from a looped teacher",
        summary=(
            f"Trained on {trained} operators and on the teacher's chains for {labelled}, the student writes "
            f"{student:.1%} of the chains for {labelled} without a fault; the control, trained as long on {trained} "
            f"alone, {control:.1%}. The teacher, which never saw more than {max(problems.train_lengths)}, answers "
            f"{teacher:.1%} of them rightly."
        ),
        metrics={
            **{model: _metrics(scores[model]) for model in MODELS},
            "train_lengths": list(problems.train_lengths),
            "beyond_lengths": list(beyond),
            "untouched_lengths": list(problems.untouched_lengths),
            "label_accuracy": {
                length: {
                    "answers": counts["right_answers"] / counts["labels"],
                    "chains": counts["right_chains"] / counts["labels"],
                }
                for length, counts in label_accuracy.items()
            },
        },
        gates=(
            Gate(
                name="student - control, whole chains beyond training",
                value=student - control,
                at_least=config.least_gain,
            ),
            Gate(name="teacher answers beyond training", value=teacher, at_least=config.least_teacher),
            Gate(
                name="student before, answers in training lengths",
                value=before,
                at_least=config.least_student_before,
            ),
        ),
        headline=_headline(problems, scores),
        figures=(
            _accuracy_figure(
                problems,
                scores,
                kind="chain_exact_match",
                title="Whole chains right, by number of operators",
                y_label="share of chains without a fault",
            ),
            _accuracy_figure(
                problems,
                scores,
                kind="answer_accuracy",
                title="Answers right, by number of operators",
                y_label="share of answers that are right",
            ),
            Figure(
                title="Training",
                x_label="step",
                y_label="loss, nats",
                log_y=True,
                curves=tuple(losses.values()),
                caption="Teacher: rounds and answer. Students: a token of chain and answer. Batches differ in length.",
            ),
        ),
        tables=(_label_table(label_accuracy), _length_table(problems, scores)),
        samples=_samples(problems, written),
    )


def mean_over(scores: Mapping[int, Score], lengths: Sequence[int], kind: str) -> float:
    """The mean of a share over lengths, each counting alike."""
    return sum(getattr(scores[length], kind) for length in lengths) / len(lengths)


def _metrics(scores: Mapping[int, Score]) -> dict[str, dict[str, float]]:
    return {
        kind: {str(length): round(getattr(score, kind), 6) for length, score in scores.items()}
        for kind in ("answer_accuracy", "chain_exact_match")
    }


def _headline(problems: Problems, scores: Scores) -> Table:
    groups = [group for group in (problems.train_lengths, problems.label_lengths, problems.untouched_lengths) if group]
    tests = max(score.problems for score in scores["teacher"].values())
    return Table(
        title="Right within training, at the labelled lengths, and beyond them",
        columns=(
            "model",
            *(f"answers {_span(group)}" for group in groups),
            *(f"chains {_span(group)}" for group in groups),
        ),
        rows=tuple(
            (
                name,
                *(f"{mean_over(scores[model], group, 'answer_accuracy'):.1%}" for group in groups),
                *(f"{mean_over(scores[model], group, 'chain_exact_match'):.1%}" for group in groups),
            )
            for model, name in MODELS.items()
        ),
        caption="Chains: right from the first token to the end. After: fine-tuned on the teacher's chains. "
        "Control: as many steps more, on short problems only. "
        f"By number of operators; {tests} test problems a length, fewer where few exist; greedy decoding. "
        f"Chance for an answer is {1 / problems.arithmetic.modulus:.0%}.",
    )


def _accuracy_figure(
    problems: Problems,
    scores: Scores,
    *,
    kind: Literal["answer_accuracy", "chain_exact_match"],
    title: str,
    y_label: str,
) -> Figure:
    lengths = sorted(problems.all_lengths)
    curves = []
    for model, name in MODELS.items():
        shares = [getattr(scores[model][length], kind) for length in lengths]
        intervals = [
            wilson_interval(round(share * scores[model][length].problems), scores[model][length].problems)
            for share, length in zip(shares, lengths, strict=True)
        ]
        curves.append(
            Curve(
                label=name,
                x=tuple(float(length) for length in lengths),
                y=tuple(shares),
                low=tuple(low for low, _ in intervals),
                high=tuple(high for _, high in intervals),
            )
        )
    return Figure(
        title=title,
        x_label="operators in the problem",
        y_label=y_label,
        curves=tuple(curves),
        y_range=(0.0, 1.0),
        shaded=(float(min(problems.train_lengths)), float(max(problems.train_lengths))),
        caption=f"Shaded: trained on. The teacher's chains are for {_span(problems.label_lengths)} operators. "
        "Bands: 95 % Wilson intervals.",
    )


def _label_table(label_accuracy: Mapping[str, Mapping[str, int]]) -> Table:
    return Table(
        title="The teacher's labels, by length",
        columns=("operators", "labels", "right answers", "right chains"),
        rows=tuple(
            (
                length,
                f"{counts['labels']:,}",
                _share_with_interval(counts["right_answers"], counts["labels"]),
                _share_with_interval(counts["right_chains"], counts["labels"]),
            )
            for length, counts in sorted(label_accuracy.items(), key=lambda item: int(item[0]))
        ),
        caption="Compared with the solver's, which neither teacher nor student has seen at these lengths. "
        "No label is left out. Brackets: 95 % Wilson intervals.",
    )


def _length_table(problems: Problems, scores: Scores) -> Table:
    return Table(
        title="Whole chains right, by length",
        columns=("operators", "test problems", *MODELS.values()),
        rows=tuple(
            (
                str(length),
                str(scores["teacher"][length].problems),
                *(
                    _share_with_interval(scores[model][length].right_chains, scores[model][length].problems)
                    for model in MODELS
                ),
            )
            for length in sorted(problems.all_lengths)
        ),
        caption="Brackets: 95 % Wilson intervals.",
    )


def _share_with_interval(successes: int, trials: int) -> str:
    low, high = wilson_interval(successes, trials)
    return f"{successes / trials:.1%} ({low:.1%} to {high:.1%})"


def _span(lengths: Sequence[int]) -> str:
    """Such as 6-8, or 3, 5 where lengths are left out between."""
    in_order = sorted(lengths)
    if len(in_order) == 1:
        return str(in_order[0])
    if in_order == list(range(in_order[0], in_order[-1] + 1)):
        return f"{in_order[0]}–{in_order[-1]}"
    return ", ".join(str(length) for length in in_order)


def _loss_curve(folder: Path, label: str) -> Curve:
    """The stage's loss, step by step."""
    curves = json.loads((folder / "curves.json").read_text())
    loss = tuple(curves["metrics"].get("loss", ()))
    return Curve(label=label, x=tuple(float(step) for step in curves["steps"][: len(loss)]), y=loss)


def _samples(problems: Problems, written: Mapping[tuple[str, int], Tokens]) -> tuple[Sample, ...]:
    """One long problem as the control, the student and the teacher work it off, then others, failures first."""
    shown: list[Sample] = []
    longest_labelled = max(problems.label_lengths)
    contrast = _first(problems, longest_labelled, written, right="student", wrong="control")
    for model in ("control", "student", "teacher"):
        shown.append(_sample(problems, longest_labelled, contrast, model, written))
    others: list[tuple[int, str]] = [(max(problems.all_lengths), "student"), (min(problems.label_lengths), "student")]
    for length, model in others:
        place = _first(problems, length, written, wrong=model)
        shown.append(_sample(problems, length, place, model, written))
    return tuple(shown[:_SAMPLES])


def _first(
    problems: Problems, length: int, written: Mapping[tuple[str, int], Tokens], *, wrong: str, right: str | None = None
) -> int:
    """The first test problem that one model fails at and the other does not; the first of all where there is none."""
    solutions_PW = problems.arithmetic.solutions(problems.tests(length))
    fits_P = ~exact_matches(written[wrong, length], solutions_PW)
    if right is not None and (fits_P & exact_matches(written[right, length], solutions_PW)).any():
        fits_P = fits_P & exact_matches(written[right, length], solutions_PW)
    return int(fits_P.argmax())


def _sample(
    problems: Problems, length: int, place: int, model: str, written: Mapping[tuple[str, int], Tokens]
) -> Sample:
    problem_1L = problems.tests(length)[place : place + 1]
    right_steps = steps(problems.arithmetic.solutions(problem_1L)[0])
    own_steps = steps(written[model, length][place])
    lines = compare_steps(problems.arithmetic, own_steps, right_steps)
    faults = sum(line.mark == "wrong" for line in lines)
    verdict = f"{faults} of {len(lines)} steps wrong" if faults else "right"
    problem = SampleLine(label="problem", text=problems.arithmetic.text(problem_1L[0]))
    return Sample(title=f"{length} operators, {MODELS[model]}: {verdict}", lines=(problem, *lines))


def compare_steps(
    arithmetic: Arithmetic, own_steps: Sequence[Sequence[int]], right_steps: Sequence[Sequence[int]]
) -> list[SampleLine]:
    """Each step that was written, or should have been, marked against the right chain's step of the same number."""
    lines = []
    for place in range(max(len(own_steps), len(right_steps))):
        own = list(own_steps[place]) if place < len(own_steps) else []
        should = list(right_steps[place]) if place < len(right_steps) else []
        expected = f"should be: {arithmetic.text(should)}" if should else "should have ended"
        lines.append(
            SampleLine(
                label="answer" if place == len(right_steps) - 1 else f"step {place + 1}",
                text=arithmetic.text(own) if own else "(nothing)",
                mark="right" if own == should else "wrong",
                note="" if own == should else expected,
            )
        )
    return lines
