"""Settings, logs, and that `docs/operations.md` lists what there is."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import orjson
import pytest

from modelship_operator.controllers.framework import FoldProgress
from modelship_operator.runtime.logs import JsonFormatter
from modelship_operator.runtime.metrics import Metrics
from modelship_operator.runtime.settings import PREFIX, Settings, SettingsError, listen_address
from modelship_operator.runtime.store import Store
from modelship_trainer.protocol import Progress

pytestmark = pytest.mark.unit

DOCUMENT = (Path(__file__).parents[3] / "docs/operations.md").read_text()
REQUIRED = {f"MODELSHIP_{name}_IMAGE": f"{name.lower()}:1" for name in ("TRAINER", "TRITON", "GATEWAY", "OPERATOR")}


def test_the_document_lists_every_metric_and_no_other() -> None:
    metrics = Metrics()
    metrics.queue_depth(lambda: 0, lambda: 0)
    metrics.describe_store(Store({}, lambda key: None), ["ModelTraining"])
    families = {family.name + ("_total" if family.type == "counter" else "") for family in metrics.registry.collect()}
    documented = set(re.findall(r"^\| `(modelship_\w+)`", DOCUMENT, re.MULTILINE))
    assert documented == {name for name in families if name.startswith("modelship_")}


def test_of_a_training_that_started_over_the_pod_that_trains_is_told() -> None:
    """The failed one, and what it pushed last, is there for as long as its Job."""
    store, metrics = Store({}, lambda key: None), Metrics()
    metrics.describe_store(store, ["ModelTraining"])
    metadata = {"namespace": "n", "name": "churn", "uid": "u", "resourceVersion": "1"}
    store.put({"apiVersion": "modelship.dev/v1alpha1", "kind": "ModelTraining", "metadata": metadata})
    for pod, epoch in (("first", 3), ("second", 4), ("second", 5)):
        store.set_progress("u", {pod: FoldProgress(pod, None, Progress(phase="Training", epoch=epoch, loss="0.5"))})
    assert metrics.registry.get_sample_value("modelship_training_epoch", {"namespace": "n", "name": "churn"}) == 5


def test_the_document_lists_every_setting_and_no_other() -> None:
    documented = set(re.findall(r"^\| `(MODELSHIP_\w+)`", DOCUMENT, re.MULTILINE))
    assert documented == {PREFIX + name.upper() for name in Settings.model_fields}


def test_lists_are_separated_by_commas_and_unset_is_the_default() -> None:
    settings = Settings.from_environment({**REQUIRED, "MODELSHIP_NAMESPACES": "a, b,", "MODELSHIP_LOG_LEVEL": ""})
    assert settings.namespaces == ("a", "b")
    assert settings.log_level == "info"
    assert Settings.from_environment(REQUIRED).watched_namespaces == (None,)


def test_what_kubernetes_sets_for_a_service_named_modelship_is_no_setting() -> None:
    Settings.from_environment({**REQUIRED, "MODELSHIP_PORT": "tcp://10.0.0.1:8090", "MODELSHIP_SERVICE_HOST": "10.0.0.1"})


def test_every_wrong_setting_is_named_and_no_value_shown() -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_environment({**REQUIRED, "MODELSHIP_WORKERS": "many", "MODELSHIP_GATEWAY_IMAGE": ""})
    assert "MODELSHIP_WORKERS" in str(error.value)
    assert "MODELSHIP_GATEWAY_IMAGE" in str(error.value)
    assert "many" not in str(error.value)


@pytest.mark.parametrize(("text", "address"), [(":1", (None, 1)), ("127.0.0.1:2", ("127.0.0.1", 2)), ("[::1]:3", ("::1", 3))])
def test_listen_address(text: str, address: tuple[str | None, int]) -> None:
    assert listen_address(text) == address


def test_the_leader_stops_acting_well_before_another_may_begin() -> None:
    lease = Settings.from_environment({**REQUIRED, "MODELSHIP_POD_IP": "fd00::1"}).lease
    assert lease.renew_every < lease.deadline < lease.duration
    assert lease.address == "http://[fd00::1]:8090/v1/progress"


def test_a_log_line_is_json_with_the_fields_that_were_given() -> None:
    record = logging.makeLogRecord({"name": "modelship_operator.kube.lease", "levelname": "INFO", "msg": "a %s", "args": ("b",)})
    record.resource, record.settings = "churn", object()
    line = orjson.loads(JsonFormatter().format(record))
    assert line == {"time": line["time"], "level": "info", "logger": "kube.lease", "message": "a b", "resource": "churn"}
