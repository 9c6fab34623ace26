"""ModelTraining for the runtime: observe, plan."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from modelship_operator.controllers.framework import Json, ObjectKey, Plan, StoreView
from modelship_operator.controllers.training.observed import Observed, observe
from modelship_operator.controllers.training.plan import plan
from modelship_operator.resources.settings import PodSettings


class TrainingController:
    """One run: `framework.Controller` for ModelTraining."""

    kind = "ModelTraining"
    plural = "modeltrainings"

    def __init__(self, settings: PodSettings) -> None:
        self.settings = settings

    def references(self, obj: Json) -> Iterable[ObjectKey]:
        """None: claims and Secrets are waited for by the pod, and its status says so."""
        return ()

    def observe(self, store: StoreView, obj: Json) -> Observed:
        """See `observed.observe`."""
        return observe(store, obj, self.settings)

    def plan(self, observed: Observed, now: datetime) -> Plan:
        """See `plan.plan`."""
        return plan(observed, now)
