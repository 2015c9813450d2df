"""
Ports of this machine that nobody listens on, for servers we start.
"""

import random
import socket
from collections.abc import Container
from typing import Final

from streams.kafka.local_properties import HOST

# Below what systems give to those who ask for any: a client that tries again and again to reach a
# server that is away would in the end be given the server's own port.
_PORTS: Final = range(12_000, 32_000)


def free_port(besides: Container[int] = ()) -> int:
    """Return a port that nobody listens on at this moment, and that is none of *besides*."""
    while True:
        port = random.choice(_PORTS)
        if port not in besides and is_free(port):
            return port


def free_ports(count: int, besides: Container[int] = ()) -> list[int]:
    """Return as many different ones."""
    found: list[int] = []
    while len(found) < count:
        port = free_port(besides)
        if port not in found:
            found.append(port)
    return found


def is_free(port: int) -> bool:
    """Return whether a server could listen on *port* now."""
    with socket.socket() as probe:
        # As Java does: connections that are only being closed do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
