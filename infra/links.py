"""Where a person finds what a run shows elsewhere: addresses for the run page."""

from infra import ray_client
from infra.local import state
from infra.settings import settings


def job_page(job: str) -> str | None:
    """The page of a job in Ray's dashboard, or None while no Ray is up."""
    address = ray_client.dashboard()
    return f"{address}/#/jobs/{job}" if address else None


def version_page(name: str, version: str) -> str | None:
    """The served report of a version, or None where no `orchard up` serves one."""
    services = state.running(settings().home)
    return f"{services.reports}/{name}/{version}/" if services and services.reports else None
