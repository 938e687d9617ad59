"""generate, evaluate, require: what trained models produce, how good it is, and whether that is enough."""

from prefect import task

from infra.report_page import write_page
from models.common.contract import MapConfig
from models.common.errors import GateFailed
from models.common.handles import Dataset, Evaluation, Handle
from models.common.report import Report
from tasks.run_page import show_result
from tasks.runs import Run, describe
from tasks.stages import is_worth_a_retry, run_stage


@task(task_run_name="generate-{stage}", retries=2, retry_delay_seconds=5, retry_condition_fn=is_worth_a_retry)
def generate(run: Run, stage: str, config: MapConfig, inputs: dict[str, Handle]) -> Dataset:
    """A dataset that a trained model writes, spread over the cluster's slots."""
    return Dataset(**run_stage(run, "generate", stage, config, inputs).model_dump())


@task(task_run_name="evaluate-{stage}", retries=2, retry_delay_seconds=5, retry_condition_fn=is_worth_a_retry)
def evaluate(run: Run, stage: str, config: MapConfig, inputs: dict[str, Handle]) -> Evaluation:
    """The report on trained models, spread over the cluster's slots; its tables and pictures stand on the run page."""
    evaluation = Evaluation(**run_stage(run, "evaluate", stage, config, inputs).model_dump())
    show_result(run.folder, Report.read(evaluation.folder))
    return evaluation


@task(task_run_name="require-gates")
def require(run: Run, evaluation: Evaluation) -> None:
    """Raises GateFailed, by how much and where the report is, unless its gates passed."""
    report = Report.read(evaluation.folder)
    try:
        report.require_gates()
    except GateFailed as missed:
        page = run.folder.folder / "report.html"
        write_page(report, describe(run), page)
        raise GateFailed(f"{missed}\nnothing was published; the report is {page}") from None
