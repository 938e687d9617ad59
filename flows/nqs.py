"""NQS: a neural quantum state of the doped Hubbard model, trained by natural-gradient variational Monte Carlo."""

from typing import Annotated

from prefect import flow

from tasks.evaluation import evaluate, generate, require
from tasks.forms import ClusterName, Overrides, RunKey, Seed, preset_field
from tasks.publishing import publish
from tasks.runs import RunSummary, begin, name_of_run, summarise
from tasks.training import train
from tasks.versions import fetch


@flow(name="nqs", flow_run_name=name_of_run)
def nqs(
    preset: Annotated[str, preset_field("nqs")] = "laptop",
    cluster: ClusterName = "laptop",
    seed: Seed = 0,
    run_key: RunKey = "",
    overrides: Overrides = None,
) -> RunSummary:
    """System -> start -> variational Monte Carlo -> measurement -> extrapolation and checks -> published state.

    Args:
        preset: Which system, and how large a state.
        cluster: Where: the shape of the machines. Results do not depend on it.
        seed: Of weights and Markov chains.
        run_key: The run's name; empty makes one. The key of a run that was stopped goes on with it.
        overrides: Fields of the preset to change, as in {"system.U": 4, "system.filling": "3,3"}.
    """
    run, config = begin("nqs", preset, cluster, seed, run_key, overrides or {})

    part = run.side_by_side(2) if config.comparison.is_wanted else run

    earlier = fetch(run, config)
    start, others = earlier.get("start"), {name: found for name, found in earlier.items() if name != "start"}
    state = train.submit(part, "training", config.vmc, {}, start_from=start)
    measurement = generate.submit(run, "measurement", config.measure, {"state": state})
    found = {"state": state, "measurement": measurement, **others}
    if config.comparison.is_wanted:
        found["comparison"] = generate.submit(part, "comparison", config.compare, {})

    evaluation = evaluate.submit(run, "evaluation", config.evaluation, found)
    require(run, evaluation)
    artifact = publish(run, state, evaluation, config, [*earlier.values(), measurement])
    return summarise(run, artifact, evaluation.result())
