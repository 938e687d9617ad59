"""The S3 server of `orchard up`: what is printed for other terminals reaches it, and nothing else does."""

from collections.abc import Iterator

import pytest

from infra.artifacts_remote import remote_at
from infra.local import ports
from infra.local.programs import S3
from infra.local.service import Service
from models.common.errors import RegistryError
from tests.fixtures.s3 import free_port


@pytest.fixture
def s3_of_up() -> Iterator[S3]:
    s3 = S3(free_port())
    service = Service(s3.program())
    service.start()
    service.wait(lambda: False)
    yield s3
    service.stop()
    assert not ports.listens(s3.port)


def test_the_s3_server_takes_the_keys_that_are_printed_and_no_others(s3_of_up: S3, monkeypatch: pytest.MonkeyPatch):
    printed = s3_of_up.client_environment()
    for name, value in printed.items():
        monkeypatch.setenv(name, value)
    remote_at(printed["ORCHARD_REMOTE"], printed["ORCHARD_S3_ENDPOINT"]).check()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(RegistryError, match="cannot write in"):
        remote_at(printed["ORCHARD_REMOTE"], printed["ORCHARD_S3_ENDPOINT"]).check()
