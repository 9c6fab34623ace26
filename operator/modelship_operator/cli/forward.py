"""A port on loopback that leads to a port of a pod, by the API server's port-forward: no kubectl needed.

One websocket per connection, as the protocol's server side closes the pod's port with it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kubernetes.stream.ws_client import PortForward

from modelship_operator.cli.client import Cluster, CommandError

_BLOCK = 64 * 1024


@contextmanager
def forward(cluster: Cluster, pod: str, port: int) -> Iterator[int]:
    """Yield a loopback port; connections to it reach `port` of `pod` until the block is left."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accept = threading.Thread(target=_accept, args=(listener, cluster, pod, port), daemon=True)
        accept.start()
        try:
            yield listener.getsockname()[1]
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            accept.join(timeout=5)


def _accept(listener: socket.socket, cluster: Cluster, pod: str, port: int) -> None:
    path = f"/api/v1/namespaces/{cluster.namespace}/pods/{pod}/portforward"
    while True:
        try:
            near, _ = listener.accept()
        except OSError:  # shut down: the block was left
            return
        try:
            tunnel: Any = PortForward(cluster.websocket(path, [("ports", str(port))]), [port])  # type: ignore[no-untyped-call]
        except CommandError:
            near.close()  # the client sees a refused connection and says so
            continue
        threading.Thread(target=_join, args=(near, tunnel.socket(port)), daemon=True).start()


def _join(near: socket.socket, far: socket.socket) -> None:
    """Carry bytes both ways until either side ends."""
    back = threading.Thread(target=_pump, args=(far, near), daemon=True)
    back.start()
    _pump(near, far)
    back.join()
    near.close()
    far.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Copy until one side ends; ending both ends the other direction's thread too."""
    with contextlib.suppress(OSError):
        while block := source.recv(_BLOCK):
            sink.sendall(block)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
