"""`orchard up`: starts the services, waits until all answer, keeps them running, and stops all of them."""

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psutil

from infra import leftovers, preflight, ray_client, ray_head
from infra.clusters import LAPTOP
from infra.local import ports, state
from infra.local.lost_runs import LostRuns, most_restarts
from infra.local.prefect_api import PrefectApi
from infra.local.programs import S3, prefect_server, prefect_worker
from infra.local.service import Service, end_leftovers
from infra.local.state import Services
from infra.processes import Identity
from infra.settings import ROOT, settings, take_environment, worker_environment
from models.common.errors import ClusterError

_LOOK_SECONDS = 1.0
_MEND_SECONDS = 15.0
_DEPLOY_SECONDS = 180


@dataclass(frozen=True)
class Wanted:
    """What `orchard up` was asked."""

    port: int
    reports_port: int
    s3_port: int | None  # None: no S3 server
    deploy: tuple[str, ...]  # the command that makes the deployments


class Supervisor:
    """The services of this ORCHARD_HOME, for as long as this process runs."""

    def __init__(self, wanted: Wanted, say: Callable[[str], None]) -> None:
        self.say = say
        self._deploy = wanted.deploy
        self._stopping = threading.Event()
        self._home = settings().home
        days = leftovers.kept_days()
        port = ports.choose(wanted.port, "the Prefect server", "--port")
        self.s3 = None
        if wanted.s3_port is not None:
            self.s3 = S3(ports.choose(wanted.s3_port, "the S3 server", "--s3-port"))
            take_environment(self.s3.client_environment())
        self.ui = f"http://127.0.0.1:{port}"
        auth_string = state.auth_string(self._home)
        self.api = PrefectApi(f"{self.ui}/api", auth_string)
        self._environment = worker_environment(self.api.address, auth_string)
        self._server = Service(prefect_server(port, self.api, days))
        self._worker = Service(prefect_worker(self.api, self._environment))
        self._store = [Service(self.s3.program())] if self.s3 else []
        self._lost = LostRuns(self.api)
        self._reports = _Reports(wanted.reports_port)
        self._ray_address = settings().ray_address

    def run(self, show: Callable[[Services], None]) -> None:
        """Returns when a signal asked it to stop and everything has ended. Raises what keeps it from starting."""
        with self._stopped_by_signals():
            try:
                self._start()
                services = self._tell()
                show(services)
                self._watch()
            except _Stop:
                pass
            finally:
                self.say("stopping; runs under way go on with the next orchard up")
                self._stop()

    def _start(self) -> None:
        ray_client.start_ahead(LAPTOP)
        for service in (self._server, *self._store):
            service.start()
        for service in (*self._store, self._server):
            self._wait(service)
        self._make_deployments()
        self._wait_for_ray()
        self._reports.start()
        self._mend(None)
        self._worker.start()
        self._wait(self._worker)

    def _wait(self, service: Service) -> None:
        service.wait(self._stopping.is_set)
        self._leave_if_asked()

    def _wait_for_ray(self) -> None:
        ray_client.start_ahead(LAPTOP)
        if head := self._head():
            ray_head.wait_until_ready(head)
        self._leave_if_asked()

    def _head(self) -> ray_head.Head | None:
        """The Ray of this machine; None where the user named another."""
        return None if self._ray_address else ray_head.current()

    def _make_deployments(self) -> None:
        done = subprocess.run(
            self._deploy, cwd=ROOT, env=self._environment, capture_output=True, text=True, timeout=_DEPLOY_SECONDS
        )
        self._leave_if_asked()
        if done.returncode:
            raise ClusterError(f"the deployments could not be made\n{(done.stderr or done.stdout).strip()[-2000:]}")

    def _tell(self) -> Services:
        head = self._head()
        own = Identity.of(psutil.Process().pid)
        services = Services(
            ui=self.ui,
            ray=head.address if head else self._ray_address or "",
            reports=self._reports.address,
            s3=self.s3.endpoint if self.s3 else None,
            pid=own.pid,
            created=own.created,
        )
        state.tell(self._home, services)
        return services

    def _watch(self) -> None:
        """Looks after the services until it is asked to stop."""
        mended = time.monotonic()
        while not self._stopping.wait(_LOOK_SECONDS):
            for service in self._store:
                if not service.alive():
                    self._revive(service)
            if not self._server.alive():
                self._revive(self._server)
            if not self._worker.alive():
                self._mend(None)
                self._revive(self._worker)
            if not self._ray_address and self._head() is None:
                self.say("Ray ended; it is started again")
                self._wait_for_ray()
                self._tell()
            if time.monotonic() - mended >= _MEND_SECONDS:
                mended = time.monotonic()
                self._mend(self._worker)

    def _revive(self, service: Service) -> None:
        pause = service.pause()
        self.say(f"the {service.program.name} ended; it is started again{f' in {pause:.0f} s' if pause else ''}")
        service.stop()
        if not self._stopping.wait(pause):
            service.start()
            with suppress(ClusterError):  # it is looked at again at once
                self._wait(service)

    def _mend(self, worker: Service | None) -> None:
        """Runs whose process is gone are scheduled anew; `worker` is None where there is none that could have them."""
        pid = worker.process.pid if worker and worker.process else None
        try:
            for name in self._lost.mend(pid, at_once=worker is None):
                self.say(f"run {name} had lost its process; it goes on")
        except (ClusterError, OSError) as error:
            self.say(f"lost runs were not looked for: {str(error).splitlines()[0]}")

    def _stop(self) -> None:
        """Ends everything. Runs under way are scheduled, and go on with the next `orchard up`."""
        state.tell(self._home, None)
        self._worker.stop()
        if self._server.alive():
            self._mend(None)
        self._reports.stop()
        for user in ray_head.release():
            self.say(f"Ray stays, because process {user} uses it")
        for service in (self._server, *self._store):
            service.stop()

    def _leave_if_asked(self) -> None:
        if self._stopping.is_set():
            raise _Stop

    @contextmanager
    def _stopped_by_signals(self) -> Iterator[None]:
        def stop(_number: int, _frame: Any) -> None:
            self._stopping.set()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Stop(Exception):
    """Leaves the start-up."""


class _Reports:
    """The site of reports, in a thread."""

    def __init__(self, port: int) -> None:
        from infra.report_site.server import serve

        self._server = serve("127.0.0.1", ports.choose(port, "the reports' site", "--reports-port"))

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if hasattr(self, "_thread"):
            self._server.shutdown()
        self._server.server_close()


def up(wanted: Wanted, say: Callable[[str], None], show: Callable[[Services], None]) -> None:
    """Runs the services of this ORCHARD_HOME until a signal; `show` gets their addresses once all of them answer."""
    for number in (most_restarts, leftovers.kept_days):
        number()  # a wrong one is refused here, and not when the first run has crashed
    home = settings().home
    preflight.require_space(home)
    with state.only_one(home):
        for name in end_leftovers():
            say(f"the {name} that an earlier orchard up left was ended")
        Supervisor(wanted, say).run(show)


def down(patience: float) -> bool:
    """Stops the `orchard up` of this ORCHARD_HOME, and what a killed one left; says whether there was any.

    Raises ClusterError where it has not ended in `patience` seconds.
    """
    home = settings().home
    if not home.is_dir():
        return False
    pid = state.holder(home)
    if pid is not None:
        process = psutil.Process(pid)
        process.terminate()
        _, left = psutil.wait_procs([process], timeout=patience)
        if left:
            raise ClusterError(f"orchard up, process {pid}, has not ended in {patience:.0f} s\nlook at its terminal")
    with state.only_one(home):
        left = end_leftovers()
        ray = ray_head.stop_unused()
        return pid is not None or bool(left) or ray
