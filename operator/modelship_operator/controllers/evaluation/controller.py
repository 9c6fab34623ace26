"""The controller of ModelEvaluation: what it reads of the store."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from modelship_operator.api.evaluation import ModelEvaluationSpec
from modelship_operator.controllers.evaluation.plan import KIND, Observed, plan_evaluation
from modelship_operator.controllers.framework import ObjectKey, Plan, StoreView
from modelship_operator.resources.evaluation import folds_name, score_name
from modelship_operator.resources.settings import PodSettings

Json = dict[str, Any]


class EvaluationController:
    """Observe and plan; the runtime acts."""

    kind = KIND
    plural = "modelevaluations"

    def __init__(self, settings: PodSettings) -> None:
        self._settings = settings

    def references(self, obj: Json) -> Iterable[ObjectKey]:
        """The training that it measures, and its baseline."""
        namespace, spec = obj["metadata"]["namespace"], obj.get("spec", {})
        if name := spec.get("modelRef", {}).get("training"):
            yield ObjectKey("ModelTraining", namespace, name)
        if name := spec.get("baselineRef", {}).get("evaluation"):
            yield ObjectKey(KIND, namespace, name)

    def observe(self, store: StoreView, obj: Json) -> Observed:
        """Gather the evaluation's world."""
        metadata = obj["metadata"]
        namespace, name, uid = metadata["namespace"], metadata["name"], metadata["uid"]
        spec = ModelEvaluationSpec.model_validate(obj["spec"])
        jobs = {job["metadata"]["name"]: job for job in store.children(uid, "Job")}
        training, baseline = spec.model_ref.training, spec.baseline_ref
        return Observed(
            evaluation=obj,
            spec=spec,
            training=store.get(ObjectKey("ModelTraining", namespace, training)) if training else None,
            baseline=store.get(ObjectKey(KIND, namespace, baseline.evaluation)) if baseline else None,
            folds=jobs.get(folds_name(name)),
            score=jobs.get(score_name(name)),
            pods=tuple(store.children(uid, "Pod")),
            progress=store.progress(uid),
            failure=store.failure(uid),
        )

    def plan(self, observed: Observed, now: datetime) -> Plan:
        """What should exist, and the next status."""
        return plan_evaluation(self._settings, observed, now)
