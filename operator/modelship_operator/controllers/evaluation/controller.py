"""ModelEvaluation for the runtime: observe, plan."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from modelship_operator.controllers.evaluation.observed import KIND, Observed, observe, references
from modelship_operator.controllers.evaluation.plan import plan
from modelship_operator.controllers.framework import Json, ObjectKey, Plan, StoreView
from modelship_operator.resources.settings import PodSettings


class EvaluationController:
    """One measurement: `framework.Controller` for ModelEvaluation."""

    kind = KIND
    plural = "modelevaluations"

    def __init__(self, settings: PodSettings) -> None:
        self.settings = settings

    def references(self, obj: Json) -> Iterable[ObjectKey]:
        """See `observed.references`."""
        return references(obj)

    def observe(self, store: StoreView, obj: Json) -> Observed:
        """See `observed.observe`."""
        return observe(store, obj, self.settings)

    def plan(self, observed: Observed, now: datetime) -> Plan:
        """See `plan.plan`."""
        return plan(observed, now)
