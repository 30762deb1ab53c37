"""A port of this machine that nobody else is given in the meantime."""

import contextlib
import socket


@contextlib.contextmanager
def reserved_port():
    """Return a port, as text, for a server of JAX, which may share it with this socket.

    The processes that a test starts need seconds until they bind it: without the
    socket, another test could be given the same one.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        yield str(held.getsockname()[1])
