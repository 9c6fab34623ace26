"""Keys and values of labels, as Kubernetes has them."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import StringConstraints

from modelship_trainer.schema import DNS_SUBDOMAIN, Obeys, Rule

QUALIFIED = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABEL_KEY = rf"^({DNS_SUBDOMAIN}/)?{QUALIFIED}$"
LabelKey = Annotated[str, StringConstraints(pattern=_LABEL_KEY, max_length=253)]
LABEL_KEYS = Obeys(
    Rule(
        f"self.all(key, size(key) <= 253 && key.matches(r'{_LABEL_KEY}'))",
        "keys must be names of labels, such as disktype or topology.kubernetes.io/zone",
    ),
    lambda labels: all(len(key) <= 253 and re.match(_LABEL_KEY, key) for key in labels),
)
"""Marks a map of labels: a schema says nothing of a map's keys."""
LabelValue = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)]
