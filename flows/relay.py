"""RELAY: a looped teacher writes chains of thought for longer problems, and a student learns from them."""

from typing import Annotated, TypeAlias

from prefect import flow

from tasks.cancelling import STOPPABLE
from tasks.data import prepare
from tasks.evaluation import evaluate, generate, require
from tasks.forms import ClusterName, ConfigField, Overrides, RunKey, Seed, changes, preset_field
from tasks.publishing import publish
from tasks.runs import RunSummary, begin, name_of_run, summarise
from tasks.training import train

TeacherSteps: TypeAlias = Annotated[
    int | None, ConfigField("relay", "teacher.max_steps", "Teacher: steps", "Updates of the looped teacher")
]
StudentSteps: TypeAlias = Annotated[
    int | None,
    ConfigField("relay", "student.max_steps", "Student: steps", "Updates of the student before it is given labels"),
]
LabelsPerLength: TypeAlias = Annotated[
    int | None,
    ConfigField(
        "relay",
        "labels.problems_per_length",
        "Labels: problems of each length",
        "How many longer problems the teacher labels",
    ),
]
FurtherSteps: TypeAlias = Annotated[
    int | None,
    ConfigField(
        "relay",
        "fine_tuning.max_steps",
        "Fine-tuning: steps",
        "Updates of the student with labels, and of its control without",
        also=("control.max_steps",),
    ),
]
FurtherSeeds: TypeAlias = Annotated[
    int | None,
    ConfigField("relay", "study.seeds", "Study: further seeds", "How often the whole is repeated for intervals"),
]


@flow(name="relay", flow_run_name=name_of_run, **STOPPABLE)
def relay(
    preset: Annotated[str, preset_field("relay")] = "laptop",
    cluster: ClusterName = "laptop",
    seed: Seed = 0,
    run_key: RunKey = "",
    teacher_steps: TeacherSteps = None,
    student_steps: StudentSteps = None,
    labels_per_length: LabelsPerLength = None,
    further_steps: FurtherSteps = None,
    further_seeds: FurtherSeeds = None,
    overrides: Overrides = None,
) -> RunSummary:
    """Problems -> teacher, student -> the teacher's chains for longer problems -> fine-tuned student, control, arms.

    Args:
        preset: What is run, and how large.
        cluster: Where: the shape of the machines. Results do not depend on it.
        seed: Of weights, batches and labelled problems.
        run_key: Empty makes one, in place of the name above. That of a run that was stopped goes on with it.
        overrides: Further fields of the preset to change, as in {"teacher.max_steps": 500}.
    """
    changed = changes(
        relay,
        overrides,
        teacher_steps=teacher_steps,
        student_steps=student_steps,
        labels_per_length=labels_per_length,
        further_steps=further_steps,
        further_seeds=further_seeds,
    )
    run, config = begin("relay", preset, cluster, seed, run_key, changed)
    pair = run.side_by_side(2)

    problems = prepare.submit(run, config.data)
    teacher = train.submit(pair, "teacher", config.teacher, {"problems": problems})
    student_before = train.submit(pair, "student", config.student, {"problems": problems})

    labels = generate.submit(run, "labels", config.labels, {"problems": problems, "teacher": teacher})
    old_and_new = {"problems": problems, "labels": labels}
    student = train.submit(pair, "fine_tuning", config.fine_tuning, old_and_new, start_from=student_before)
    control = train.submit(pair, "control", config.control, {"problems": problems}, start_from=student_before)

    models = {"teacher": teacher, "student_before": student_before, "student": student, "control": control}
    study = generate.submit(run, "study", config.study_stage, {**old_and_new, **models})
    evaluation = evaluate.submit(run, "evaluation", config.evaluation, {**old_and_new, **models, "study": study})
    require(run, evaluation)
    artifact = publish(run, student, evaluation, config, [problems, labels, teacher, student_before])
    return summarise(run, artifact, evaluation.result())
