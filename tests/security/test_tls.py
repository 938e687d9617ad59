"""S3 over TLS, with a certificate of one's own authority: what docs/tls.md says is so."""

import datetime as dt
import ipaddress
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from infra import artifacts
from infra.local import ports
from infra.local.programs import S3
from infra.objects import Objects
from models.common.errors import StorageError
from tests.fixtures.registry import an_artifact, contents, published
from tests.fixtures.s3 import S3Server, free_port
from tests.fixtures.workers import wait_for


def _signed(subject: str, key: ec.EllipticCurvePrivateKey, by: ec.EllipticCurvePrivateKey, *, authority: bool) -> bytes:
    now = dt.datetime.now(dt.UTC)
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(here, critical=False)
        .sign(by, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """The certificate of an authority; beside it a server's, signed by it, with its key."""
    ours, servers = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "ca.pem").write_bytes(_signed("authority", ours, ours, authority=True))
    (tmp_path / "cert.pem").write_bytes(_signed("server", servers, ours, authority=False))
    kept = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "key.pem").write_bytes(servers.private_bytes(serialization.Encoding.PEM, *kept))
    return tmp_path / "ca.pem"


@pytest.fixture
def endpoint(s3: S3Server, authority: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The S3 server of `orchard up`, but with a certificate."""
    served = S3(free_port())
    program = served.program()
    for name, value in served.client_environment().items():
        monkeypatch.setenv(name, value)
    secured = ("--cert", str(authority.with_name("cert.pem")), "--key", str(authority.with_name("key.pem")))
    process = subprocess.Popen([*program.command, *secured], env=program.environment, stderr=subprocess.DEVNULL)
    wait_for(lambda: ports.listens(served.port), 20)
    monkeypatch.setenv("ORCHARD_S3_ENDPOINT", served.endpoint.replace("http:", "https:"))
    yield served.endpoint.replace("http:", "https:")
    process.terminate()
    process.wait(20)


def test_s3_over_tls_takes_the_authority_that_is_named_and_no_other(
    endpoint: str, authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StorageError, match="SSL"):
        Objects("s3://orchard/storage", endpoint).put("key", b"bytes")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
    Objects("s3://orchard/storage", endpoint).put("key", b"bytes")
    assert Objects("s3://orchard/storage", endpoint).get("key") == b"bytes"
    folder = an_artifact(tmp_path / "run")
    published(folder)
    assert contents(artifacts.pull("relay", tmp_path / "pulled").folder) == contents(folder)
