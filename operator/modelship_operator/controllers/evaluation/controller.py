"""ModelEvaluation for the runtime: observe, plan."""

from __future__ import annotations

from modelship_operator.controllers.evaluation.observed import Observed, observe, references
from modelship_operator.controllers.evaluation.plan import plan
from modelship_operator.controllers.framework import Controller
from modelship_operator.resources.settings import PodSettings


def evaluation_controller(settings: PodSettings) -> Controller[Observed]:
    """What it names requeues it: see `observed.references`."""
    return Controller(
        kind="ModelEvaluation",
        plural="modelevaluations",
        observe=lambda store, obj: observe(store, obj, settings),
        plan=plan,
        references=references,
    )
