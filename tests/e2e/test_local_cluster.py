"""What the other tests take for granted: storage, names, network policies and patched resources on this cluster are real."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.cluster import Kubectl, Object, eventually, helper_pod

SERVER = "import http.server; http.server.ThreadingHTTPServer(('', 8080), http.server.SimpleHTTPRequestHandler).serve_forever()"
ASK = "import urllib.request; print(urllib.request.urlopen('http://server:8080/', timeout=3).status)"
GPU = "example.com/gpu"


def policy(name: str, ingress: list[dict[str, Any]]) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {"podSelector": {"matchLabels": {"test": "server"}}, "policyTypes": ["Ingress"], "ingress": ingress},
    }


@pytest.fixture(scope="module")
def client(kubectl: Kubectl, image_names: dict[str, str]) -> Kubectl:
    """A server behind a Service of the same name, and a pod to ask it from."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "server"},
        "spec": {"selector": {"test": "server"}, "ports": [{"port": 8080}]},
    }
    server = helper_pod("server", image_names["OPERATOR"], SERVER)
    asking = helper_pod("client", image_names["OPERATOR"], "import time; time.sleep(3600)")
    kubectl.apply(service, server, asking)
    kubectl("wait", "pod/server", "pod/client", "--for=condition=Ready", "--timeout=60s")
    return kubectl


def reaches(client: Kubectl) -> bool:
    return client.run("exec", "client", "--", "python3", "-c", ASK).stdout.strip() == "200"


def test_a_claim_binds_and_keeps_what_a_pod_wrote(kubectl: Kubectl, image_names: dict[str, str]) -> None:
    for name, script in [("writer", "open('/store/x', 'w').write('kept')"), ("reader", "print(open('/store/x').read())")]:
        kubectl.apply(helper_pod(name, image_names["OPERATOR"], script, claim="models"))
        kubectl("wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
    assert kubectl("logs", "reader").strip() == "kept"


def test_a_network_policy_denies_and_another_allows(client: Kubectl) -> None:
    assert eventually(lambda: reaches(client), 30), "the Service's name resolves and answers while nothing forbids it"
    client.apply(policy("deny", []))
    assert eventually(lambda: not reaches(client), 30), "a policy without rules denies"
    client.apply(policy("allow", [{"from": [{"podSelector": {"matchLabels": {"test": "client"}}}]}]))
    assert eventually(lambda: reaches(client), 30), "a second policy that names the client allows it"
    client.apply(policy("allow", [{"from": [{"podSelector": {"matchLabels": {"test": "somebody-else"}}}]}]))
    assert eventually(lambda: not reaches(client), 30), "and names somebody else: denied again"


@pytest.fixture
def node_with_one_gpu(kubectl: Kubectl) -> Iterator[str]:
    node = str(kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"))
    path = f"/status/capacity/{GPU.replace('/', '~1')}"
    patch = f'[{{"op": "add", "path": "{path}", "value": "1"}}]'
    kubectl("patch", "node", node, "--subresource=status", "--type=json", "--patch", patch)
    yield node
    kubectl("patch", "node", node, "--subresource=status", "--type=json", "--patch", f'[{{"op": "remove", "path": "{path}"}}]')


def test_a_resource_patched_onto_the_node_is_scheduled(
    kubectl: Kubectl, image_names: dict[str, str], node_with_one_gpu: str
) -> None:
    for name in ("gpu-first", "gpu-second"):
        pod = helper_pod(name, image_names["OPERATOR"], "import time; time.sleep(3600)")
        pod["spec"]["containers"][0]["resources"] = {"limits": {GPU: "1"}}
        kubectl.apply(pod)
        if name == "gpu-first":
            kubectl("wait", f"pod/{name}", "--for=condition=Ready", "--timeout=60s")
    message = "{.status.conditions[?(@.type=='PodScheduled')].message}"
    waiting = eventually(lambda: f"Insufficient {GPU}" in kubectl("get", "pod", "gpu-second", "-o", f"jsonpath={message}"), 30)
    assert waiting, "the second pod waits, with the scheduler's reason"
    kubectl("delete", "pod", "gpu-first", "--now")
    kubectl("wait", "pod/gpu-second", "--for=condition=Ready", "--timeout=60s")
    kubectl("delete", "pod", "gpu-second", "--now")
