"""The Prefect server that runs, reached: by what comes from a terminal and is no flow."""

from collections.abc import Iterator
from contextlib import contextmanager

from httpx import HTTPStatusError
from prefect.client.orchestration import SyncPrefectClient, get_client

from infra.doctor import require_prefect
from infra.settings import settings
from models.common.errors import ClusterError


@contextmanager
def connected() -> Iterator[SyncPrefectClient]:
    """A client of the running server; raises ClusterError where there is none, or it refuses our login."""
    address = settings().prefect_api
    if address is None:
        raise ClusterError(
            "no Prefect server runs here\nfits: one that lasts; start it with `orchard up`, or set PREFECT_API_URL"
        )
    require_prefect()
    with get_client(sync_client=True) as client:
        try:
            client.request("GET", "/admin/version")
        except HTTPStatusError as error:
            if error.response.status_code not in (401, 403):
                raise
            raise ClusterError(
                f"the Prefect server at {address} refuses our login\n"
                "set PREFECT_API_AUTH_STRING to what the server was started with"
            ) from None
        yield client
