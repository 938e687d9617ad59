"""NQS: a neural quantum state of the doped Hubbard model, trained by natural-gradient variational Monte Carlo."""

from typing import Annotated, TypeAlias

from prefect import flow

from tasks.cancelling import STOPPABLE
from tasks.evaluation import evaluate, generate, require
from tasks.forms import ClusterName, ConfigField, Overrides, RunKey, Seed, changes, preset_field
from tasks.publishing import publish
from tasks.runs import RunSummary, begin, name_of_run, summarise
from tasks.training import train
from tasks.versions import fetch

Lattice: TypeAlias = Annotated[
    str | None,
    ConfigField(
        "nqs",
        "system.lattice",
        "Lattice",
        "Length and width in sites, as in 4x2",
        limits={"pattern": r"^[1-9]\d{0,2}(x[1-9]\d{0,2})?$"},
    ),
]
Filling: TypeAlias = Annotated[
    str | None,
    ConfigField(
        "nqs",
        "system.filling",
        "Electrons",
        "With spin up and with spin down, as in 4,4",
        limits={"pattern": r"^\d{1,4},\d{1,4}$"},
    ),
]
Interaction: TypeAlias = Annotated[
    float | None,
    ConfigField(
        "nqs",
        "system.U",
        "Interaction U (in units of the hopping t)",
        "Energy of two electrons on one site",
        limits={"minimum": 0, "maximum": 100},
    ),
]
TrainingSteps: TypeAlias = Annotated[
    int | None, ConfigField("nqs", "training.max_steps", "Training: steps", "Updates of the state")
]
Walkers: TypeAlias = Annotated[int | None, ConfigField("nqs", "training.batch_size", "Training: walkers")]


@flow(name="nqs", flow_run_name=name_of_run, **STOPPABLE)
def nqs(
    preset: Annotated[str, preset_field("nqs")] = "laptop",
    cluster: ClusterName = "laptop",
    seed: Seed = 0,
    run_key: RunKey = "",
    lattice: Lattice = None,
    filling: Filling = None,
    interaction: Interaction = None,
    training_steps: TrainingSteps = None,
    walkers: Walkers = None,
    overrides: Overrides = None,
) -> RunSummary:
    """System -> start -> variational Monte Carlo -> measurement -> extrapolation and checks -> published state.

    Args:
        preset: Which system, and how large a state.
        cluster: Where: the shape of the machines. Results do not depend on it.
        seed: Of weights and Markov chains.
        run_key: Empty makes one, in place of the name above. That of a run that was stopped goes on with it.
        overrides: Further fields of the preset to change, as in {"system.U": 4, "system.filling": "3,3"}.
    """
    changed = changes(
        nqs,
        overrides,
        lattice=lattice,
        filling=filling,
        interaction=interaction,
        training_steps=training_steps,
        walkers=walkers,
    )
    run, config = begin("nqs", preset, cluster, seed, run_key, changed)

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
