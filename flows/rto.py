"""RTO: preference pairs train a DPO policy, whose token-wise reward PPO then optimises."""

from typing import Annotated, TypeAlias

from prefect import flow

from tasks.cancelling import STOPPABLE
from tasks.data import prepare
from tasks.evaluation import evaluate, generate, require
from tasks.forms import ClusterName, ConfigField, Overrides, RunKey, Seed, changes, preset_field
from tasks.publishing import publish
from tasks.runs import RunSummary, begin, name_of_run, summarise
from tasks.training import train

DpoSteps: TypeAlias = Annotated[
    int | None,
    ConfigField("rto", "dpo.max_steps", "DPO: steps", "Updates of the policy whose log-ratios are the token reward"),
]
Rollouts: TypeAlias = Annotated[int | None, ConfigField("rto", "rto.iterations", "PPO: rollouts")]
TokenReward: TypeAlias = Annotated[
    float | None, ConfigField("rto", "rto.reward.beta1", "PPO: weight of the token reward (beta1)")
]
ResponseReward: TypeAlias = Annotated[
    float | None, ConfigField("rto", "rto.reward.beta3", "PPO: weight of the response's score (beta3)")
]
FurtherSeeds: TypeAlias = Annotated[int | None, ConfigField("rto", "study.seeds", "Study: further seeds")]


@flow(name="rto", flow_run_name=name_of_run, **STOPPABLE)
def rto(
    preset: Annotated[str, preset_field("rto")] = "laptop",
    cluster: ClusterName = "laptop",
    seed: Seed = 0,
    run_key: RunKey = "",
    dpo_steps: DpoSteps = None,
    rollouts: Rollouts = None,
    token_reward: TokenReward = None,
    response_reward: ResponseReward = None,
    further_seeds: FurtherSeeds = None,
    overrides: Overrides = None,
) -> RunSummary:
    """Preference pairs -> supervised start -> reward model, DPO -> PPO on token rewards, beside its baselines.

    Args:
        preset: What is run, and how large.
        cluster: Where: the shape of the machines. Results do not depend on it.
        seed: Of weights, batches and rollouts.
        run_key: Empty makes one, in place of the name above. That of a run that was stopped goes on with it.
        overrides: Further fields of the preset to change, as in {"rto.reward.beta1": 0.1, "baselines": ["ppo"]}.
    """
    changed = changes(
        rto,
        overrides,
        dpo_steps=dpo_steps,
        rollouts=rollouts,
        token_reward=token_reward,
        response_reward=response_reward,
        further_seeds=further_seeds,
    )
    run, config = begin("rto", preset, cluster, seed, run_key, changed)
    part = run.side_by_side(2)

    pairs = {"preferences": prepare.submit(run, config.data)}
    study = {"study": generate.submit(part, "study", config.study_stage, {})} if config.study.is_wanted else {}
    start = train.submit(run, "sft", config.sft_stage, pairs) if config.sft else None

    scored = {}
    if config.reward_model:
        scored["reward_model"] = train.submit(part, "reward_model", config.reward_model_stage, pairs, start_from=start)
    dpo = train.submit(part, "dpo", config.dpo_stage, pairs, start_from=start)
    before = pairs | scored | {"dpo": dpo} | ({"sft": start} if start else {})
    judged = evaluate.submit(part, "dpo_evaluation", config.dpo_evaluation, before)
    require(run, judged)

    arms = {
        name: train.submit(part, name, stage, pairs | scored | {"dpo": dpo}, start_from=start)
        for name, stage in config.arms.items()
    }
    found = {f"arm_{name}": policy for name, policy in arms.items()} | {"dpo_evaluation": judged} | study
    evaluation = evaluate.submit(run, "evaluation", config.evaluation, before | found)
    require(run, evaluation)
    artifact = publish(run, arms["rto"], evaluation, config, list(before.values()), scored)
    return summarise(run, artifact, evaluation.result())
