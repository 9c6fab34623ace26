"""A port on loopback that leads to a port of a pod, by the API server's port-forward: no kubectl needed.

One websocket per connection, as the protocol's server side closes the pod's port with it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kubernetes.client import ApiClient, ApiException, Configuration, CoreV1Api
from kubernetes.stream import portforward

_BLOCK = 64 * 1024


@contextmanager
def forward(configuration: Configuration, namespace: str, pod: str, port: int) -> Iterator[int]:
    """Yield a loopback port; connections to it reach `port` of `pod` until the block is left."""
    with ApiClient(configuration) as client, socket.create_server(("127.0.0.1", 0)) as listener:
        # An API client of its own: `portforward` swaps the client's transport while it connects.
        accept = threading.Thread(target=_accept, args=(listener, CoreV1Api(client), namespace, pod, port), daemon=True)
        accept.start()
        try:
            yield listener.getsockname()[1]
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            accept.join(timeout=5)


def _accept(listener: socket.socket, api: CoreV1Api, namespace: str, pod: str, port: int) -> None:
    while True:
        try:
            near, _ = listener.accept()
        except OSError:  # shut down: the block was left
            return
        try:
            tunnel = portforward(api.connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port))
        except (ApiException, OSError):
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
