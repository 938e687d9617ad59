"""Ray and S3 on several hosts: asked over the network, as a client on this machine asks."""

import time
from typing import Any

import boto3
import psutil
import pytest
import requests

from infra.drill.cluster import DrillCluster
from infra.drill.s3_proxy import Fault
from models.common.errors import ClusterError
from tests.fixtures.workers import wait_for

pytestmark = pytest.mark.cluster

_NOTICE_SECONDS = 15  # ten by Ray's settings; a machine with two cores may be busy

_WHERE = """
import ray, socket
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as At
ray.init()
where = ray.remote(num_cpus=1)(lambda: socket.gethostname())
nodes = [each["NodeID"] for each in ray.nodes() if each["Alive"] and each["Resources"].get("CPU")]
print("ran on", *sorted(ray.get([where.options(scheduling_strategy=At(node, soft=False)).remote() for node in nodes])))
print("driver on", socket.gethostname())
"""


def ask(cluster: DrillCluster, method: str, path: str, **body: Any) -> Any:
    headers = {"Authorization": f"Bearer {cluster.token_file.read_text()}"}
    answer = requests.request(method, f"{cluster.ray_address}{path}", headers=headers, json=body or None, timeout=30)
    answer.raise_for_status()
    return answer.json()


def alive(cluster: DrillCluster) -> set[str]:
    nodes = ask(cluster, "GET", "/api/v0/nodes")["data"]["result"]["result"]
    return {node["node_ip"] for node in nodes if node["state"] == "ALIVE"}


@pytest.fixture
def cluster(drill_cluster: DrillCluster) -> DrillCluster:
    """The cluster, with all of its hosts."""
    for worker in drill_cluster.workers:
        if not worker.answers():
            worker.restart()
    drill_cluster.s3.door.set(Fault())
    return drill_cluster


def test_ray_answers_with_the_token_only(cluster: DrillCluster):
    assert alive(cluster) == {node.host.address for node in (cluster.head, *cluster.workers)}
    for headers in ({}, {"Authorization": "Bearer of-another-cluster"}):
        for path in ("/api/v0/nodes", "/api/jobs/"):
            refused = requests.get(f"{cluster.ray_address}{path}", headers=headers, timeout=30)
            assert refused.status_code in {401, 403}


def test_a_host_without_the_token_is_refused(cluster: DrillCluster):
    stranger = cluster.workers[0].host
    wrong = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": stranger.write_private("/run/home/wrong", "0" * 64)}
    asking = ["python", "-m", "ray.scripts.scripts", "health-check", "--address", f"{cluster.head.host.address}:6379"]
    with pytest.raises(ClusterError, match="token is missing or incorrect"):
        stranger.run(asking, wrong)


def test_a_job_runs_on_every_worker_and_its_driver_on_the_head(cluster: DrillCluster):
    job = ask(cluster, "POST", "/api/jobs/", entrypoint=f"python -c '{_WHERE}'")["submission_id"]
    over = {"SUCCEEDED", "FAILED", "STOPPED"}
    wait_for(lambda: ask(cluster, "GET", f"/api/jobs/{job}")["status"] in over, 90)
    logs = ask(cluster, "GET", f"/api/jobs/{job}/logs")["logs"]
    assert "ran on worker-1 worker-2\n" in logs
    assert "driver on head\n" in logs


def test_a_killed_host_is_noticed_and_comes_back(cluster: DrillCluster):
    lost = cluster.workers[1]
    lost.kill()
    began = time.monotonic()
    wait_for(lambda: lost.host.address not in alive(cluster), 60)
    assert time.monotonic() - began < _NOTICE_SECONDS
    assert cluster.workers[0].host.address in alive(cluster)
    lost.restart()
    wait_for(lambda: lost.host.address in alive(cluster), 60)


def test_a_slow_and_lossy_link_is_no_death(cluster: DrillCluster):
    worker = cluster.workers[0]
    worker.host.slow(delay_ms=250, loss_percent=5)
    until = time.monotonic() + 10
    while time.monotonic() < until:
        assert worker.host.address in alive(cluster)
        time.sleep(0.5)
    worker.host.heal()


def test_s3_answers_on_its_host_and_misbehaves_when_told(cluster: DrillCluster):
    environment = cluster.client_environment()
    s3 = boto3.client(
        "s3",
        endpoint_url=environment["ORCHARD_S3_ENDPOINT"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
    )
    door = psutil.Process(cluster.s3.running[1].pid)
    before = door.memory_info().rss
    body = bytes(64 << 20)
    s3.put_object(Bucket=cluster.s3.bucket, Key="large", Body=body)
    assert s3.get_object(Bucket=cluster.s3.bucket, Key="large")["Body"].read() == body
    assert door.memory_info().rss - before < 16 << 20  # it holds no whole body
    cluster.s3.door.set(Fault("error", status=403))
    with pytest.raises(s3.exceptions.ClientError, match="InvalidAccessKeyId"):
        s3.get_object(Bucket=cluster.s3.bucket, Key="large")
    assert cluster.s3.door.counts().faulted["error"] == 1
    cluster.s3.restart()
    assert s3.head_object(Bucket=cluster.s3.bucket, Key="large")["ContentLength"] == len(body)
    unknown = requests.get(f"http://{cluster.s3.host.address}:{cluster.s3.control_port}", timeout=5)
    assert unknown.status_code == 401
