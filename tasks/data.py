"""prepare: a dataset folder, deterministic in its config."""

from prefect import get_run_logger, task

from infra.datasets import dataset_folder, prepare_dataset
from models.common.contract import DataConfig
from models.common.handles import Dataset
from tasks.runs import Run


@task(task_run_name="prepare")
def prepare(run: Run, config: DataConfig) -> Dataset:
    """The dataset of this config, written or verified."""
    with run.folder.timed("prepare", "data"):
        dataset = prepare_dataset(config, dataset_folder(run.workload, config, run.cluster.storage))
    get_run_logger().info("dataset %s at %s", dataset.sha256[:12], dataset.folder)
    return dataset
