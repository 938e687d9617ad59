"""The ports that services listen on: free, or refused with the process that has them."""

import socket
import time
from contextlib import suppress

import psutil

from models.common.errors import ClusterError, ConfigError

_HIGHEST = 65535


def choose(port: int, service: str, option: str) -> int:
    """The port, once it is known to be free; any free one for 0.

    Raises ConfigError where it is no port, ClusterError where a process listens there, naming it.
    """
    if not 0 <= port <= _HIGHEST:
        raise ConfigError(f"{option} {port} is no port\nfits: 1 to {_HIGHEST}, or 0 for any that is free")
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen()
        except OSError as error:
            raise ClusterError(_taken(port, service, option, error)) from None
        return listener.getsockname()[1]


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
        return True
    return False


def _taken(port: int, service: str, option: str, error: OSError) -> str:
    holder = _holder(port)
    if holder is None:
        return (
            f"{service} cannot listen on port {port}: {error.strerror}, and whose it is cannot be seen from here\n"
            f"fits: a free port\nchoose another with {option}, or see who has it: sudo ss -ltnp 'sport = :{port}'"
        )
    with holder.oneshot():
        command = " ".join(holder.cmdline())[:100] or holder.name()
        since = time.strftime("%H:%M on %d %B", time.localtime(holder.create_time()))
        user = holder.username()
    return (
        f"{service} cannot listen on port {port}: process {holder.pid} has it ({command}; of {user}, since {since})\n"
        f"fits: a free port\nstop that process with 'kill {holder.pid}', or choose another port with {option}"
    )


def _holder(port: int) -> psutil.Process | None:
    """The process that listens there, as far as this user may know."""
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            with suppress(psutil.NoSuchProcess):
                return psutil.Process(connection.pid) if connection.pid else None
    return None
