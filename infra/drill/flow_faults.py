"""The faults of who follows a run: its flow, and Prefect's worker, server and database."""

import time
from collections.abc import Callable

from infra.drill.card import Drill, Row
from infra.drill.hosts import DISK
from infra.drill.nodes import Node
from infra.drill.pipeline import Pipeline, Run
from infra.drill.scene import wait
from models.common.errors import ClusterError

_DOWN_SECONDS = 20
PUBLISHED_ONCE = "training goes on; the flow re-attaches; exactly one version is published"


def flow_killed(pipeline: Pipeline) -> Row:
    run = _at_a_moment(pipeline, "flow")
    began = time.time()
    run.process().kill()
    wait(lambda: run.state() == "CRASHED", "Prefect's worker to tell of the crash")
    noticed = time.time() - began
    run.retry()
    return _published_once(run, FLOW_DRILLS["flow"], began, noticed)


def worker_killed(pipeline: Pipeline) -> Row:
    """The flow ends with who started it; the next worker takes the run where Retry is asked for."""
    run = _at_a_moment(pipeline, "prefect-worker")
    began = time.time()
    for process in pipeline.cluster.flows.running:
        process.kill()
    pipeline.cluster.flows.restart()
    run.retry()
    return _published_once(run, FLOW_DRILLS["prefect-worker"], began)


def flow_host_killed(pipeline: Pipeline) -> Row:
    """Nobody is left to say that the run is over: Retry needs no more than the host."""
    run = _at_a_moment(pipeline, "flow-host")
    began = time.time()
    _restarted_after(pipeline.cluster.flows, 0)
    run.retry()
    return _published_once(run, FLOW_DRILLS["flow-host"], began)


def server_killed(pipeline: Pipeline) -> Row:
    run = _at_a_moment(pipeline, "server")
    began = time.time()
    _restarted_after(pipeline.cluster.prefect, _DOWN_SECONDS)
    return _published_once(run, FLOW_DRILLS["server"], began)


def database_killed(pipeline: Pipeline) -> Row:
    run = _at_a_moment(pipeline, "database")
    began = time.time()
    _restarted_after(pipeline.cluster.database, _DOWN_SECONDS)
    return _published_once(run, FLOW_DRILLS["database"], began)


def database_full(pipeline: Pipeline) -> Row:
    """PostgreSQL may end where its log finds no room; it is started again when there is some."""
    run = _at_a_moment(pipeline, "database-full")
    began = time.time()
    database = pipeline.cluster.database
    _full_for(database, _DOWN_SECONDS)
    if not database.answers():
        database.restart()
    return _published_once(run, FLOW_DRILLS["database-full"], began)


def flow_disk_full(pipeline: Pipeline) -> Row:
    """Where the flow keeps what it is told, and would put its result."""
    run = _at_a_moment(pipeline, "flow-full")
    began = time.time()
    _full_for(pipeline.cluster.flows, _DOWN_SECONDS)
    return _published_once(run, FLOW_DRILLS["flow-full"], began)


def _at_a_moment(pipeline: Pipeline, name: str) -> Run:
    """A run of the pipeline at a random step of its training."""
    run = pipeline.run(name)
    run.wait_step(pipeline.moment())
    return run


def _restarted_after(node: Node, seconds: float) -> None:
    node.kill()
    time.sleep(seconds)
    node.restart()


def _full_for(node: Node, seconds: float) -> None:
    node.host.fill(DISK)
    time.sleep(seconds)
    node.host.drain(DISK)


def _published_once(run: Run, drill: Drill, began: float, noticed: float | None = None) -> Row:
    """The row of a run that ends with one version of the undisturbed weights, trained by one group of workers."""
    run.wait_attached(time.time())
    resumed = time.time() - began
    run.wait_published()
    if run.weights() != run.pipeline.undisturbed:
        raise ClusterError("the weights are not those of the undisturbed run")
    if (groups := len(run.seen("started"))) != 1:
        raise ClusterError(f"{groups} groups of workers have trained")
    return drill.seen(notice_seconds=noticed, resume_seconds=resumed, steps_lost=0)


def _drill(title: str, play: Callable[[Pipeline], Row]) -> Drill:
    return Drill(title, PUBLISHED_ONCE, play, core=False)


FLOW_DRILLS = {
    "flow": _drill("SIGKILL the flow process; Retry", flow_killed),
    "prefect-worker": _drill("SIGKILL the Prefect worker; Retry", worker_killed),
    "flow-host": _drill("SIGKILL the host of flow and Prefect worker; Retry", flow_host_killed),
    "flow-full": _drill(f"the flow's disk is full for {_DOWN_SECONDS} s", flow_disk_full),
    "server": _drill(f"SIGKILL the Prefect server's host, for {_DOWN_SECONDS} s", server_killed),
    "database-full": _drill(f"PostgreSQL's disk is full for {_DOWN_SECONDS} s", database_full),
    "database": _drill(f"SIGKILL PostgreSQL's host, for {_DOWN_SECONDS} s", database_killed),
}
