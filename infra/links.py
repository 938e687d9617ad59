"""Where a person finds what a run shows elsewhere: addresses for the run page."""

from infra import launch
from infra.local import state


def job_page(run_key: str, stage: str) -> str | None:
    """The page of the stage's job in Ray's dashboard, or None while no Ray is up."""
    address = launch.dashboard()
    return f"{address}/#/jobs/{run_key}.{stage}" if address else None


def version_page(name: str, version: str) -> str | None:
    """The served report of a version, or None where no `orchard up` serves one."""
    services = state.running()
    return f"{services.reports}/{name}/{version}/" if services and services.reports else None
