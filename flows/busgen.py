"""BUSGen: a generator of breast ultrasound, adapted to a few lesions, makes the images that a diagnosis learns from."""

from typing import Annotated, TypeAlias

from prefect import flow

from tasks.cancelling import STOPPABLE
from tasks.data import prepare
from tasks.evaluation import evaluate, generate, require
from tasks.forms import ClusterName, ConfigField, Overrides, RunKey, Seed, changes, preset_field
from tasks.publishing import publish
from tasks.runs import RunSummary, begin, name_of_run, summarise
from tasks.training import train

PretrainingSteps: TypeAlias = Annotated[
    int | None, ConfigField("busgen", "pretraining.max_steps", "Pretraining: steps", "Updates of the generator")
]
Shots: TypeAlias = Annotated[int | None, ConfigField("busgen", "task.shots", "Adaptation: known lesions")]
AdaptationSteps: TypeAlias = Annotated[
    int | None,
    ConfigField("busgen", "adaptation.max_steps", "Adaptation: steps", "Updates of the generator on the few lesions"),
]
GeneratedImages: TypeAlias = Annotated[int | None, ConfigField("busgen", "generation.images", "Generation: images")]
LesionDraws: TypeAlias = Annotated[int | None, ConfigField("busgen", "study.draws", "Study: draws of the few lesions")]


@flow(name="busgen", flow_run_name=name_of_run, **STOPPABLE)
def busgen(
    preset: Annotated[str, preset_field("busgen")] = "laptop",
    cluster: ClusterName = "laptop",
    seed: Seed = 0,
    run_key: RunKey = "",
    pretraining_steps: PretrainingSteps = None,
    shots: Shots = None,
    adaptation_steps: AdaptationSteps = None,
    generated_images: GeneratedImages = None,
    lesion_draws: LesionDraws = None,
    overrides: Overrides = None,
) -> RunSummary:
    """Audited images -> optimal loss -> pretraining -> adaptation -> generated images -> diagnosis -> privacy.

    Args:
        preset: Which images, and how large a generator.
        cluster: Where: the shape of the machines. Results do not depend on it.
        seed: Of weights, batches, noise, and which lesions are the few.
        run_key: Empty makes one, in place of the name above. That of a run that was stopped goes on with it.
        overrides: Further fields of the preset to change, as in {"task.shots": 8, "generation.images": 400}.
    """
    changed = changes(
        busgen,
        overrides,
        pretraining_steps=pretraining_steps,
        shots=shots,
        adaptation_steps=adaptation_steps,
        generated_images=generated_images,
        lesion_draws=lesion_draws,
    )
    run, config = begin("busgen", preset, cluster, seed, run_key, changed)
    part, single = run.side_by_side(2), run.side_by_side(1 + config.study.draws)

    images = {"images": prepare.submit(run, config.data)}
    optimum = {"optimal_loss": generate.submit(part, "optimal_loss", config.optimal_loss_stage, images)}
    probes = train.submit(part, "probes", config.probes_stage, images)
    base = train.submit(run, "pretraining", config.pretraining_stage, images | optimum)
    models = images | {"probes": probes, "pretraining": base}

    adapter = train.submit(part, "adaptation", config.adaptation_stage, images, start_from=base)
    adapted = models | {"adaptation": adapter}
    generated = {"generated": generate.submit(part, "generation", config.generation_stage, adapted)}
    classifier = train.submit(part, "classifier", config.classifier_stage, images | generated)
    draws = {
        f"draw_{draw}": generate.submit(
            single, f"draw_{draw}", config.draw_stage(draw), models | (generated if draw == 0 else {})
        )
        for draw in reversed(range(config.study.draws))
    }

    found = adapted | optimum | generated | {"classifier": classifier} | draws
    evaluation = evaluate.submit(run, "evaluation", config.evaluation_stage, found)
    require(run, evaluation)
    parts = {"adapter": adapter, "probes": probes, "classifier": classifier}
    artifact = publish(run, base, evaluation, config, [*images.values(), *generated.values()], parts)
    return summarise(run, artifact, evaluation.result())
