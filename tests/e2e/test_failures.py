"""What a user is told when something is wrong: the reason and the cure are in the resource, no pod log is needed."""

from __future__ import annotations

import copy
from typing import Any

from tests.e2e.cluster import Kubectl, Object, condition, example, helper_pod, named, run_pod, store_claim


def training(name: str, **spec: Any) -> Object:
    return named(example("tabular", "ModelTraining", **spec), name)


def write_csv(kubectl: Kubectl, image: str, path: str, text: str, claim: str = "models") -> None:
    script = "import os, pathlib; p = pathlib.Path('/store', os.environ['FILE']); p.write_text(os.environ['TEXT'])"
    run_pod(kubectl, helper_pod("write", image, script, claim=claim, env={"FILE": path, "TEXT": text}))


def test_a_wrong_column_names_the_columns_that_there_are(kubectl: Kubectl, image_names: dict[str, str]) -> None:
    rows = "".join(f"{i},{i * 100},{'basic' if i % 3 else 'pro'},{i % 2}\n" for i in range(60))
    write_csv(kubectl, image_names["OPERATOR"], "churn.csv", "age,income,plan,churned\n" + rows)
    data = {
        "source": "pvc://models/churn.csv",
        "target": "churned",
        "preprocessing": [{"oneHot": {"columns": ["plan"]}}, {"normalize": {"columns": ["incme"]}}],
    }
    kubectl.apply(training("wrong-column", data=data))
    message = kubectl.reason("mt", "wrong-column", "DataInvalid")
    assert 'column "incme" is not in pvc://models/churn.csv; columns: age, income, plan' in message


def test_a_missing_dataset_is_named(kubectl: Kubectl) -> None:
    kubectl.apply(training("missing-data", data={"source": "pvc://models/absent.csv", "target": "y"}))
    message = kubectl.reason("mt", "missing-data", "DataNotFound")
    assert "pvc://models/absent.csv" in message
    stalled = condition(kubectl.get("mt", "missing-data"), "Ready")
    assert stalled["status"] == "False"


def test_a_loss_that_is_not_finite_stops_the_run(kubectl: Kubectl) -> None:
    spec = copy.deepcopy(example("tabular", "ModelTraining")["spec"]["training"])
    spec["optimizer"] = {"sgd": {"learningRate": 100, "momentum": 0.99}}
    spec.pop("earlyStopping")
    target = {"source": "sklearn://diabetes", "split": {"stratify": False}}
    kubectl.apply(training("diverges", data=target, training={**spec, "task": "regression", "epochs": 200}, model={"linear": {}}))
    message = kubectl.reason("mt", "diverges", "NonFiniteLoss")
    assert "lower optimizer.sgd.learningRate or clip gradients" in message


def test_a_missing_claim_is_waited_for(kubectl: Kubectl) -> None:
    kubectl.apply(training("waits-claim", output={"store": "pvc://later"}))
    assert "later" in kubectl.reason("mt", "waits-claim", "WaitingForClaim")
    kubectl.apply(store_claim("later"))
    kubectl.ready("mt", "waits-claim")


def test_a_missing_secret_is_waited_for_and_shown_to_nobody(kubectl: Kubectl) -> None:
    """The source is the API server's own port, whose certificate no pod of ours trusts: it is not told the token."""
    data = {"source": "https://kubernetes.default.svc/churn.csv", "target": "churned", "credentialsSecret": "data-login"}
    kubectl.apply(training("waits-secret", data=data, retryLimit=0))
    assert "data-login" in kubectl.reason("mt", "waits-secret", "WaitingForSecret")
    kubectl.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "data-login"}, "stringData": {"token": "s3cr3t-token"}}
    )
    assert "ClientConnectorCertificateError" in kubectl.reason("mt", "waits-secret", "StoreUnavailable")
    everything = kubectl("get", "modelship,jobs,pods,events", "-o", "yaml") + kubectl(
        "logs", "-l", "modelship.dev/name=waits-secret"
    )
    assert "s3cr3t-token" not in everything


def test_out_of_memory_names_the_limit(kubectl: Kubectl) -> None:
    kubectl.apply(training("too-small", compute={"memory": "160Mi"}, retryLimit=0))
    message = kubectl.reason("mt", "too-small", "OutOfMemory")
    assert "160Mi" in message
    assert "compute.memory" in message


def test_a_gate_refuses_a_model_that_is_not_good_enough(kubectl: Kubectl) -> None:
    """The evaluation says Failed, the deployment says why, and nothing is ever started."""
    weak = training("weak", training={"task": "classification", "epochs": 1, "optimizer": {"sgd": {"learningRate": 1e-6}}})
    evaluation = named(example("image", "ModelEvaluation", modelRef={"training": "weak"}), "weak-holdout")
    evaluation["spec"]["gates"] = [{"metric": "accuracy", "min": 0.99}]
    deployment = named(
        example("image", "ModelDeployment", modelRef={"training": "weak"}, gate={"evaluations": ["weak-holdout"]}), "weak"
    )
    kubectl.apply(weak, evaluation, deployment)
    message = kubectl.reason("md", "weak", "GateFailed", seconds=240)
    assert message.startswith("weak-holdout: accuracy 0.")
    assert "is below 0.99" in message
    assert kubectl.get("me", "weak-holdout")["status"]["verdict"] == "Failed"
    assert not kubectl.list("deployments,replicasets,pods,services", "modelship.dev/kind=ModelDeployment,modelship.dev/name=weak")
    started = {event["involvedObject"]["name"] for event in kubectl.list("events") if event["reason"] == "ScalingReplicaSet"}
    assert "weak" not in started, "nor was there ever"


def test_a_missing_reference_is_waited_for(kubectl: Kubectl) -> None:
    kubectl.apply(named(example("image", "ModelDeployment", modelRef={"training": "nowhere"}), "early"))
    assert kubectl.reason("md", "early", "WaitingForReference") == 'ModelTraining "nowhere" does not exist yet.'
