"""The Jobs as the API server gets them: golden files, and what must hold whatever a user asks for."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.api_cases import POD

from modelship_operator.api.common import Accelerator, AcceleratorType, Compute, TaintEffect, Toleration, TolerationOperator
from modelship_operator.resources.common import Owner, labels, owned_by
from modelship_operator.resources.job import indexed_job
from modelship_operator.resources.pod import Work, claim_of
from modelship_operator.resources.settings import PodSettings
from modelship_trainer.judgement import KFold, Method
from modelship_trainer.protocol import ArtifactRef, EvaluateTask, ExitCode, RunRef, TrainTask
from modelship_trainer.recipe import Recipe

pytestmark = pytest.mark.unit

GOLDEN = Path(__file__).parent / "golden"
SETTINGS = PodSettings(
    "modelship/trainer:1", "triton:1", "gateway:1", "operator:1", progress_url="http://operator:8090/v1/progress"
)
OWNER = Owner("ModelTraining", "team-a", "churn", "11111111-aaaa")
RUN = RunRef(kind="ModelTraining", namespace="team-a", name="churn", uid=OWNER.uid)
RECIPE = Recipe.model_validate(
    {
        "data": {"source": "pvc://datasets/churn.parquet", "target": "churned"},
        "model": {"mlp": {"hidden": [64, 32]}},
        "training": {"task": "classification", "epochs": 30},
    }
)
FULL = Compute(
    accelerator=Accelerator(type=AcceleratorType.GPU, count=2),
    cpu="4",
    memory="16Gi",
    node_selector={"disk": "ssd"},
    tolerations=[Toleration(key="gpu", operator=TolerationOperator.EXISTS, effect=TaintEffect.NO_SCHEDULE)],
    priority_class_name="batch",
    queue="gpus",
    image="registry.example/churn:7",
)
POLICIES = Compute.model_validate({"pod": POD})
DIGEST = "sha256:" + "c0" * 32


def train(compute: Compute | None = None, *, source: str = "pvc://datasets/churn.parquet", store: str = "pvc://models") -> Work:
    return Work(OWNER, TrainTask(run=RUN, recipe=RECIPE, store=store), compute or Compute(), sources=(source,))


def folds() -> Work:
    task = EvaluateTask(
        run=RunRef(kind="ModelEvaluation", namespace="team-a", name="churn-cv", uid="22222222-bbbb"),
        artifact=ArtifactRef(uri=f"pvc://models/artifacts/{DIGEST.replace(':', '-')}", digest=DIGEST),
        method=Method(k_fold=KFold(folds=5)),
        metrics=[],
        gates=[],
        store="pvc://models/evaluations/22222222-bbbb",
    )
    owner = Owner("ModelEvaluation", "team-a", "churn-cv", "22222222-bbbb")
    return Work(owner, task, Compute(), sources=("https://data.example/churn.csv",), credentials_secret="data-login")


JOBS: dict[str, dict[str, Any]] = {
    "train": indexed_job(SETTINGS, train(), name="churn-train", retry_limit=3),
    "train-gpus": indexed_job(
        PodSettings("modelship/trainer:1", "t", "f", "o", pull_policy="Always", pull_secrets=("registry",)),
        train(FULL, source="pvc://models/raw.csv", store="pvc://models/out"),
        name="churn-train",
        retry_limit=0,
        deadline_seconds=600,
    ),
    "train-policies": indexed_job(
        PodSettings(
            "modelship/trainer:1", "t", "g", "o", pull_secrets=("registry", "mirror"), progress_url="http://operator.ship:8090/"
        ),
        train(POLICIES),
        name="churn-train",
        retry_limit=3,
    ),
    "folds": indexed_job(SETTINGS, folds(), name="churn-cv-folds", retry_limit=2, completions=5, parallelism=2, suspend=True),
}


@pytest.mark.parametrize("name", JOBS)
def test_the_job_is_the_golden_one(name: str) -> None:
    golden = GOLDEN / f"{name}.yaml"
    if os.environ.get("MODELSHIP_UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(yaml.safe_dump(JOBS[name], sort_keys=False, width=120), encoding="utf-8")
    assert JOBS[name] == yaml.safe_load(golden.read_text(encoding="utf-8"))


def container(job: dict[str, Any]) -> dict[str, Any]:
    only: dict[str, Any]
    (only,) = job["spec"]["template"]["spec"]["containers"]
    return only


def environment(job: dict[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container(job)["env"]}


@pytest.mark.parametrize("name", JOBS)
def test_the_pod_passes_the_restricted_standard(name: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    pod = JOBS[name]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert pod["securityContext"].get("runAsUser") != 0
    volumes = {"persistentVolumeClaim", "projected", "emptyDir", "configMap", "secret"}
    assert all(volumes & volume.keys() for volume in pod["volumes"])
    security = container(JOBS[name])["securityContext"]
    assert security == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert pod["automountServiceAccountToken"] is False


def test_the_task_in_the_environment_is_the_contract_s() -> None:
    assert TrainTask.model_validate_json(environment(JOBS["train"])["MODELSHIP_TASK"]).recipe == RECIPE
    assert EvaluateTask.model_validate_json(environment(JOBS["folds"])["MODELSHIP_TASK"]).method.k_fold == KFold(folds=5)
    assert container(JOBS["train"])["command"] == ["modelship-train"]
    assert container(JOBS["folds"])["command"] == ["modelship-evaluate"]


def test_without_a_place_to_report_to_nothing_is_said_of_one() -> None:
    assert "MODELSHIP_PROGRESS_URL" not in environment(JOBS["train-gpus"])
    assert environment(JOBS["train"])["MODELSHIP_PROGRESS_URL"] == "http://operator:8090/v1/progress"


def test_a_pod_knows_its_own_name() -> None:
    """Its host name is another: churn-train-0, whichever pod of the index it is."""
    assert environment(JOBS["train"])["MODELSHIP_POD_NAME"] == {"fieldRef": {"fieldPath": "metadata.name"}}


def mounts(job: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    """Where each claim is mounted, and whether it may be written."""
    claims = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in job["spec"]["template"]["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    found = [mount for mount in container(job)["volumeMounts"] if mount["name"] in claims]
    assert len(found) == len(claims)
    return {claims[mount["name"]]: (mount["mountPath"], not mount.get("readOnly", False)) for mount in found}


@pytest.mark.parametrize(
    ("source", "store", "expected"),
    [
        ("pvc://data/x.csv", "pvc://models", {"models": ("/mnt/pvc/models", True), "data": ("/mnt/pvc/data", False)}),
        ("pvc://models/x.csv", "pvc://models/deep/er", {"models": ("/mnt/pvc/models", True)}),
        ("sklearn://digits", "pvc://models", {"models": ("/mnt/pvc/models", True)}),
        ("https://x.example/y.csv", "pvc://a.b-c", {"a.b-c": ("/mnt/pvc/a.b-c", True)}),
    ],
)
def test_each_claim_is_mounted_once_and_data_only_to_read(source: str, store: str, expected: dict[str, tuple[str, bool]]) -> None:
    job = indexed_job(SETTINGS, train(source=source, store=store), name="x-train", retry_limit=0)
    assert mounts(job) == expected


def test_claims_of_uris() -> None:
    found = [claim_of(uri) for uri in ("pvc://models", "pvc://models/", "pvc://models/a/b", "https://pvc/x", "sklearn://wine")]
    assert found == ["models", "models", "models", None, None]


def test_the_credentials_are_named_never_read() -> None:
    assert container(JOBS["folds"])["envFrom"] == [{"prefix": "MODELSHIP_DATA_", "secretRef": {"name": "data-login"}}]
    assert "envFrom" not in container(JOBS["train"])


def test_a_queue_owns_suspend() -> None:
    assert JOBS["train-gpus"]["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert "suspend" not in JOBS["train-gpus"]["spec"]
    assert (JOBS["train"]["spec"]["suspend"], JOBS["folds"]["spec"]["suspend"]) == (False, True)


@pytest.mark.parametrize(
    ("accelerator", "resource"),
    [
        (Accelerator(), "nvidia.com/gpu"),
        (Accelerator(type=AcceleratorType.TPU), "google.com/tpu"),
        (Accelerator(resource="amd.com/gpu"), "amd.com/gpu"),
    ],
)
def test_an_accelerator_is_its_resource(accelerator: Accelerator, resource: str) -> None:
    job = indexed_job(SETTINGS, train(Compute(accelerator=accelerator)), name="x-train", retry_limit=0)
    given = container(job)["resources"]
    assert given["limits"] == {"memory": "2Gi", resource: "1"}
    assert given["requests"] == {"cpu": "250m", "memory": "2Gi", resource: "1"}


def test_every_exit_code_of_the_contract_has_its_answer() -> None:
    rules = JOBS["train"]["spec"]["podFailurePolicy"]["rules"]
    actions = {code: rule["action"] for rule in rules if "onExitCodes" in rule for code in rule["onExitCodes"]["values"]}
    assert {code: actions.get(code, "Count") for code in ExitCode if code is not ExitCode.OK} == {
        ExitCode.INVALID: "FailJob",
        ExitCode.DIGEST_MISMATCH: "FailJob",
        ExitCode.TEMPORARY: "Count",
        ExitCode.INTERRUPTED: "Ignore",
    }
    assert next(list(rule)[1] for rule in rules if rule["action"] == "Ignore") == "onPodConditions"


def test_no_more_folds_at_once_than_there_are() -> None:
    job = indexed_job(SETTINGS, folds(), name="x", retry_limit=0, completions=2, parallelism=9)
    assert (job["spec"]["completions"], job["spec"]["parallelism"]) == (2, 2)


def test_children_and_their_pods_carry_the_labels_and_the_owner() -> None:
    job = JOBS["train"]
    assert labels(OWNER).items() <= job["metadata"]["labels"].items()
    assert job["spec"]["template"]["metadata"] == {"labels": labels(OWNER)}
    assert owned_by(job, OWNER.uid)
    assert not owned_by(job, "other")
    assert all(len(value) <= 63 for value in labels(OWNER).values())


def test_the_platform_may_choose_the_user() -> None:
    """OpenShift's restricted-v2 refuses ids that are not of the namespace's range."""
    job = indexed_job(SETTINGS, train(Compute.model_validate({"pod": {"runAs": {"platform": True}}})), name="x", retry_limit=0)
    security = job["spec"]["template"]["spec"]["securityContext"]
    assert security.keys() == {"runAsNonRoot", "seccompProfile", "fsGroupChangePolicy"}
    assert security["runAsNonRoot"] is True


def test_no_proxy_is_asked_for_what_is_in_the_cluster() -> None:
    around = environment(JOBS["train-policies"])["NO_PROXY"].split(",")
    assert {".svc", ".cluster.local", "operator.ship", ".corp.example"} <= set(around)


def test_what_is_named_goes_before_what_is_announced() -> None:
    """A variable is there once, else an apply is refused."""
    names = [entry["name"] for entry in container(JOBS["train-policies"])["env"]]
    assert len(names) == len(set(names))
    assert environment(JOBS["train-policies"])["https_proxy"] == {"configMapKeyRef": {"name": "proxy", "key": "url"}}


def test_building_is_pure() -> None:
    """The same arguments give the same bytes, and a built object shares nothing that a caller could change for the next one."""
    first, second = (indexed_job(SETTINGS, train(FULL), name="x-train", retry_limit=0) for _ in range(2))
    assert json.dumps(first) == json.dumps(second)
    parts = [id(node) for node in itertools.chain(walk(first), walk(second))]
    assert len(parts) == len(set(parts))


def walk(node: Any) -> list[Any]:
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    here = [node] if isinstance(node, dict | list) else []
    return here + [below for child in children for below in walk(child)]
