"""A whole pipeline as the ground of faults: a flow that Prefect's worker runs, on hosts, with a version at its end."""

import json
import random
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from infra.drill.cluster import DrillCluster
from infra.drill.prefect_nodes import POOL
from infra.drill.scene import wait
from infra.json_lines import read_lines
from infra.runs import StageFolder
from models.common.errors import ClusterError

_WORKLOAD, _STAGE, _STEPS = "nqs", "training", 600
_MOMENTS = (40, 300)  # steps of training: a fault comes between them
_OVER = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
_RETRIES = 3
_PATIENCE_SECONDS = 300.0


class Pipeline:
    """The cluster, and what the pipeline publishes where nothing disturbs it."""

    def __init__(self, cluster: DrillCluster, folder: Path, seed: int) -> None:
        self.cluster = cluster
        self.folder = folder
        self.random = random.Random(seed)
        self.undisturbed = ""
        self._number = 0
        self._deployment = self._deploy()

    def measure(self) -> None:
        """Runs the pipeline in peace."""
        peace = self.run("peace")
        peace.wait_published()
        self.undisturbed = peace.weights()

    def run(self, name: str) -> "Run":
        """Begins the pipeline anew, as a form of the UI does."""
        self._number += 1
        key = f"drill-{self._number}-{name}"
        parameters = {"preset": "tiny", "run_key": key, "training_steps": _STEPS}
        made = self.ask("POST", f"deployments/{self._deployment}/create_flow_run", {"parameters": parameters})
        return Run(self, key, made["id"])

    def moment(self) -> int:
        """A random step of training."""
        return self.random.randint(*_MOMENTS)

    def heal(self) -> None:
        """All hosts up, whatever the last fault left."""
        for node in self.cluster.nodes:
            if not (node.answers() and all(process.alive() for process in node.running)):
                node.restart()

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Prefect's answer; raises OSError where there is none."""
        server = self.cluster.prefect
        data = None if body is None else json.dumps(body).encode()
        headers = {**server.login(), "Content-Type": "application/json"}
        request = urllib.request.Request(f"{server.api}/{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer) if answer.status != 204 else None

    def _deploy(self) -> str:
        flow = self.ask("POST", "flows/", {"name": _WORKLOAD})["id"]
        deployment = {
            "name": "drill",
            "flow_id": flow,
            "work_pool_name": POOL,
            "entrypoint": f"flows.{_WORKLOAD}.{_WORKLOAD}",
            "pull_steps": [{"infra.checkout.enter": {}}],
        }
        return self.ask("POST", "deployments/", deployment)["id"]


class Run:
    """One run of the pipeline, as its page shows it and as the flow's host keeps it."""

    def __init__(self, pipeline: Pipeline, key: str, flow_run: str) -> None:
        self.pipeline = pipeline
        self.key = key
        self.flow_run = flow_run
        self.retries = 0

    @property
    def home(self) -> Path:
        return self.pipeline.cluster.flows.home

    def state(self) -> str:
        """As Prefect tells it; UNKNOWN while it does not answer."""
        with suppress(OSError):
            return self.pipeline.ask("GET", f"flow_runs/{self.flow_run}")["state"]["type"]
        return "UNKNOWN"

    def seen(self, kind: str) -> list[dict[str, Any]]:
        """What the flow has been told of training."""
        events = StageFolder(self.home / "runs" / self.key / _STAGE).events
        return [event for event in read_lines(events) if event["kind"] == kind]

    def step(self) -> int:
        return max((event["step"] for event in self.seen("step")), default=0)

    def wait_step(self, step: int) -> None:
        wait(lambda: self.step() >= step or self.state() in _OVER, f"step {step} of {self.key}", _PATIENCE_SECONDS)
        if (state := self.state()) in _OVER:
            raise ClusterError(f"{self.key} was {state} before step {step}")

    def wait_attached(self, since: float) -> None:
        """Returns once the flow tells of training that came after this time."""
        wait(
            lambda: self.state() in _OVER or any(event["time"] > since for event in self.seen("step")),
            f"{self.key} to go on",
            _PATIENCE_SECONDS,
        )

    def wait_ended(self) -> str:
        wait(lambda: self.state() in _OVER, f"the end of {self.key}", _PATIENCE_SECONDS)
        return self.state()

    def retry(self) -> None:
        """As the button of that name on the run's page does."""
        self.retries += 1
        state = {"type": "SCHEDULED", "name": "AwaitingRetry"}
        self.pipeline.ask("POST", f"flow_runs/{self.flow_run}/set_state", {"state": state, "force": True})

    def wait_published(self) -> None:
        """Returns once it has completed, tried again where it did not; raises ClusterError for a run that cannot."""
        while self.wait_ended() != "COMPLETED":
            if self.retries == _RETRIES:
                raise ClusterError(f"{self.key} was {self.state()} {_RETRIES + 1} times")
            self.retry()
        if (count := len(self.versions())) != 1:
            raise ClusterError(f"{self.key} has published {count} versions")

    def versions(self) -> list[str]:
        """The commits of the registry that published this run."""
        flows = self.pipeline.cluster.flows
        log = ["log", "--format=%H", "--all", "--fixed-strings", f"--grep={self.key}"]
        return flows.host.run(["git", "--git-dir", f"{flows.orchard_home}/registry.git", *log]).split()

    def weights(self) -> str:
        """The fingerprint of what it has trained."""
        finished = StageFolder(self.home / "runs" / self.key / _STAGE).finished()
        if finished is None:
            raise ClusterError(f"{self.key} left no weights")
        return finished

    def process(self) -> psutil.Process:
        """The process of the flow, which Prefect's worker started."""
        found = [each for each in self.pipeline.cluster.flows.host.processes() if _runs_flow(each)]
        if not found:
            raise ClusterError(f"no process runs {self.key}")
        return max(found, key=lambda each: each.create_time())


def _runs_flow(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return "prefect.engine" in " ".join(process.cmdline())
    return False
