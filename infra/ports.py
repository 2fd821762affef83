"""TCP ports of this machine: free ones, and who holds a taken one."""

import socket

import psutil

from infra.errors import PortTakenError

_COMMAND_WIDTH = 80


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nothing listens on, and that for a minute nobody else is given by chance.

    A connection of its own, over at once, leaves it in TIME_WAIT: the system hands out such a port neither
    to who asks for any, nor to a connection that needs one. Servers may listen on it (SO_REUSEADDR).
    """
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((host, 0))
        server.listen(1)
        port: int = server.getsockname()[1]
        with socket.create_connection((host, port)) as connection:
            accepted, _ = server.accept()
            accepted.close()  # who closes first waits
            connection.recv(1)
        return port


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        # A server just stopped leaves connections in TIME_WAIT, which do not keep its successor out.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def answers(port: int, host: str = "127.0.0.1", timeout: float = 1.0) -> bool:
    """Whether something accepts connections on the port."""
    try:
        socket.create_connection((host, port), timeout).close()
    except OSError:
        return False
    return True


def holder(port: int) -> str | None:
    """Who listens on the port, as «pid 4711 (java -Xmx1g …)»; None when the system does not tell."""
    try:
        listening = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    except psutil.AccessDenied:
        return None
    for connection in listening:
        if connection.laddr and connection.laddr[1] == port and connection.pid:
            return f"pid {connection.pid} ({_command(connection.pid)})"
    return None


def _command(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        command = " ".join(process.cmdline()) or process.name()
    except psutil.Error:
        return "unknown"
    return command if len(command) <= _COMMAND_WIDTH else command[: _COMMAND_WIDTH - 1] + "…"


def require_free(port: int, remedy: str, host: str = "127.0.0.1") -> None:
    """Raise `PortTakenError`, naming the holder, unless the port can be listened on.

    `remedy` is how to choose another one, such as «set CHATGAUGE_API_PORT».
    """
    if not is_free(port, host):
        who = holder(port) or "another process"
        raise PortTakenError(f"port {port} is taken by {who}: stop it or {remedy}")
