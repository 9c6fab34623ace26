"""What counts as a change by somebody else, and what is only the API server's way of writing the same."""

from __future__ import annotations

from typing import Any

import pytest

from modelship_operator.resources.covers import covers

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("live", "desired"),
    [
        pytest.param({"a": 1, "defaulted": True}, {"a": 1}, id="a field that the server adds"),
        pytest.param({}, {"selector": {}, "tolerations": [], "text": "", "none": None}, id="empty fields that it leaves out"),
        pytest.param({"cpu": "500m"}, {"cpu": "0.5"}, id="half a core"),
        pytest.param({"cpu": "2"}, {"cpu": "2000m"}, id="two cores"),
        pytest.param({"memory": "1Gi"}, {"memory": "1024Mi"}, id="a gibibyte"),
        pytest.param({"memory": "1536Mi"}, {"memory": "1.5Gi"}, id="one and a half"),
        pytest.param({"memory": "2G"}, {"memory": "2000000000"}, id="bytes"),
        pytest.param([{"name": "a", "protocol": "TCP"}], [{"name": "a"}], id="items of lists alike"),
    ],
)
def test_the_same_written_otherwise(live: Any, desired: Any) -> None:
    assert covers(live, desired)


@pytest.mark.parametrize(
    ("live", "desired"),
    [
        pytest.param({"a": 2}, {"a": 1}, id="another value"),
        pytest.param({}, {"runAsNonRoot": True}, id="a field that is gone"),
        pytest.param({}, {"automountServiceAccountToken": False}, id="a false that is gone"),
        pytest.param({"replicas": 0}, {"replicas": 1}, id="scaled"),
        pytest.param([{"port": 80}, {"port": 81}], [{"port": 80}], id="an item more"),
        pytest.param([{"port": 80}], [{"port": 80}, {"port": 81}], id="an item less"),
        pytest.param([{"port": 81}, {"port": 80}], [{"port": 80}, {"port": 81}], id="another order"),
        pytest.param({"from": [{}]}, {"from": [{"podSelector": {"matchLabels": {"may": "ask"}}}]}, id="a peer that lets all in"),
        pytest.param({"selector": {"a": "b", "c": "d"}}, {"selector": {"a": "b"}}, id="a narrower selector"),
        pytest.param({"podSelector": {"matchLabels": {"a": "b"}}}, {"podSelector": {}}, id="a selector for all, narrowed"),
        pytest.param({"memory": "2Gi"}, {"memory": "2G"}, id="another quantity"),
        pytest.param({"a": "x"}, {"a": {"b": 1}}, id="another type"),
        pytest.param({"a": None}, {"a": [1]}, id="none for a list"),
    ],
)
def test_a_change(live: Any, desired: Any) -> None:
    assert not covers(live, desired)
