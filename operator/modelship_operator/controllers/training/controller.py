"""ModelTraining for the runtime: observe, plan."""

from __future__ import annotations

from modelship_operator.controllers.framework import Controller
from modelship_operator.controllers.training.observed import Observed, observe
from modelship_operator.controllers.training.plan import plan
from modelship_operator.resources.settings import PodSettings


def training_controller(settings: PodSettings) -> Controller[Observed]:
    """Claims and Secrets that it names are waited for by the pod, and its status says so."""
    return Controller(
        kind="ModelTraining",
        plural="modeltrainings",
        observe=lambda store, obj: observe(store, obj, settings),
        plan=plan,
    )
