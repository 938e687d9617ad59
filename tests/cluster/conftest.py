"""Hosts, and a Ray cluster on hosts, one of each for all tests; left out with the reason where they cannot be made."""

from collections.abc import Iterator

import pytest

from infra.drill.cluster import DrillCluster
from infra.drill.hosts import Host, Network, missing


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    if reason := missing():
        pytest.skip(reason)
    with Network(tmp_path_factory.mktemp("hosts")) as network:
        yield network


@pytest.fixture(scope="session")
def two(network: Network) -> tuple[Host, Host]:
    return network.host("first"), network.host("second")


@pytest.fixture
def hosts(two: tuple[Host, Host]) -> Iterator[tuple[Host, Host]]:
    """Two hosts with nothing running on them, whatever an earlier test did."""
    yield two
    for host in two:
        host.kill()
    for host in two:
        host.revive()


@pytest.fixture(scope="session")
def drill_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DrillCluster]:
    """A Ray head, two workers and an S3 server, each on a host of its own."""
    if reason := missing():
        pytest.skip(reason)
    with DrillCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster
