"""Ports: free ones are taken, taken ones are refused with the process that has them."""

import os
import socket

import pytest

from infra.local import ports
from models.common.errors import ClusterError, ConfigError


def test_a_port_in_use_is_refused_with_the_process_that_has_it_and_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ClusterError) as refused:
            ports.choose(port, "the Prefect server", "--port")
    assert f"port {port}: process {os.getpid()} has it" in str(refused.value)
    assert f"'kill {os.getpid()}'" in str(refused.value)
    assert "choose another port with --port" in str(refused.value)


def test_a_port_that_was_just_let_go_is_free_again():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            listener.accept()[0].close()
            client.recv(1)
    assert ports.choose(port, "it", "--port") == port


def test_zero_takes_any_free_port_and_nonsense_is_refused():
    assert ports.choose(0, "it", "--port") > 0
    with pytest.raises(ConfigError, match="--port 70000 is no port\nfits: 1 to 65535"):
        ports.choose(70_000, "it", "--port")
