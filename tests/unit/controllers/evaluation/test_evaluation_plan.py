"""What a ModelEvaluation becomes: folds, then the score, then a verdict that stays; and in words why it waits or failed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from evaluation_world import (
    BACKOFF,
    COMPLETE,
    DATA_DIGEST,
    DIGEST,
    HELD_OUT,
    NOW,
    OTHER,
    RECIPE_DIGEST,
    REPORT_DIGEST,
    UID,
    URI,
    at,
    ended,
    evaluation,
    failure,
    job,
    mark_of,
    over,
    pod,
    ready,
    ready_of,
    scored,
    seen,
    stalled,
    task_of,
    trained,
    training,
    unscheduled,
)

from modelship_operator.api.evaluation import ModelEvaluationStatus
from modelship_operator.controllers.evaluation.observed import Observed, references
from modelship_operator.controllers.evaluation.plan import plan
from modelship_operator.controllers.framework import Failure, Json, ObjectKey
from modelship_trainer.protocol import Progress

pytestmark = pytest.mark.unit

FOLDS, SCORE = ObjectKey("Job", "default", "churn-cv-folds"), ObjectKey("Job", "default", "churn-cv-score")
DONE_FOLDS = job("folds", COMPLETE, succeeded=2, completedIndexes="0-1")
HOLDOUT = HELD_OUT["method"]
RESULTS = {"results": [{"metric": "roc_auc", "mean": 0.9, "folds": [], "test": 0.9}]}
BASELINE = {"baselineRef": {"evaluation": "base"}, "gates": [{"metric": "roc_auc", "maxRegression": 0.01}]}


@pytest.mark.parametrize(
    ("observed", "mark", "reason", "message", "does"),
    [
        pytest.param(
            seen(), "Reconciling", "WaitingForReference", 'ModelTraining "churn" does not exist yet.', "", id="no training"
        ),
        pytest.param(
            seen(training=training({"progressText": "12/30"})),
            "Reconciling",
            "WaitingForTraining",
            "churn is not trained yet (12/30).",
            "",
            id="training runs",
        ),
        pytest.param(
            seen(training=training(stalled("loss is nan."))),
            "Stalled",
            "TrainingFailed",
            "churn: loss is nan.",
            "",
            id="training failed",
        ),
        pytest.param(
            ready(),
            "Reconciling",
            "Starting",
            'the pods of Job "churn-cv-folds" are starting.',
            "apply churn-cv-folds",
            id="trained",
        ),
        pytest.param(
            ready(method=HOLDOUT),
            "Reconciling",
            "Starting",
            'the pods of Job "churn-cv-score" are starting.',
            "apply churn-cv-score",
            id="holdout has no folds",
        ),
        pytest.param(
            seen(modelRef={"artifact": {"uri": URI, "digest": DIGEST}}, data={"source": "pvc://other/rows.csv"}, method=HOLDOUT),
            "Reconciling",
            "Starting",
            'the pods of Job "churn-cv-score" are starting.',
            "apply churn-cv-score",
            id="an artifact by digest",
        ),
        pytest.param(
            ready(pod("folds", index=1), folds=job("folds", succeeded=1, active=1, completedIndexes="0")),
            "Reconciling",
            "Running",
            "fold 4 of 5.",
            "apply churn-cv-folds",
            id="the pod of folds 1, 3 and 5 is done",
        ),
        pytest.param(
            ready(pod("folds", "Pending"), folds=job("folds")),
            "Reconciling",
            "Starting",
            'the pods of Job "churn-cv-folds" are starting.',
            "apply churn-cv-folds",
            id="its pods start",
        ),
        pytest.param(
            ready(unscheduled("folds"), folds=job("folds")),
            "Reconciling",
            "Unschedulable",
            "0/3 nodes fit: 3 Insufficient nvidia.com/gpu; waiting since 14:55.",
            "apply churn-cv-folds",
            id="no room",
        ),
        pytest.param(
            ready(folds=DONE_FOLDS),
            "Reconciling",
            "Starting",
            'the pods of Job "churn-cv-score" are starting.',
            "apply churn-cv-score",
            id="all folds are done",
        ),
        pytest.param(
            ready(pod("score"), folds=DONE_FOLDS, score=job("score")),
            "Reconciling",
            "Running",
            "scoring.",
            "apply churn-cv-score",
            id="the artifact is scored",
        ),
        pytest.param(
            ready(pod("score"), score=job("score")),
            "Reconciling",
            "Running",
            "scoring.",
            "apply churn-cv-score",
            id="the folds' Job was deleted after its work",
        ),
        pytest.param(
            ready(scored(0.85, 0.87, 0.863), folds=DONE_FOLDS, score=job("score")),
            "Ready",
            "GatesPassed",
            "Passed: roc_auc 0.861 is at least 0.80.",
            "",
            id="passed",
        ),
        pytest.param(
            ready(scored(0.7, 0.74, 0.78), folds=DONE_FOLDS, score=job("score", COMPLETE)),
            "Ready",
            "GatesFailed",
            "Failed: roc_auc 0.74 is below 0.80.",
            "",
            id="failed the gate",
        ),
        pytest.param(
            ready(scored(), score=job("score"), method=HOLDOUT, gates=[]),
            "Ready",
            "GatesPassed",
            "Passed: roc_auc 0.860.",
            "",
            id="no gates",
        ),
        pytest.param(
            ready(
                ended("folds", 64, failure("DataInvalid", "label 3 is there once.")),
                folds=job("folds", over("Failed", "PodFailurePolicy")),
            ),
            "Stalled",
            "DataInvalid",
            "label 3 is there once.",
            "",
            id="the user has to fix something",
        ),
        pytest.param(
            ready(ended("folds", 137, reason="OOMKilled", index=1), folds=job("folds", BACKOFF, compute={"memory": "4Gi"})),
            "Stalled",
            "OutOfMemory",
            "the folds' pod 2 was killed at its limit of 4Gi; raise compute.memory.",
            "",
            id="a fold ran out of memory",
        ),
        pytest.param(
            ready(
                ended("score", 1, "Traceback\nKeyError: 3"),
                folds=DONE_FOLDS,
                score=job("score", over("Failed", "BackoffLimitExceeded")),
            ),
            "Stalled",
            "WorkerFailed",
            "the scoring pod ended with exit status 1: KeyError: 3.",
            "",
            id="the scoring pod crashed",
        ),
        pytest.param(
            ready(
                ended("folds", 64, failure("DataInvalid", "fix me."), seconds=-90),
                ended("folds", 1, "later crash", index=1),
                folds=job("folds", BACKOFF),
            ),
            "Stalled",
            "DataInvalid",
            "fix me.",
            "",
            id="what can be fixed is said before a crash",
        ),
        pytest.param(
            ready(folds=job("folds", {**BACKOFF, "lastTransitionTime": at(-5)})),
            "Reconciling",
            "CollectingResult",
            "the Job ended; its pods' results are being read.",
            "",
            id="failed, its pods are not seen yet",
        ),
        pytest.param(
            ready(folds=job("folds", BACKOFF)),
            "Stalled",
            "WorkerFailed",
            "Job has reached the specified backoff limit; its pods were deleted before they said why.",
            "",
            id="failed, its pods are gone",
        ),
        pytest.param(
            ready(folds=DONE_FOLDS, score=job("score", over("Complete", seconds=-5))),
            "Reconciling",
            "CollectingResult",
            "the Job ended; its pods' results are being read.",
            "",
            id="scored, the pod is not seen yet",
        ),
        pytest.param(
            ready(folds=DONE_FOLDS, score=job("score", COMPLETE)),
            "Reconciling",
            "ResultLost",
            "the scoring pod was deleted before its result was read; the artifact is scored again.",
            "delete churn-cv-score",
            id="the result is lost",
        ),
        pytest.param(
            ready(ended("score", 0, "hello", "Completed"), folds=DONE_FOLDS, score=job("score", COMPLETE)),
            "Stalled",
            "ResultLost",
            "the scoring pod ended well but wrote no result; compute.image must be made FROM the trainer image.",
            "",
            id="an image that is not ours",
        ),
        pytest.param(
            ready(scored(0.9, 0.9, digest=OTHER), folds=DONE_FOLDS, score=job("score", COMPLETE)),
            "Stalled",
            "DigestMismatch",
            "the scoring pod measured sha256:77aa…, asked for was sha256:9f31…; compute.image must be made FROM the trainer image.",
            "",
            id="a verdict on another artifact",
        ),
        pytest.param(
            ready(scored(0.9, 0.9, recipe_digest="mine"), folds=DONE_FOLDS, score=job("score", COMPLETE)),
            "Stalled",
            "ResultLost",
            "the scoring pod's result cannot be used (subject.recipeDigest: String should match pattern '^sha256:[0-9a-f]{64}$'); "
            "compute.image must be made FROM the trainer image.",
            "",
            id="a result that the API would refuse",
        ),
        pytest.param(
            ready(suspend=True),
            "",
            "Suspended",
            "suspend is true; set it to false to go on. Folds that are done stay done.",
            "",
            id="suspended from the start",
        ),
        pytest.param(
            ready(pod("folds"), folds=job("folds"), suspend=True),
            "",
            "Suspended",
            "suspend is true; set it to false to go on. Folds that are done stay done.",
            "apply churn-cv-folds",
            id="suspended on the way",
        ),
        pytest.param(
            ready(pod("folds"), folds=job("folds", compute={"queue": "gpus"}), suspend=True),
            "",
            "Suspended",
            "suspend is true; set it to false to go on. Folds that are done stay done.",
            "delete churn-cv-folds",
            id="suspended in a queue",
        ),
        pytest.param(
            ready(pod("folds"), folds=job("folds", gone=True)),
            "Reconciling",
            "JobDeleted",
            'Job "churn-cv-folds" is being deleted; the evaluation goes on in a new one.',
            "",
            id="somebody deletes the Job",
        ),
        pytest.param(
            ready(pod("folds", job_uid="earlier")),
            "Reconciling",
            "PodEnding",
            "waiting until pod churn-cv-folds-0-a of the deleted Job has ended.",
            "",
            id="a pod of a deleted Job still runs",
        ),
        pytest.param(
            ready(
                folds={"metadata": {"name": "churn-cv-folds", "uid": "x", "labels": {"modelship.dev/uid": "another"}}, "spec": {}}
            ),
            "Reconciling",
            "NameTaken",
            'Job "churn-cv-folds" is there and not of this evaluation; waiting until it is deleted.',
            "",
            id="the name is taken",
        ),
        pytest.param(
            ready(refusal=Failure(FOLDS, "apply", 403, "exceeded quota")),
            "Reconciling",
            "RequestRefused",
            'apply of Job "churn-cv-folds" was refused (403): exceeded quota',
            "",
            id="refused",
        ),
        pytest.param(
            ready(**BASELINE),
            "Reconciling",
            "WaitingForReference",
            'ModelEvaluation "base" does not exist yet.',
            "",
            id="no baseline",
        ),
        pytest.param(
            ready(baseline={"status": {}}, **BASELINE),
            "Reconciling",
            "WaitingForBaseline",
            "base has no results to compare with yet.",
            "",
            id="the baseline runs",
        ),
        pytest.param(
            ready(baseline={"status": stalled("no data.")}, **BASELINE),
            "Stalled",
            "BaselineFailed",
            "base could not be measured: no data.",
            "",
            id="the baseline failed",
        ),
        pytest.param(
            ready(baseline={"status": RESULTS}, **BASELINE),
            "Reconciling",
            "Starting",
            'the pods of Job "churn-cv-folds" are starting.',
            "apply churn-cv-folds",
            id="the baseline is there",
        ),
        pytest.param(
            ready(method={"guess": {}}),
            "Stalled",
            "SpecInvalid",
            "spec.method.guess: Extra inputs are not permitted.",
            "",
            id="unknown spec",
        ),
        pytest.param(
            seen(pod("folds"), folds=job("folds", completedIndexes="1")),
            "Reconciling",
            "Running",
            "fold 3 of 5.",
            "apply churn-cv-folds",
            id="the training was deleted on the way",
        ),
        pytest.param(
            seen(folds=DONE_FOLDS),
            "Reconciling",
            "Starting",
            'the pods of Job "churn-cv-score" are starting.',
            "apply churn-cv-score",
            id="the training was deleted before the score",
        ),
        pytest.param(
            seen(training=training(), folds=DONE_FOLDS),
            "Reconciling",
            "Starting",
            'the pods of Job "churn-cv-score" are starting.',
            "apply churn-cv-score",
            id="another training of its name is not trained yet",
        ),
        pytest.param(
            seen(pod("folds"), folds=job("folds"), suspend=True),
            "",
            "Suspended",
            "suspend is true; set it to false to go on. Folds that are done stay done.",
            "apply churn-cv-folds",
            id="suspended after the training was deleted",
        ),
        pytest.param(
            ready(metrics=["rmse"], gates=None, method=HOLDOUT),
            "Stalled",
            "SpecInvalid",
            'rmse is not a metric of classification, and ModelTraining "churn" is one; measure '
            "accuracy, precision, recall, f1, roc_auc, log_loss.",
            "",
            id="a metric of another task",
        ),
        pytest.param(
            ready(baselineRef={"evaluation": "churn-cv"}, gates=BASELINE["gates"], method=HOLDOUT),
            "Stalled",
            "SpecInvalid",
            "spec.baselineRef.evaluation is this evaluation itself; name the one to compare with.",
            "",
            id="its own baseline",
        ),
    ],
)
def test_the_next_step(observed: Observed, mark: str, reason: str, message: str, does: str) -> None:
    planned = plan(observed, NOW)
    said = ready_of(planned)
    assert (said["reason"], said["message"]) == (reason, message)
    assert mark_of(planned) == mark
    done = [f"apply {child['metadata']['name']}" for child in planned.apply] + [f"delete {key.name}" for key in planned.delete]
    assert " ".join(done) == does
    ModelEvaluationStatus.model_validate(planned.status)


def finish(**parts: object) -> Json:
    status = plan(ready(scored(0.85, 0.87, 0.863), folds=DONE_FOLDS, score=job("score", COMPLETE)), NOW).status
    assert status is not None
    return {**status, **parts}


def test_the_verdict_is_complete() -> None:
    rest = {key: value for key, value in finish().items() if key != "conditions"}
    assert rest == {
        "observedGeneration": 1,
        "phase": "Finished",
        "method": "5-fold",
        "startTime": at(-600),
        "completionTime": at(-60),
        "verdict": "Passed",
        "score": "roc_auc 0.861±0.010",
        "results": [{"metric": "roc_auc", "mean": 0.861, "std": 0.0101489, "folds": [0.85, 0.87, 0.863], "test": 0.86}],
        "gates": [{"metric": "roc_auc", "statistic": "mean", "passed": True, "message": "roc_auc 0.861 is at least 0.80"}],
        "subject": {"artifactDigest": DIGEST, "recipeDigest": RECIPE_DIGEST, "dataDigest": DATA_DIGEST},
        "digestText": "sha256:9f31…",
        "rows": 114,
        "report": {"uri": f"pvc://models/evaluations/{UID}/report.html", "digest": REPORT_DIGEST},
    }


@pytest.mark.parametrize(
    "parts",
    [{}, {"training": None}, {"training": trained(OTHER)}, {"folds": None, "score": None}, {"suspend": True}],
    ids=["again", "training deleted", "another training of the name", "Jobs deleted", "suspended"],
)
def test_a_finished_evaluation_never_runs_again(parts: Json) -> None:
    planned = plan(ready(status=finish(), **{"folds": DONE_FOLDS, "score": job("score", COMPLETE), **parts}), NOW)
    assert (planned.apply, planned.delete, planned.status, planned.events, planned.requeue_after) == ((), (), None, (), None)


def test_what_was_started_is_what_is_scored() -> None:
    """The training was deleted and made again while the folds ran: the score is still of the first artifact."""
    elsewhere = trained(OTHER, output={"store": "pvc://elsewhere"}, compute={"image": "other:1"})
    (planned,) = plan(ready(folds=DONE_FOLDS, training=elsewhere), NOW).apply
    assert task_of(planned)["artifact"]["digest"] == DIGEST
    assert task_of(planned)["store"] == f"pvc://models/evaluations/{UID}", "where the folds lie"
    assert planned["spec"]["template"]["spec"]["containers"][0]["image"] == "trainer:1"
    assert task_of(plan(ready(training=trained(OTHER)), NOW).apply[0])["artifact"]["digest"] == OTHER


def test_the_baseline_of_the_start_is_judged_with() -> None:
    (planned,) = plan(ready(baseline={"status": RESULTS}, method=HOLDOUT, **BASELINE), NOW).apply
    stored = {**planned, "metadata": {**planned["metadata"], "uid": "33333333-5555"}}
    worse = plan(ready(scored(test=0.86), score=stored, method=HOLDOUT, **BASELINE), NOW)
    assert ready_of(worse)["message"] == "Failed: roc_auc 0.86 is worse than the baseline's 0.90 by more than 0.01."


def test_the_pods_get_what_the_training_had() -> None:
    gpu = {"image": "mine:2", "memory": "16Gi", "accelerator": {"count": 1}}
    (planned,) = plan(ready(training=trained(compute=gpu)), NOW).apply
    template = planned["spec"]["template"]["spec"]
    assert template["containers"][0]["image"] == "mine:2"
    assert template["containers"][0]["resources"]["limits"] == {"memory": "16Gi", "nvidia.com/gpu": "1"}
    claims = {volume["persistentVolumeClaim"]["claimName"] for volume in template["volumes"] if "persistentVolumeClaim" in volume}
    assert claims == {"models", "datasets"}
    assert task_of(planned)["store"] == f"pvc://models/evaluations/{UID}"


@pytest.mark.parametrize(
    ("trained_on", "other", "shown"),
    [
        ("https://data.example/a.csv", None, True),
        ("https://data.example/a.csv", "https://data.example/b.csv", True),
        ("https://data.example/a.csv", "https://elsewhere.example/b.csv", False),
        ("https://data.example/a.csv", "https://data.example:8443/b.csv", False),
        ("https://data.example/a.csv", "pvc://datasets/b.csv", False),
    ],
)
def test_credentials_go_to_the_server_that_they_are_for(trained_on: str, other: str | None, shown: bool) -> None:
    data = {"data": {"source": other}} if other else {}
    login = trained(data={"source": trained_on, "credentialsSecret": "login"})
    (planned,) = plan(ready(training=login, method=HOLDOUT, **data), NOW).apply
    assert ("envFrom" in planned["spec"]["template"]["spec"]["containers"][0]) == shown


def test_other_data_has_credentials_of_its_own() -> None:
    data = {"source": "https://elsewhere.example/b.csv", "credentialsSecret": "theirs"}
    login = trained(data={"source": "https://data.example/a.csv", "credentialsSecret": "login"})
    (planned,) = plan(ready(training=login, method=HOLDOUT, data=data), NOW).apply
    assert planned["spec"]["template"]["spec"]["containers"][0]["envFrom"][0]["secretRef"]["name"] == "theirs"


def test_progress_stays_until_there_is_news() -> None:
    pushed = Progress(phase="Training", epoch=3, epochs=30)
    told = plan(ready(pod("folds"), folds=job("folds"), progress=pushed), NOW).status or {}
    assert (told["progress"], told["progressText"]) == ({"phase": "Training", "epoch": 3, "epochs": 30}, "fold 1 of 5")
    kept = plan(ready(pod("folds"), folds=job("folds"), status=told), NOW).status or {}
    assert kept == told


@pytest.mark.parametrize(
    ("ttl", "deletes", "requeue"), [(None, (), None), (100, (), 40.0), (60, (FOLDS, SCORE), None), (0, (FOLDS, SCORE), None)]
)
def test_the_jobs_go_when_their_time_has_come(ttl: int | None, deletes: tuple[ObjectKey, ...], requeue: float | None) -> None:
    parts = {} if ttl is None else {"ttlSecondsAfterFinished": ttl}
    planned = plan(seen(status=finish(), folds=DONE_FOLDS, score=job("score", COMPLETE), **parts), NOW)
    assert (planned.delete, planned.requeue_after, planned.apply) == (deletes, requeue, ())


@pytest.mark.parametrize(("ttl", "requeue"), [(None, None), (0, 0), (100, 40)])
def test_the_ttl_is_looked_after_from_the_end_on(ttl: int | None, requeue: float | None) -> None:
    """The status that holds the end is the plan's own write, of which nobody tells it. It ended a minute ago."""
    planned = plan(ready(scored(0.9, 0.9), folds=DONE_FOLDS, score=job("score"), ttlSecondsAfterFinished=ttl), NOW)
    assert planned.requeue_after == requeue


def test_a_ttl_that_is_set_later_is_kept() -> None:
    jobs = {"folds": DONE_FOLDS, "score": job("score", COMPLETE)}
    later = plan(seen(status=finish(), generation=2, ttlSecondsAfterFinished=100, **jobs), NOW)
    assert (later.delete, later.requeue_after) == ((), 40)
    now = plan(seen(status=finish(), generation=2, ttlSecondsAfterFinished=5, **jobs), NOW)
    assert now.delete == (FOLDS, SCORE)


def test_an_edit_of_a_finished_evaluation_is_observed() -> None:
    planned = plan(seen(status=finish(), generation=2, ttlSecondsAfterFinished=5), NOW)
    assert planned.status is not None
    assert {planned.status["observedGeneration"], *(entry["observedGeneration"] for entry in planned.status["conditions"])} == {2}
    assert planned.status["verdict"] == "Passed"


@pytest.mark.parametrize(
    "observed",
    [
        seen(),
        ready(),
        ready(pod("folds"), folds=job("folds", succeeded=2)),
        ready(unscheduled("folds"), folds=job("folds")),
        ready(scored(0.9, 0.9), folds=DONE_FOLDS, score=job("score", COMPLETE)),
        ready(folds=job("folds", BACKOFF)),
        ready(suspend=True),
    ],
)
def test_planning_again_says_the_same(observed: Observed) -> None:
    first = plan(observed, NOW)
    second = plan(replace(observed, evaluation={**observed.evaluation, "status": first.status}), NOW)
    assert second.status in (first.status, None)
    assert second.events == ()


@pytest.mark.parametrize(
    ("observed", "events"),
    [
        (ready(), []),
        (ready(scored(0.9, 0.9), folds=DONE_FOLDS, score=job("score")), [("Normal", "GatesPassed")]),
        (ready(scored(0.7, 0.7), folds=DONE_FOLDS, score=job("score")), [("Warning", "GatesFailed")]),
        (ready(folds=job("folds", BACKOFF)), [("Warning", "WorkerFailed")]),
        (ready(unscheduled("folds"), folds=job("folds")), [("Warning", "Unschedulable")]),
    ],
)
def test_events(observed: Observed, events: list[tuple[str, str]]) -> None:
    assert [(event.type, event.reason) for event in plan(observed, NOW).events] == events


def test_what_it_names_requeues_it() -> None:
    assert references(evaluation(**BASELINE)) == [
        ObjectKey("ModelTraining", "default", "churn"),
        ObjectKey("ModelEvaluation", "default", "base"),
    ]
