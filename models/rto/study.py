"""The pipeline again in small, seed after seed: what intervals over seeds and the length trap are made of."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from models.common.contract import World
from models.common.in_process import train_in_process
from models.rto.comparison import Seed, Training
from models.rto.config import StudyStage
from models.rto.data_config import PreferenceData
from models.rto.dpo_evaluation import judge_pairs
from models.rto.measurement import make_judge, policy_and_reference
from models.rto.policy_config import DecoderConfig
from models.rto.preferences import Preferences

STUDY_FILE = "study.json"

# The arms of the length trap, by what each changes in RTO's settings.
TRAP_ARMS: dict[str, dict[str, Any]] = {
    "rto": {},
    "rto_without_score": {"reward.beta3": 0.0},
    "rto_without_clip": {"reward.log_ratio_clip": None},
    "rs_ppo": {"reward.layout": "rs_ppo"},
    "ppo": {"reward.layout": "ppo"},
}


@dataclass(frozen=True)
class Study:
    """What the seeds gave, and those of the length trap."""

    seeds: list[Seed]
    length_trap: list[Seed]

    @classmethod
    def read(cls, folder: Path) -> "Study":
        found = json.loads((folder / STUDY_FILE).read_text())
        return cls(*([Seed.from_json(seed) for seed in found[part]] for part in ("seeds", "length_trap")))


def shards(config: StudyStage) -> list[dict[str, Any]]:
    """Each further seed, and each of the length trap. The run's own seed is number 0, and is not repeated."""
    seeds = [{"kind": "seeds", "number": number} for number in range(1, config.seeds + 1)]
    return seeds + [{"kind": "length_trap", "number": number} for number in range(config.length_trap_seeds)]


def process(config: StudyStage, shard: dict[str, Any], world: World) -> Seed:
    """All arms of one seed, with data of its own."""
    number = shard["number"]
    world = replace(world, seed=world.seed + number)
    data = config.data.but(seed=config.data.seed + number)
    scored = data
    if shard["kind"] == "length_trap":
        # The score comes from people who did not care for length, as a reward model from elsewhere would.
        scored = data.but(task=config.length_trap.but(length_bias=0.0))
        config, data = in_length_trap(config), data.but(task=config.length_trap)
    with TemporaryDirectory(prefix="orchard-study-") as folder:
        return run_seed(config, data, world, Path(folder), scored=scored)


def in_length_trap(config: StudyStage) -> StudyStage:
    """The study with the arms of the length trap, and responses as long as its task has them."""
    task, iterations = config.length_trap, config.length_trap_iterations
    rto = config.arms["rto"].but(
        most_response=task.longest, iterations=iterations, max_steps=iterations * config.arms["rto"].updates
    )
    arms = {name: rto.with_overrides(changes) for name, changes in TRAP_ARMS.items()}
    return _with_room(config.but(arms={name: arm.model_dump() for name, arm in arms.items()}), task.longest + 1)


def _with_room(config: StudyStage, context: int) -> StudyStage:
    """The study with networks that take at least so many tokens."""
    values = config.model_dump()
    networks = [values["dpo"]["policy"]]
    networks += [] if config.sft is None else [values["sft"]["policy"]]
    networks += [] if config.reward_model is None else [values["reward_model"]["network"]]
    networks += [arm[name] for arm in values["arms"].values() for name in ("policy", "scorer")]
    for network in networks:
        if network["kind"] == DecoderConfig().kind:
            network["context"] = max(network["context"], context)
    return StudyStage.model_validate(values)


def run_seed(
    config: StudyStage, data: PreferenceData, world: World, folder: Path, *, scored: PreferenceData | None = None
) -> Seed:
    """Data, supervised start, reward model, DPO, then every arm, one after the other in this process.

    scored: pairs for the reward model; None: the same.
    """
    inputs = {"preferences": _prepared(data, folder / "preferences")}
    start = None
    if config.sft is not None:
        start = train_in_process(config.sft, world, folder / "sft", inputs).folder
    models: dict[str, Path] = {}
    if config.reward_model is not None:
        pairs = inputs if scored in (None, data) else {"preferences": _prepared(scored, folder / "scored")}
        models["reward_model"] = train_in_process(
            config.reward_model, world, folder / "reward_model", pairs, start
        ).folder
    dpo = train_in_process(config.dpo, world, folder / "dpo", inputs, start).folder

    before = inputs | models | {"dpo": dpo}
    found = replace(world, inputs=before | ({} if start is None else {"sft": start}))
    preferences = Preferences.read(inputs["preferences"])
    judge = make_judge(found, preferences, config.arms["rto"])

    def measured(policy_folder: Path | None) -> dict[str, float]:
        pair = policy_and_reference(config.dpo.policy, preferences.vocabulary, found, policy_folder)
        return judge.measure(*pair, config.samples).means()

    of_start = measured(None)
    arms: dict[str, Training] = {}
    for name, stage in config.arms.items():
        trained = train_in_process(stage, world, folder / f"arm_{name}", before, start)
        arms[name] = Training.of(
            trained.metrics,
            stage.rollouts,
            start=of_start,
            final=measured(trained.folder),
            stopped=trained.stopped,
        )
    return Seed(
        seed=world.seed,
        start=of_start,
        dpo=measured(dpo),
        pairs=asdict(judge_pairs(config.dpo, config.reward_model, found, preferences)),
        arms=arms,
    )


def _prepared(data: PreferenceData, folder: Path) -> Path:
    folder.mkdir()
    data.prepare(folder)
    return folder


def collect(config: StudyStage, parts: list[Seed], folder: Path) -> None:
    """Writes what every seed gave."""
    found: Mapping[str, list[dict[str, Any]]] = {"seeds": [], "length_trap": []}
    for shard, seed in zip(shards(config), parts, strict=True):
        found[shard["kind"]].append(seed.as_json())
    (folder / STUDY_FILE).write_text(json.dumps(found) + "\n")
