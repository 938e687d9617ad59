"""Regression: points on a noisy plane -> descent -> its error beside the closed form's -> a published version."""

from typing import Annotated, TypeAlias

from prefect import flow

from tasks.cancelling import STOPPABLE
from tasks.data import prepare
from tasks.evaluation import evaluate, require
from tasks.forms import ClusterName, ConfigField, Overrides, RunKey, Seed, changes, preset_field
from tasks.publishing import publish
from tasks.runs import RunSummary, begin, name_of_run, summarise
from tasks.training import train

Steps: TypeAlias = Annotated[int | None, ConfigField("regression", "fit.max_steps", "Descent: steps", "Updates")]


@flow(name="regression", flow_run_name=name_of_run, **STOPPABLE)
def regression(
    preset: Annotated[str, preset_field("regression")] = "laptop",
    cluster: ClusterName = "laptop",
    seed: Seed = 0,
    run_key: RunKey = "",
    steps: Steps = None,
    overrides: Overrides = None,
) -> RunSummary:
    """Points -> descent -> evaluation -> version.

    Args:
        preset: What is run, and how large.
        cluster: Where: the shape of the machines. Results do not depend on it.
        seed: Of weights and batches.
        run_key: Empty makes one, in place of the name above. That of a run that was stopped goes on with it.
        overrides: Further fields of the preset to change, as in {"fit.batch_size": 64}.
    """
    run, config = begin("regression", preset, cluster, seed, run_key, changes(regression, overrides, steps=steps))

    points = prepare.submit(run, config.data)
    fit = train.submit(run, "fit", config.fit, {"points": points})
    evaluation = evaluate.submit(run, "evaluation", config.evaluation, {"points": points, "fit": fit})
    require(run, evaluation)
    artifact = publish(run, fit, evaluation, config, [points])
    return summarise(run, artifact, evaluation.result())
