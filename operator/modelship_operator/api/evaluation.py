"""ModelEvaluation: how good a model is, and a verdict bound to its digest."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from modelship_operator.api.common import Compute, Digest, ModelReference, ResourceName, Status, Text, Time, raise_broken
from modelship_trainer.judgement import METRICS, Gate, Method, Metric, MetricResult, Statistic, metrics_of
from modelship_trainer.protocol import Progress
from modelship_trainer.recipe import IS_BUNDLED, NO_LOGIN_IN_SOURCE, NO_WAY_UP, Task, carries_login
from modelship_trainer.recipe.data import SecretName
from modelship_trainer.schema import DNS_SUBDOMAIN, Distinct, Model, Obeys, Rule

RemoteSource = Annotated[
    str,
    StringConstraints(pattern=rf"^(pvc://{DNS_SUBDOMAIN}(/.*)?|https://.+|sklearn://[a-z_]+)$", max_length=2048),
    IS_BUNDLED,
    NO_WAY_UP,
]
"""As `recipe.SourceUri`, without the laptop's file:///."""


class BaselineReference(Model):
    """What to compare with."""

    evaluation: ResourceName = Field(description="Name of a finished ModelEvaluation in this namespace; it need not exist yet.")


class EvaluationData(Model):
    """Other data than the training's own test split."""

    rules = (
        NO_LOGIN_IN_SOURCE,
        Rule("!has(self.credentialsSecret) || self.source.startsWith('https://')", "credentialsSecret needs a source of https://"),
    )

    source: RemoteSource = Field(description="As ModelTraining.spec.data.source; every row is a test row.")
    credentials_secret: SecretName | None = Field(
        None,
        description="As ModelTraining.spec.data.credentialsSecret; that of the training when left out and the server is the same.",
    )

    @model_validator(mode="after")
    def _readable(self) -> Self:
        secret_without_use = self.credentials_secret is not None and not self.source.startswith("https://")
        raise_broken(self.rules, (carries_login(self.source), secret_without_use))
        return self


def _of_one_task() -> str:
    """CEL: all metrics named in metrics and gates are of one task."""

    def all_of(task: Task) -> str:
        names = "[" + ", ".join(f"'{metric}'" for metric in metrics_of(task)) + "]"
        measured = f"!has(self.metrics) || self.metrics.all(m, m in {names})"
        judged = f"!has(self.gates) || self.gates.all(g, g.metric in {names})"
        return f"({measured}) && ({judged})"

    return " || ".join(f"({all_of(task)})" for task in Task)


_NONE_TWICE = Obeys(
    Rule(
        "self.all(g, self.exists_one(h, h.metric == g.metric"
        " && (has(h.statistic) ? h.statistic : 'mean') == (has(g.statistic) ? g.statistic : 'mean')))",
        "a metric with the same statistic must not be there twice",
    ),
    lambda gates: len({(gate.metric, gate.statistic) for gate in gates}) == len(gates),
)
"""Not a list of type map: its keys would have to be written out, or filled in by the API server."""


class ModelEvaluationSpec(Model):
    """What to measure and what must hold. Cannot change once created, except suspend and ttlSecondsAfterFinished."""

    rules = (
        Rule(
            "!has(self.gates) || has(self.method.kFold)"
            " || self.gates.all(g, !has(g.statistic) || !(g.statistic in ['lowerBound', 'upperBound', 'worst']))",
            "gates with statistic lowerBound, upperBound or worst need method.kFold",
        ),
        Rule(
            "!has(self.gates) || has(self.baselineRef) || self.gates.all(g, !has(g.maxRegression))",
            "gates with maxRegression need baselineRef",
        ),
        Rule(
            "!has(self.baselineRef) || (has(self.gates) && self.gates.exists(g, has(g.maxRegression)))",
            "baselineRef needs a gate with maxRegression",
        ),
        Rule(
            "!has(self.modelRef.artifact) || (has(self.data) && has(self.method.holdout))",
            "modelRef.artifact needs data and method.holdout: what it was trained on is known of a training only",
        ),
        Rule(
            "!has(self.data) || !has(self.method.kFold)",
            "data needs method.holdout: folds are cut from the training's own data",
        ),
        Rule(
            _of_one_task(),
            "metrics and gates must be of one task: " + "; ".join(f"{task}: {', '.join(metrics_of(task))}" for task in Task),
        ),
    )

    model_ref: ModelReference = Field(description="The model: a training's result, or an artifact.")
    method: Method = Field(description="holdout or kFold.")
    metrics: Annotated[list[Metric], Field(min_length=1, max_length=len(Metric)), Distinct()] | None = Field(
        None, description="What to measure; all metrics of the task when left out."
    )
    gates: Annotated[list[Gate], Field(max_length=32), _NONE_TWICE] = Field(
        default_factory=list, description="What must hold for the verdict Passed; without gates a finished evaluation has passed."
    )
    baseline_ref: BaselineReference | None = Field(None, description="The evaluation that gates with maxRegression compare with.")
    data: EvaluationData | None = Field(None, description="Other data to score on, with method.holdout.")
    compute: Compute | None = Field(None, description="Where the pods run; as the training's when left out.")
    suspend: bool = Field(False, description="true: hold; false: go on.")
    retry_limit: int = Field(3, ge=0, le=100, description="Restarts of a pod after failures that are not yours to fix.")
    ttl_seconds_after_finished: int | None = Field(
        None, ge=0, le=31_536_000, description="Delete the Jobs this long after the end; the verdict stays in status."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        folds = self.method.k_fold is not None
        spread = {Statistic.LOWER_BOUND, Statistic.UPPER_BOUND, Statistic.WORST}
        named = [*(self.metrics or []), *(gate.metric for gate in self.gates)]
        broken = (
            not folds and any(gate.statistic in spread for gate in self.gates),
            self.baseline_ref is None and any(gate.max_regression is not None for gate in self.gates),
            self.baseline_ref is not None and all(gate.max_regression is None for gate in self.gates),
            self.model_ref.artifact is not None and (self.data is None or folds),
            self.data is not None and folds,
            len({METRICS[metric].task for metric in named}) > 1,
        )
        raise_broken(self.rules, broken)
        return self


class Verdict(StrEnum):
    """Whether all gates passed."""

    PASSED = "Passed"
    FAILED = "Failed"


class GateStatus(Model):
    """One gate's outcome."""

    metric: Metric = Field(description="The gate's metric.")
    statistic: Statistic = Field(description="The gate's statistic.")
    passed: bool = Field(description="Whether it holds.")
    message: Text = Field(description="One sentence with the numbers.")


class Subject(Model):
    """What the verdict is about, by content."""

    artifact_digest: Digest = Field(description="Digest of the artifact that was scored.")
    recipe_digest: Digest = Field(description="Digest of the recipe that was scored or retrained.")
    data_digest: Digest = Field(description="Digest of the data that it was measured on.")


class Report(Model):
    """The HTML report; `modelship report NAME` fetches it."""

    uri: Text = Field(description="Where it lies.")
    digest: Digest = Field(description="Its SHA-256.")


class ModelEvaluationStatus(Status):
    """What was measured, and the verdict."""

    verdict: Verdict | None = Field(None, description="Passed or Failed, once everything is measured.")
    method: Annotated[str, StringConstraints(max_length=32)] | None = Field(None, description="For kubectl get: holdout or 5-fold.")
    score: Annotated[str, StringConstraints(max_length=63)] | None = Field(None, description="For kubectl get: the first metric.")
    results: Annotated[list[MetricResult], Field(max_length=len(Metric)), Distinct("metric")] | None = Field(
        None, description="Each metric: mean, std, folds, test."
    )
    gates: Annotated[list[GateStatus], Field(max_length=32), Distinct("metric", "statistic")] | None = Field(
        None, description="Each gate's outcome."
    )
    subject: Subject | None = Field(None, description="What the verdict is about.")
    rows: int | None = Field(None, ge=0, description="Test rows that the artifact was scored on.")
    report: Report | None = Field(None, description="The HTML report.")
    progress: Progress | None = Field(None, description="How far the run is.")
    progress_text: Annotated[str, StringConstraints(max_length=63)] | None = Field(
        None, description="For kubectl get: folds done of folds planned."
    )
    start_time: Time | None = Field(None, description="When the first Job started.")
    completion_time: Time | None = Field(None, description="When the evaluation ended.")
