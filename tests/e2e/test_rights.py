"""What a security reviewer checks: the operator's rights, cluster-wide and in a namespaced install; the pods' standard."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.cluster import KUBECONFIG, ROOT, Kubectl, helper_pod

CLUSTER_WIDE = "system:serviceaccount:modelship-system:modelship"
OWN = "e2e-namespaced"
NAMESPACED = f"system:serviceaccount:{OWN}:modelship"
RIGHTS = [
    ("create", "jobs.batch", "", True),
    ("delete", "jobs.batch", "", True),
    ("patch", "modeltrainings.modelship.dev", "status", True),
    ("watch", "pods", "", True),
    ("watch", "modeldeployments.modelship.dev", "", True),
    ("create", "networkpolicies.networking.k8s.io", "", True),
    ("get", "secrets", "", False),
    ("list", "secrets", "", False),
    ("watch", "secrets", "", False),
    ("get", "configmaps", "", False),
    ("get", "pods", "log", False),
    ("create", "pods", "exec", False),
    ("create", "pods", "", False),
    ("delete", "pods", "", True),  # whose work has ended, while a container of a mesh goes on
    ("deletecollection", "pods", "", False),
    ("list", "events.events.k8s.io", "", True),  # why a Job has no pod
    ("watch", "events.events.k8s.io", "", False),
    ("create", "serviceaccounts", "token", False),
    ("delete", "modeltrainings.modelship.dev", "", False),
    ("patch", "modeltrainings.modelship.dev", "", False),
    ("create", "rolebindings.rbac.authorization.k8s.io", "", False),
    ("*", "*", "", False),
]
OF_THE_CLUSTER = [
    ("get", "nodes"),
    ("list", "namespaces"),
    ("create", "clusterroles.rbac.authorization.k8s.io"),
    ("impersonate", "users"),
]


def can(kubectl: Kubectl, account: str, verb: str, resource: str, subresource: str = "") -> bool:
    part = ["--subresource", subresource] if subresource else []
    answer = kubectl.run("auth", "can-i", verb, resource, *part, "--as", account)
    assert answer.stdout.strip() in ("yes", "no"), answer.stderr
    return answer.stdout.strip() == "yes"


@pytest.fixture(scope="module")
def namespaced_release(kubectl: Kubectl) -> Iterator[None]:
    """A second release that may work in the test's namespace only; without a pod, which would fight with the first one's."""
    helm = subprocess.run([ROOT / "tools/bin-path", "helm"], check=True, capture_output=True, text=True).stdout.strip() + "/helm"
    where = ["modelship", "--kubeconfig", str(KUBECONFIG), "--namespace", OWN]
    values = f"namespaces={{{kubectl.namespace}}},crds.enabled=false,replicas=0"
    install = [
        helm,
        "upgrade",
        "--install",
        *where,
        str(ROOT / "charts/modelship"),
        "--create-namespace",
        "--wait",
        "--set",
        values,
    ]
    subprocess.run(install, check=True, capture_output=True)
    yield
    subprocess.run([helm, "uninstall", *where, "--wait"], check=True, capture_output=True)
    kubectl("delete", "namespace", OWN)


@pytest.mark.parametrize(("verb", "resource", "subresource", "allowed"), RIGHTS)
def test_the_operator_has_these_rights_and_no_others(
    kubectl: Kubectl, verb: str, resource: str, subresource: str, allowed: bool
) -> None:
    assert can(kubectl, CLUSTER_WIDE, verb, resource, subresource) is allowed


@pytest.mark.parametrize(("verb", "resource"), OF_THE_CLUSTER)
def test_the_operator_touches_nothing_of_the_cluster(kubectl: Kubectl, verb: str, resource: str) -> None:
    assert not can(kubectl, CLUSTER_WIDE, verb, resource)


@pytest.mark.usefixtures("namespaced_release")
@pytest.mark.parametrize(("verb", "resource", "subresource", "allowed"), RIGHTS)
def test_a_namespaced_operator_has_them_in_its_namespace_alone(
    kubectl: Kubectl, verb: str, resource: str, subresource: str, allowed: bool
) -> None:
    assert can(kubectl, NAMESPACED, verb, resource, subresource) is allowed
    assert not can(Kubectl("default", kubectl.binary), NAMESPACED, verb, resource, subresource), "in another namespace"


@pytest.mark.usefixtures("namespaced_release")
@pytest.mark.parametrize(("verb", "resource"), OF_THE_CLUSTER)
def test_a_namespaced_operator_touches_nothing_of_the_cluster(kubectl: Kubectl, verb: str, resource: str) -> None:
    assert not can(kubectl, NAMESPACED, verb, resource)


def test_the_namespaces_of_these_tests_enforce_the_restricted_standard(kubectl: Kubectl, image_names: dict[str, str]) -> None:
    """So every pod that any of them sees running has passed it."""
    pod = helper_pod("privileged", image_names["OPERATOR"], "print()")
    pod["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    with pytest.raises(AssertionError, match='violates PodSecurity "restricted'):
        kubectl.apply(pod)
