"""The same file applied again changes nothing, by whomever and in whichever way: as GitOps does it, every few minutes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tests.support.controlplane import ROOT, ControlPlane

pytestmark = pytest.mark.integration

DEFAULTS_LEFT_OUT = """
apiVersion: modelship.dev/v1alpha1
kind: ModelTraining
metadata: {name: lists}
spec:
  data:
    source: pvc://data/a.csv
    target: label
    preprocessing: [{impute: {}}, {clip: {}}, {tokenize: {columns: [t]}}, {normalize: {}}]
  model: {mlp: {}}
  training: {task: classification}
  compute:
    tolerations: [{key: gpu}]
    pod:
      topologySpread: [{topologyKey: zone}]
      volumes: [{mountPath: /data, emptyDir: {}}, {mountPath: /more, claim: more}]
  output: {store: "pvc://models"}
---
apiVersion: modelship.dev/v1alpha1
kind: ModelEvaluation
metadata: {name: lists}
spec:
  modelRef: {training: lists}
  method: {kFold: {}}
  gates: [{metric: accuracy, min: 0.8}, {metric: accuracy, statistic: worst, min: 0.7}]
"""


def files() -> dict[str, str]:
    """Every example, and the defaults that examples do not leave out."""
    found = {str(path.relative_to(ROOT)): path.read_text() for path in sorted((ROOT / "examples").rglob("*.yaml"))}
    ours = {name: text for name, text in found.items() if "modelship.dev/" in text}
    assert ours
    return {"defaults left out": DEFAULTS_LEFT_OUT, **ours}


@pytest.mark.parametrize("name", files())
def test_applied_again_it_is_unchanged_and_another_manager_s_apply_agrees(
    name: str, plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    file = tmp_path / "file.yaml"
    documents = [document for document in yaml.safe_load_all(files()[name]) if document]
    file.write_text(yaml.safe_dump_all(documents))
    apply = ("apply", "--namespace", namespace, "-f", str(file))
    assert plane.kubectl(*apply).returncode == 0
    again = plane.kubectl(*apply)
    assert [line.rsplit(" ", 1)[1] for line in again.stdout.splitlines()] == ["unchanged"] * len(documents), again
    gitops = plane.kubectl(*apply, "--server-side", "--field-manager=gitops")
    assert gitops.returncode == 0, gitops.stderr
    third = plane.kubectl(*apply, "--server-side", "--field-manager=third")
    assert third.returncode == 0, third.stderr
