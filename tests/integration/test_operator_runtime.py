"""The operator as a process, against a real API server: who acts, when nothing is written, what a refusal looks like."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from tests.support import chain
from tests.support.builders import make_deployment, make_evaluation, make_training
from tests.support.controlplane import ROOT, ControlPlane
from tests.support.kubelet import Json, Namespace
from tests.support.replica import LEASE_SECONDS, replica

pytestmark = pytest.mark.integration


@pytest.fixture
def here(plane: ControlPlane) -> Iterator[Namespace]:
    with Namespace.made(plane) as made:
        yield made


def writes(plane: ControlPlane, here: Namespace, since: int = 0) -> list[str]:
    """What the operators wrote in the namespace, leases aside, as `verb resource/name`."""
    found = []
    for event in plane.audit_events()[since:]:
        about = event.get("objectRef", {})
        ours = "modelship-operator" in event.get("userAgent", "") and about.get("namespace") == here.name
        if ours and event["verb"] in ("create", "patch", "update", "delete") and about["resource"] != "leases":
            found.append(
                f"{event['verb']} {about['resource']}/{about.get('name', '')}{'/status' if 'subresource' in about else ''}"
            )
    return found


def settled(here: Namespace, name: str) -> Json:
    """Wait until a training has its Job and its first status."""
    here.wait("Job", f"{name}-train", lambda job: True)
    return here.wait("ModelTraining", name, lambda training: "conditions" in training.get("status", {}))


def lease(here: Namespace) -> Json:
    found = here.get("Lease", "modelship-operator")
    assert found
    return found


# --- two requests, and none again -----------------------------------------------------------------------------------------------


def test_a_training_costs_two_requests_and_a_restart_none(plane: ControlPlane, here: Namespace) -> None:
    with replica(plane, here) as first:
        for number in range(5):
            here.create(make_training(f"run-{number}"))
        for number in range(5):
            settled(here, f"run-{number}")
        first.stop()
    made = writes(plane, here)
    expected = [f"create jobs/run-{n}-train" for n in range(5)] + [f"patch modeltrainings/run-{n}/status" for n in range(5)]
    assert sorted(made) == sorted(expected)
    with replica(plane, here) as second:
        second.until(lambda: second.metric('modelship_reconciles_total{kind="ModelTraining",result="success"}') >= 5)
        second.stop()
    assert writes(plane, here) == made


def test_a_sweep_finds_everything_as_it_is_and_writes_nothing(plane: ControlPlane, here: Namespace) -> None:
    with replica(plane, here) as only:
        here.create(make_training("run"))
        settled(here, "run")
        only.until(lambda: len(writes(plane, here)) == 2)  # the audit log is a moment behind the watch
        made = writes(plane, here)
        only.until(lambda: only.metric('modelship_sweeps_total{result="success"}') >= 1, seconds=40)
        assert writes(plane, here) == made


def test_an_edited_status_is_put_right(plane: ControlPlane, here: Namespace) -> None:
    with replica(plane, here):
        here.create(make_training("run"))
        phase = settled(here, "run")["status"]["phase"]
        here.patch("ModelTraining", "run", {"status": {"phase": "Nonsense"}}, "status")
        here.wait("ModelTraining", "run", lambda training: training["status"]["phase"] == phase)


def test_a_training_of_the_same_name_after_a_deleted_one_is_run(plane: ControlPlane, here: Namespace) -> None:
    with replica(plane, here):
        here.create(make_training("run"))
        first = settled(here, "run")
        here.delete("ModelTraining", "run")
        here.create(make_training("run"))
        here.reason("ModelTraining", "run", "NameTaken")
        here.delete("Job", "run-train")  # the garbage collector, which is not here, would have
        job = here.wait("Job", "run-train", lambda job: job["metadata"]["labels"]["modelship.dev/uid"] != first["metadata"]["uid"])
        assert job["metadata"]["ownerReferences"][0]["name"] == "run"


def test_somebody_elses_job_is_never_taken_over(plane: ControlPlane, here: Namespace) -> None:
    pod = {"restartPolicy": "Never", "containers": [{"name": "theirs", "image": "theirs"}]}
    here.create({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "run-train"}, "spec": {"template": {"spec": pod}}})
    with replica(plane, here) as only:
        here.create(make_training("run"))
        here.reason("ModelTraining", "run", "NameTaken")
        theirs = here.get("Job", "run-train")
        assert theirs
        assert "labels" not in theirs["metadata"] or "modelship.dev/uid" not in theirs["metadata"]["labels"]
        assert "ownerReferences" not in theirs["metadata"]
        assert only.metric('modelship_api_requests_total{code="409",resource="jobs",verb="create"}') >= 1
        here.delete("Job", "run-train")


# --- who acts -------------------------------------------------------------------------------------------------------------------


def test_one_replica_acts_and_the_other_takes_over_at_once_when_it_goes(plane: ControlPlane, here: Namespace) -> None:
    with replica(plane, here) as first:
        first.until(lambda: first.leads)
        with replica(plane, here) as second:
            assert not second.leads
            assert httpx.get(f"{second.metrics}/readyz", trust_env=False).is_success
            here.create(make_training("one"))
            settled(here, "one")
            assert second.metric('modelship_api_requests_total{code="200",resource="modeltrainings/status",verb="apply"}') == 0
            assert second.metric("modelship_queue_depth") == 0, "nobody works there, so nothing may pile up"
            first.stop()
            assert second.until(lambda: second.leads) < LEASE_SECONDS
            here.create(make_training("two"))
            settled(here, "two")


def test_a_replica_that_was_killed_is_replaced_when_its_lease_is_over(plane: ControlPlane, here: Namespace) -> None:
    with replica(plane, here) as first:
        first.until(lambda: first.leads)
        with replica(plane, here) as second:
            first.process.send_signal(signal.SIGKILL)
            first.process.wait(5)
            took = second.until(lambda: second.leads)
            assert LEASE_SECONDS / 2 < took < LEASE_SECONDS + 4


def test_a_container_restarted_in_its_pod_goes_on_at_once(plane: ControlPlane, here: Namespace) -> None:
    with replica(plane, here, MODELSHIP_LEASE_SECONDS="60", MODELSHIP_POD_NAME="pod-1") as first:
        first.until(lambda: first.leads)
        first.process.send_signal(signal.SIGKILL)
        first.process.wait(5)
    with replica(plane, here, MODELSHIP_LEASE_SECONDS="60", MODELSHIP_POD_NAME="pod-1") as again:
        assert again.until(lambda: again.leads) < 3


def test_who_lost_the_lease_stops_acting(plane: ControlPlane, here: Namespace) -> None:
    with replica(plane, here) as only:
        only.until(lambda: only.leads)
        here.patch("Lease", "modelship-operator", {"spec": {"holderIdentity": "intruder", "leaseDurationSeconds": 8}})
        only.until(lambda: not only.leads, seconds=LEASE_SECONDS)
        here.create(make_training("run"))
        before = len(plane.audit_events())
        time.sleep(2)
        assert writes(plane, here, before) == []
        only.until(lambda: only.leads)  # the intruder never renewed
        settled(here, "run")


def test_the_lease_is_released_at_the_end(plane: ControlPlane, here: Namespace) -> None:
    with replica(plane, here) as only:
        only.until(lambda: only.leads)
        held = lease(here)["spec"]
        assert held["holderIdentity"] == only.name
        only.stop()
    assert not lease(here)["spec"].get("holderIdentity")


# --- when it is refused ---------------------------------------------------------------------------------------------------------


def limited_kubeconfig(plane: ControlPlane, here: Namespace, rules: list[Json]) -> Path:
    """A service account that may do this in the namespace, and nothing else."""
    about = {"namespace": here.name, "name": "operator"}
    api = f"/api/v1/namespaces/{here.name}"
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{here.name}"
    here.client.post(f"{api}/serviceaccounts", json={"metadata": about}).raise_for_status()
    here.client.post(f"{rbac}/roles", json={"metadata": about, "rules": rules}).raise_for_status()
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"}
    subject = {"kind": "ServiceAccount", "name": "operator", "namespace": here.name}
    here.client.post(f"{rbac}/rolebindings", json={"metadata": about, "roleRef": role, "subjects": [subject]}).raise_for_status()
    answer = here.client.post(f"{api}/serviceaccounts/operator/token", json={"spec": {}}).raise_for_status()
    return plane.kubeconfig(answer.json()["status"]["token"], f"operator-{here.name}")


def chart_rules() -> list[Json]:
    """What the chart gives the operator, in its own namespace and in one that it works in."""
    golden = yaml.safe_load_all((ROOT / "tests/integration/golden/chart-defaults.yaml").read_text())
    roles = (item for item in golden if item["kind"] in ("Role", "ClusterRole"))
    ours = (role for role in roles if not role["metadata"]["name"].endswith(("-view", "-edit", "-tokenreview", "-client")))
    return [rule for role in ours for rule in role["rules"]]


def without(rules: list[Json], resource: str, *verbs: str) -> list[Json]:
    """The rules without these verbs on a resource."""

    def cut(rule: Json) -> Json:
        gone = verbs if rule["resources"] == [resource] else ()
        return {**rule, "verbs": [verb for verb in rule["verbs"] if verb not in gone]}

    left = [cut(rule) for rule in rules]
    assert left != rules, "nothing was taken away"
    return [rule for rule in left if rule["verbs"]]


def test_a_right_that_lacks_is_said_by_the_resource_and_the_log_and_heals(plane: ControlPlane, here: Namespace) -> None:
    kubeconfig = limited_kubeconfig(plane, here, without(chart_rules(), "jobs", "create", "patch", "delete"))
    with replica(plane, here, kubeconfig=kubeconfig) as only:
        here.create(make_training("run"))
        status = here.reason("ModelTraining", "run", "RequestRefused")
        said = status["conditions"][0]["message"]
        assert "forbidden" in said
        assert "jobs" in said
        assert only.metric('modelship_api_requests_total{code="403",resource="jobs",verb="create"}') >= 1
        line = next(line for line in only.log.read_text().splitlines() if '"code":403' in line)
        assert '"verb":"apply"' in line
        assert '"resource":"run"' in line
        patch = {"rules": chart_rules()}
        url = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{here.name}/roles/operator"
        here.client.patch(url, json=patch, headers={"Content-Type": "application/merge-patch+json"}).raise_for_status()
        here.patch("ModelTraining", "run", {"metadata": {"annotations": {"try": "again"}}})
        settled(here, "run")
        here.reason("ModelTraining", "run", "Starting")


def test_a_namespaced_operator_needs_what_the_chart_gives_it_and_no_more(plane: ControlPlane, here: Namespace) -> None:
    """From training to serving with the chart's Role alone: nothing is refused, and each right is made use of."""
    kubeconfig = limited_kubeconfig(plane, here, chart_rules())
    with replica(plane, here, kubeconfig=kubeconfig) as only:
        chain.train(here, ttlSecondsAfterFinished=0)
        here.wait("Job", "churn-train", lambda job: True, gone=True)
        here.create(make_evaluation(method={"holdout": {}}))
        here.create(make_deployment())
        chain.score(here, "churn-cv", test=0.9)
        here.reason("ModelDeployment", "churn", "RollingOut")
        only.stop()
    user = f"system:serviceaccount:{here.name}:operator"
    asked = [event for event in plane.audit_events() if event["user"]["username"] == user]
    assert [event for event in asked if event["responseStatus"]["code"] == 403] == []
    used = {(_resource(event["objectRef"]), event["verb"]) for event in asked if "resource" in event.get("objectRef", {})}
    granted = {(resource, verb) for rule in chart_rules() for resource in rule["resources"] for verb in rule["verbs"]}
    # A server-side apply that creates is logged as the patch that it is sent as; a second event of a kind patches the first, and a
    # Job is patched when it is suspended. Pods are deleted where a mesh's container outlives the work (test_sidecars.py), and
    # events listed where a Job has no pod (test_podless.py).
    unseen = {(resource, "create") for resource in ("deployments", "services", "networkpolicies", "poddisruptionbudgets")}
    assert granted - used == unseen | {("events", "patch"), ("jobs", "patch"), ("pods", "delete"), ("events", "list")}


def _resource(reference: Json) -> str:
    return "/".join([reference["resource"], *([reference["subresource"]] if "subresource" in reference else [])])


def test_a_policy_that_rewrites_what_is_applied_is_not_fought_with(plane: ControlPlane, here: Namespace) -> None:
    """As when images are sent to a mirror: applied once, and then left alone whatever its status does."""
    admission = "/apis/admissionregistration.k8s.io/v1"
    here.client.post(f"{admission}/mutatingadmissionpolicies", json=MIRROR).raise_for_status()
    name = {"metadata": {"name": MIRROR["metadata"]["name"]}, "spec": {"policyName": MIRROR["metadata"]["name"]}}
    match = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": here.name}}}
    binding = {**name, "spec": {**name["spec"], "matchResources": match}}
    here.client.post(f"{admission}/mutatingadmissionpolicybindings", json=binding).raise_for_status()
    try:
        _until_mirrored(here)
        with replica(plane, here) as only:
            chain.train(here)
            here.create(make_deployment(gate=None))
            deployment = here.wait("Deployment", "churn", lambda found: True)
            assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "mirror/gateway:1"
            for ready in range(3):
                chain.roll(here, "churn", replicas=3, ready=ready)
                here.wait("ModelDeployment", "churn", lambda found, count=ready: found["status"].get("readyReplicas") == count)
            only.stop()
        assert writes(plane, here).count("patch deployments/churn") == 1
    finally:
        here.client.delete(f"{admission}/mutatingadmissionpolicybindings/{MIRROR['metadata']['name']}").raise_for_status()


MIRROR: Json = {
    "metadata": {"name": "mirror"},
    "spec": {
        "reinvocationPolicy": "Never",
        "matchConstraints": {
            "resourceRules": [
                {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["deployments"]}
            ]
        },
        "mutations": [
            {
                "patchType": "JSONPatch",
                "jsonPatch": {
                    "expression": '[JSONPatch{op: "replace", path: "/spec/template/spec/containers/0/image", '
                    'value: "mirror/" + object.spec.template.spec.containers[0].image.split("/").reverse()[0]}]'
                },
            }
        ],
    },
}


def _until_mirrored(here: Namespace) -> None:
    """The API server learns of a policy a moment after it was made."""
    pod = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    probe = {"metadata": {"name": "probe"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": pod}}
    url, deadline = here.path("Deployment"), time.monotonic() + 20
    while True:
        made = here.client.post(url, json=probe, params={"dryRun": "All"}).raise_for_status().json()
        if made["spec"]["template"]["spec"]["containers"][0]["image"] == "mirror/x":
            return
        assert time.monotonic() < deadline, made
        time.sleep(0.1)


def test_it_waits_until_it_may_list(plane: ControlPlane, here: Namespace) -> None:
    kubeconfig = limited_kubeconfig(plane, here, without(chart_rules(), "jobs", "list", "watch"))
    with replica(plane, here, ready=False, kubeconfig=kubeconfig) as only:
        only.until(lambda: only.log.exists() and "cannot list yet" in only.log.read_text())
        assert httpx.get(f"{only.metrics}/readyz", trust_env=False).status_code == 503
        assert httpx.get(f"{only.metrics}/healthz", trust_env=False).status_code == 200
        assert "jobs" in only.log.read_text()
        only.stop()


def test_a_wrong_setting_is_named(plane: ControlPlane, here: Namespace) -> None:
    with replica(plane, here, ready=False, MODELSHIP_TRITON_IMAGE="", MODELSHIP_WORKERS="many") as wrong:
        assert wrong.process.wait(20) == 2
        assert "MODELSHIP_TRITON_IMAGE" in wrong.log.read_text()
        assert "MODELSHIP_WORKERS" in wrong.log.read_text()
