"""train: a stage's learner, on the cluster's workers, from its newest checkpoint to its end."""

from prefect import task

from models.common.contract import StageConfig
from models.common.handles import Checkpoint, Handle
from tasks.runs import Run
from tasks.stages import is_worth_a_retry, run_stage


@task(task_run_name="train-{stage}", retries=2, retry_delay_seconds=5, retry_condition_fn=is_worth_a_retry)
def train(
    run: Run, stage: str, config: StageConfig, inputs: dict[str, Handle], start_from: Checkpoint | None = None
) -> Checkpoint:
    """The trained stage. A retry, or the same run key again, attaches to the running job or resumes."""
    result = run_stage(run, "train", stage, config, inputs, start_from)
    return Checkpoint(**result.model_dump())
