"""RELAY: a looped teacher writes chains of thought for longer problems, and a student learns from them."""

from typing import Annotated

from prefect import flow

from tasks.data import prepare
from tasks.evaluation import evaluate, generate, require
from tasks.forms import ClusterName, Overrides, RunKey, Seed, preset_field
from tasks.publishing import publish
from tasks.runs import RunSummary, begin, name_of_run, summarise
from tasks.training import train


@flow(name="relay", flow_run_name=name_of_run)
def relay(
    preset: Annotated[str, preset_field("relay")] = "laptop",
    cluster: ClusterName = "laptop",
    seed: Seed = 0,
    run_key: RunKey = "",
    overrides: Overrides = None,
) -> RunSummary:
    """Problems -> teacher, student -> the teacher's chains for longer problems -> fine-tuned student, control, arms.

    Args:
        preset: What is run, and how large.
        cluster: Where: the shape of the machines. Results do not depend on it.
        seed: Of weights, batches and labelled problems.
        run_key: The run's name; empty makes one. The key of a run that was stopped goes on with it.
        overrides: Fields of the preset to change, as in {"teacher.max_steps": 500}.
    """
    run, config = begin("relay", preset, cluster, seed, run_key, overrides or {})
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
