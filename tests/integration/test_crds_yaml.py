"""`modelship validate` reads YAML as kubectl does: what is text there is text here."""

from __future__ import annotations

import json

import pytest
import yaml
from tests.support.controlplane import ControlPlane

from modelship_trainer.yaml_text import KubectlLoader, as_sent

pytestmark = pytest.mark.integration

WORDS = "y Y n yes No NO on Off true False ~ null Null a.b = <x 1.2.3 1e 0x _1"
NUMBERS = "7 -7 +7 007 0o7 08 0x1F 0b11 1_000 1e3 1e-3 1.5e+3 .5 1. 1.0 -0.5 +1.5 6.0e23 1E5"
MORE_NUMBERS = "-.5e-3 00 0. 1_ 1__0 0x_1 1.5_0 0b2 -0x1F +.5"
OTHERS = "12:30 1:30:00 2024-01-01 2024-01-01T00:00:00Z 1e5.0 - 0B1 0X1f 1.7976931348623157e308 \"7\" 'y'"
ODD = "0b_ 0x_ 0o_ 1e_ ._ +._ 1e999 -1e999 9223372036854775807 -9223372036854775808 1000000000000000000000000 " + "9" * 5000
SCALARS = f"{WORDS} {NUMBERS} {MORE_NUMBERS} {OTHERS} {ODD}".replace(" - ", " ").split()


def test_scalars(plane: ControlPlane) -> None:
    """All of them at once: each under its own key, as kubectl prints what it read."""
    body = "\n".join(f"  k{number}: {scalar}" for number, scalar in enumerate(SCALARS))
    text = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: scalars}}\nvalues:\n{body}\n"
    printed = plane.kubectl("create", "--dry-run=client", "--validate=false", "-o", "json", "-f", "-", stdin=text)
    assert printed.returncode == 0, printed.stderr
    theirs = json.loads(printed.stdout)["values"]
    ours = as_sent(yaml.load(text, Loader=KubectlLoader))["values"]
    named = {scalar: (theirs.get(f"k{number}"), ours.get(f"k{number}")) for number, scalar in enumerate(SCALARS)}
    assert {scalar: pair for scalar, pair in named.items() if json.dumps(pair[0]) != json.dumps(pair[1])} == {}
