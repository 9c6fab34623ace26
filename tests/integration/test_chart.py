"""The chart: one golden rendering of its defaults, then what each value changes."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts/modelship"
GOLDEN = Path(__file__).parent / "golden/chart-defaults.yaml"
pytestmark = pytest.mark.integration


@pytest.fixture(scope="session")
def helm() -> str:
    folder = subprocess.run([ROOT / "tools/bin-path", "helm"], check=True, capture_output=True, text=True).stdout.strip()
    return f"{folder}/helm"


def render(helm: str, *settings: str, release: str = "modelship") -> list[dict[str, Any]]:
    done = template(helm, *settings, release=release)
    assert done.returncode == 0, done.stderr
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def template(helm: str, *settings: str, release: str = "modelship") -> subprocess.CompletedProcess[str]:
    options = [part for setting in settings for part in ("--set", setting)]
    command = [helm, "template", release, str(CHART), "--namespace", "modelship-system", "--kube-version", "1.36.3", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def of_kind(items: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [item for item in items if item["kind"] == kind]


def rules(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [rule for kind in ("Role", "ClusterRole") for item in of_kind(items, kind) for rule in item["rules"]]


def test_the_chart_passes_helm_lint(helm: str) -> None:
    done = subprocess.run([helm, "lint", "--strict", str(CHART)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_defaults_render_as_reviewed(helm: str) -> None:
    """`make generate` rewrites the golden file; a difference in it is reviewed as code. CRDs have their own drift test."""
    rendered = [item for item in render(helm, "crds.enabled=false")]
    assert rendered == list(yaml.safe_load_all(GOLDEN.read_text()))


@pytest.mark.parametrize("settings", [(), ("namespaces={team-a,team-b}",)], ids=["cluster-wide", "namespaced"])
def test_no_rule_names_secrets_or_a_wildcard(helm: str, settings: tuple[str, ...]) -> None:
    for rule in rules(render(helm, *settings)):
        for part in ("apiGroups", "resources", "verbs"):
            assert "*" not in rule[part]
        assert not {"secrets", "pods/exec", "pods/log", "serviceaccounts/token"} & set(rule["resources"])


REQUESTS = {
    **{kind: {"list", "watch"} for kind in ("modeltrainings", "modelevaluations", "modeldeployments")},  # Kopf, and the sweep
    **{f"{kind}/status": {"patch"} for kind in ("modeltrainings", "modelevaluations", "modeldeployments")},
    "jobs": {"list", "watch", "create", "patch", "delete"},  # patched: suspend; deleted: TTL, suspend of a queued run
    "pods": {"list", "watch", "delete"},  # deleted: one whose work has ended, while a foreign container of it goes on
    "deployments": {"list", "watch", "create", "patch"},  # server-side apply is create and patch
    "services": {"get", "list", "watch", "create", "patch"},  # get: of that name, whose is it
    "networkpolicies": {"list", "watch", "create", "patch"},
    "poddisruptionbudgets": {"list", "watch", "create", "patch"},
    "events": {"list", "create", "patch"},  # listed: why a Job has no pod
    "leases": {"create", "get", "update"},
    "tokenreviews": {"create"},
}
"""What kube/ and runtime/ send; a verb more is a right that nobody needs, one less breaks at night."""


def test_everybody_may_read_the_image_and_nothing_else(helm: str) -> None:
    items = [item for item in render(helm) if item["metadata"]["name"] == "modelship-client"]
    published, role, binding = items
    assert published["data"] == {"image": container(render(helm))["image"]}
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["modelship-client"], "verbs": ["get"]}
    ]
    assert (binding["roleRef"]["kind"], binding["subjects"][0]["name"]) == ("Role", "system:authenticated")
    assert not [item for item in render(helm, "client.enabled=false") if item["metadata"]["name"] == "modelship-client"]


@pytest.mark.parametrize("settings", [(), ("namespaces={team-a}",)], ids=["cluster-wide", "namespaced"])
def test_each_right_is_one_that_the_operator_uses(helm: str, settings: tuple[str, ...]) -> None:
    given: dict[str, set[str]] = {}
    for rule in rules(render(helm, "rbac.aggregate=false", "client.enabled=false", *settings)):
        for resource in rule["resources"]:
            given.setdefault(resource, set()).update(rule["verbs"])
    assert given == REQUESTS


def test_a_namespaced_install_has_one_cluster_wide_verb_beyond_the_aggregated_roles(helm: str) -> None:
    items = render(helm, "namespaces={team-a,team-b}", "rbac.aggregate=false")
    assert [item["rules"] for item in of_kind(items, "ClusterRole")] == [
        [{"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}]
    ]
    assert {role["metadata"]["namespace"] for role in of_kind(items, "Role")} == {"team-a", "team-b", "modelship-system"}
    env = {entry["name"]: entry.get("value") for entry in container(items)["env"]}
    assert env["MODELSHIP_NAMESPACES"] == "team-a,team-b"


def container(items: list[dict[str, Any]]) -> dict[str, Any]:
    (deployment,) = of_kind(items, "Deployment")
    (found,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_the_operator_runs_restricted(helm: str) -> None:
    (deployment,) = of_kind(render(helm), "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_two_replicas_bring_a_disruption_budget_and_spread(helm: str) -> None:
    assert not of_kind(render(helm), "PodDisruptionBudget")
    items = render(helm, "replicas=2")
    assert of_kind(items, "PodDisruptionBudget")[0]["spec"]["maxUnavailable"] == 1
    assert of_kind(items, "Deployment")[0]["spec"]["template"]["spec"]["topologySpreadConstraints"]


def test_two_releases_do_not_wait_for_each_other(helm: str) -> None:
    """Each elects by a Lease of its own name, even in one namespace."""
    for release, lease in (("modelship", "modelship-operator"), ("modelship-b", "modelship-b-operator")):
        items = render(helm, "client.enabled=false", release=release)
        env = {entry["name"]: entry.get("value") for entry in container(items)["env"]}
        assert env["MODELSHIP_LEASE_NAME"] == lease
        (named,) = [rule["resourceNames"] for rule in rules(items) if "resourceNames" in rule]
        assert named == [lease]


def test_where_the_operator_runs_is_a_value(helm: str) -> None:
    items = render(helm, "images.pullSecrets={a,b}", "nodeSelector.disk=ssd", "tolerations[0].key=x", "priorityClassName=high")
    (deployment,) = of_kind(items, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"disk": "ssd"}
    assert pod["tolerations"] == [{"key": "x"}]
    assert pod["priorityClassName"] == "high"
    assert [secret["name"] for secret in pod["imagePullSecrets"]] == ["a", "b"]
    assert {"name": "MODELSHIP_IMAGE_PULL_SECRETS", "value": "a,b"} in pod["containers"][0]["env"], "and its pods', too"


def test_definitions_are_kept_unless_told_otherwise(helm: str) -> None:
    crds = of_kind(render(helm), "CustomResourceDefinition")
    assert {crd["spec"]["names"]["shortNames"][0] for crd in crds} == {"mt", "me", "md"}
    assert all(crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for crd in crds)
    for crd in of_kind(render(helm, "crds.keep=false"), "CustomResourceDefinition"):
        assert "helm.sh/resource-policy" not in crd["metadata"].get("annotations", {})
    assert not of_kind(render(helm, "crds.enabled=false"), "CustomResourceDefinition")


def test_the_service_monitor_is_an_option(helm: str) -> None:
    assert not of_kind(render(helm), "ServiceMonitor")
    (monitor,) = of_kind(render(helm, "serviceMonitor.enabled=true", "serviceMonitor.labels.release=prom"), "ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prom"


@pytest.mark.parametrize(
    ("setting", "named"),
    [("images.trainer=notag", "trainer"), ("replicas=-1", "replicas"), ("replica=2", "replica"), ("logLevel=loud", "logLevel")],
)
def test_a_wrong_value_is_refused_by_name(helm: str, setting: str, named: str) -> None:
    done = template(helm, setting)
    assert done.returncode != 0
    assert named in done.stderr
