"""Every reason that a condition can give: what it means, and what a person does about it. `docs/api.md` shows this table."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import NamedTuple

from modelship_trainer.protocol import FailureReason


class Scope(Enum):
    """What a reason says of the resource."""

    DONE = "Done: `Ready=True`, or held because you want it so"
    GOING = "On its way: `Reconciling=True`"
    WAITING = "Waiting for something: `Reconciling=True`"
    FAILED = "Failed: `Stalled=True`"


class Reason(StrEnum):
    """Reasons that the operator finds itself; `protocol.FailureReason` has those that pods of ours report."""

    SUCCEEDED = "Succeeded"
    GATES_PASSED = "GatesPassed"
    GATES_FAILED = "GatesFailed"
    SERVING = "Serving"
    SCALED_TO_ZERO = "ScaledToZero"
    SUSPENDED = "Suspended"

    STARTING = "Starting"
    RUNNING = "Running"
    COLLECTING_RESULT = "CollectingResult"
    RETRYING = "Retrying"
    DISRUPTED = "Disrupted"
    JOB_DELETED = "JobDeleted"
    POD_ENDING = "PodEnding"
    ROLLING_OUT = "RollingOut"
    CONTAINER_CRASHED = "ContainerCrashed"

    WAITING_FOR_REFERENCE = "WaitingForReference"
    WAITING_FOR_TRAINING = "WaitingForTraining"
    WAITING_FOR_BASELINE = "WaitingForBaseline"
    WAITING_FOR_VERDICT = "WaitingForVerdict"
    WAITING_FOR_CLAIM = "WaitingForClaim"
    WAITING_FOR_SECRET = "WaitingForSecret"  # noqa: S105 - a reason
    QUEUED = "Queued"
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONTAINER_NOT_STARTED = "ContainerNotStarted"
    POD_NOT_CREATED = "PodNotCreated"
    ROLLOUT_PAUSED = "RolloutPaused"
    NAME_TAKEN = "NameTaken"

    SPEC_INVALID = "SpecInvalid"
    REQUEST_REFUSED = "RequestRefused"
    WORKER_FAILED = "WorkerFailed"
    BACKOFF_LIMIT_EXCEEDED = "BackoffLimitExceeded"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    RESULT_LOST = "ResultLost"
    TRAINING_FAILED = "TrainingFailed"
    BASELINE_FAILED = "BaselineFailed"
    EVALUATION_FAILED = "EvaluationFailed"
    GATE_FAILED = "GateFailed"
    DIGEST_NOT_PROVEN = "DigestNotProven"
    VERDICT_NOT_OURS = "VerdictNotOurs"
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"


class Facts(NamedTuple):
    """What is known of a reason."""

    scope: Scope
    meaning: str
    cure: str


REASONS: Mapping[Reason | FailureReason, Facts] = {
    Reason.SUCCEEDED: Facts(Scope.DONE, "The artifact is published; its digest is in status.", "Evaluate it, serve it."),
    Reason.GATES_PASSED: Facts(Scope.DONE, "Everything is measured and every gate holds.", "Serve it."),
    Reason.GATES_FAILED: Facts(
        Scope.DONE,
        "Everything is measured, and a gate does not hold: the verdict is Failed. The evaluation itself is done.",
        "Read status.gates and `modelship report NAME`; train a better model.",
    ),
    Reason.SERVING: Facts(Scope.DONE, "All replicas answer, with the digest that is asked for.", "Nothing."),
    Reason.SCALED_TO_ZERO: Facts(Scope.DONE, "spec.replicas is 0.", "Raise it to serve again."),
    Reason.SUSPENDED: Facts(Scope.DONE, "spec.suspend is true: the run holds after a checkpoint.", "Set spec.suspend to false."),
    Reason.STARTING: Facts(Scope.GOING, "The pod is scheduled and starts.", "Wait; the first pull of an image takes minutes."),
    Reason.RUNNING: Facts(Scope.GOING, "Pods work; status.progress says how far they are.", "Wait."),
    Reason.COLLECTING_RESULT: Facts(Scope.GOING, "The Job ended and its pod's result is being read.", "Wait."),
    Reason.RETRYING: Facts(
        Scope.GOING,
        "A pod failed and is started again from its last checkpoint, which counts against spec.retryLimit.",
        "Read the message: it quotes the failure.",
    ),
    Reason.DISRUPTED: Facts(
        Scope.GOING,
        "A pod was preempted, evicted or lost with its node, and starts again from its last checkpoint, free of charge.",
        "Nothing; if it repeats, use a priority class or other nodes.",
    ),
    Reason.JOB_DELETED: Facts(
        Scope.GOING, "The Job is being deleted before it ended; it is made again.", "Do not delete Jobs of ours."
    ),
    Reason.POD_ENDING: Facts(Scope.GOING, "A pod of an earlier Job still stops; two never write one checkpoint.", "Wait."),
    Reason.ROLLING_OUT: Facts(Scope.GOING, "Pods are being replaced; what was served is served until they answer.", "Wait."),
    Reason.CONTAINER_CRASHED: Facts(
        Scope.GOING, "A container of a serving pod ended and is started again.", "Read the message: it quotes its last line."
    ),
    Reason.WAITING_FOR_REFERENCE: Facts(
        Scope.WAITING, "A resource that spec names does not exist yet.", "Create it, or correct the name; any order is fine."
    ),
    Reason.WAITING_FOR_TRAINING: Facts(Scope.WAITING, "The ModelTraining in spec.modelRef has no artifact yet.", "Wait for it."),
    Reason.WAITING_FOR_BASELINE: Facts(Scope.WAITING, "The evaluation in spec.baselineRef has no results yet.", "Wait for it."),
    Reason.WAITING_FOR_VERDICT: Facts(
        Scope.WAITING, "No evaluation of spec.gate has passed for the digest to be served yet.", "Wait for it."
    ),
    Reason.WAITING_FOR_CLAIM: Facts(
        Scope.WAITING,
        "A PersistentVolumeClaim does not exist or is not bound.",
        "Create the claim; see its events for why it is not bound.",
    ),
    Reason.WAITING_FOR_SECRET: Facts(Scope.WAITING, "A Secret does not exist.", "Create it in this namespace."),
    Reason.QUEUED: Facts(Scope.WAITING, "The queue in spec.compute.queue has not admitted the Job.", "See its LocalQueue's quota."),
    Reason.UNSCHEDULABLE: Facts(
        Scope.WAITING,
        "No node has room, or none matches; the message has the scheduler's words.",
        "Lower spec.compute, add nodes, or wait until something ends.",
    ),
    Reason.IMAGE_PULL_FAILED: Facts(
        Scope.WAITING, "An image cannot be pulled.", "Correct spec.compute.image, or give the operator pull secrets (chart value)."
    ),
    Reason.CONTAINER_NOT_STARTED: Facts(
        Scope.WAITING,
        "kubelet cannot start a container, or has not for two minutes.",
        "Read the message: it has kubelet's words, or the command that shows them.",
    ),
    Reason.POD_NOT_CREATED: Facts(
        Scope.WAITING,
        "No pod can be made; the message has the words of what forbids it: a quota, a LimitRange, a policy, a priority class.",
        "Raise the quota, change the policy, or lower spec.compute.",
    ),
    Reason.ROLLOUT_PAUSED: Facts(
        Scope.WAITING,
        "Somebody paused the Deployment: what was served is served, and nothing new rolls out.",
        "`kubectl rollout resume deployment NAME`.",
    ),
    Reason.NAME_TAKEN: Facts(
        Scope.WAITING,
        "An object of the name that a child would have exists and belongs to somebody else; it is never taken over.",
        "Delete or rename that object, or choose another name for the resource.",
    ),
    Reason.SPEC_INVALID: Facts(
        Scope.FAILED,
        "The spec passed the API server, but not this operator: CRDs and operator are of different versions.",
        "Upgrade both with one chart; correct the field that the message names.",
    ),
    Reason.REQUEST_REFUSED: Facts(
        Scope.FAILED, "The API server refused a child object for good; the message has its words.", "Change what the message names."
    ),
    Reason.WORKER_FAILED: Facts(
        Scope.FAILED,
        "A pod failed without a reason of its own: a crash, or a signal.",
        "Read the message: it quotes the last line.",
    ),
    Reason.BACKOFF_LIMIT_EXCEEDED: Facts(
        Scope.FAILED, "Pods failed more often than spec.retryLimit allows.", "Cure what the message quotes; then create a new run."
    ),
    Reason.DEADLINE_EXCEEDED: Facts(
        Scope.FAILED,
        "The run took longer than spec.activeDeadlineSeconds; where it waited instead of training, the message says for what.",
        "Cure what it waited for, raise it, or train for fewer epochs, in a new run.",
    ),
    Reason.RESULT_LOST: Facts(
        Scope.FAILED, "The Job is over and its pod was removed before its result could be read.", "Create a new run."
    ),
    Reason.TRAINING_FAILED: Facts(Scope.FAILED, "The ModelTraining in spec.modelRef failed.", "Cure it; then create a new run."),
    Reason.BASELINE_FAILED: Facts(
        Scope.FAILED,
        "The evaluation in spec.baselineRef has no result and will not have one.",
        "Name another baseline, in a new evaluation.",
    ),
    Reason.EVALUATION_FAILED: Facts(
        Scope.FAILED,
        "An evaluation of spec.gate could not measure the model.",
        "Cure it, or name another in spec.gate.evaluations.",
    ),
    Reason.GATE_FAILED: Facts(
        Scope.FAILED,
        "An evaluation of spec.gate says Failed; what was served before is still served.",
        "Train a better model, and point spec.modelRef at it.",
    ),
    Reason.DIGEST_NOT_PROVEN: Facts(
        Scope.FAILED,
        "An evaluation of spec.gate measured another artifact than the one to be served.",
        "Name evaluations of the artifact in spec.modelRef.",
    ),
    Reason.VERDICT_NOT_OURS: Facts(
        Scope.FAILED,
        "An evaluation of spec.gate has a status that is not of the operator: written by hand, or by a restore from a backup.",
        "Delete the evaluation and create it again: it measures anew.",
    ),
    Reason.PROGRESS_DEADLINE_EXCEEDED: Facts(
        Scope.FAILED, "No new pod became ready within spec.progressDeadlineSeconds.", "See the pods' events and logs."
    ),
    FailureReason.RECIPE_INVALID: Facts(
        Scope.FAILED,
        "The recipe cannot be run on this data: a contradiction that only shows there.",
        "Change the field that the message names.",
    ),
    FailureReason.DATA_NOT_FOUND: Facts(
        Scope.FAILED, "There is nothing at spec.data.source, or it may not be read.", "Correct the URI or the credentials."
    ),
    FailureReason.DATA_INVALID: Facts(
        Scope.FAILED,
        "The data can be read and not used: a column is missing, a part is empty, text where numbers are needed.",
        "Change the data, or the preprocessing step that the message names.",
    ),
    FailureReason.NON_FINITE_LOSS: Facts(
        Scope.FAILED, "The loss became NaN or infinite.", "Lower the learning rate, clip gradients, or normalise the data."
    ),
    FailureReason.OUT_OF_MEMORY: Facts(
        Scope.FAILED, "A container was killed at its memory limit.", "Raise spec.compute.memory, or lower the batch size."
    ),
    FailureReason.EXPORT_MISMATCH: Facts(
        Scope.FAILED,
        "The exported ONNX graph answers differently from the trained model; nothing was published.",
        "Report it, with the recipe.",
    ),
    FailureReason.DIGEST_MISMATCH: Facts(
        Scope.FAILED,
        "A file of the artifact is not what was published; nothing was started from it.",
        "Restore the file, or train again.",
    ),
    FailureReason.STORE_UNAVAILABLE: Facts(
        Scope.FAILED, "The store did not answer, after retries.", "See to the store; create a new run."
    ),
    FailureReason.USER_CODE_FAILED: Facts(
        Scope.FAILED, "Your module:function raised an error; the message quotes it.", "Correct it, and build the image anew."
    ),
    FailureReason.INTERNAL_ERROR: Facts(
        Scope.FAILED, "A fault of Modelship; the message quotes it.", "Report it, with the pod's log."
    ),
}
