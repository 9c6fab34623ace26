"""Hold and go on. A Job is suspended in place: its pod writes a checkpoint and goes, its retries stay counted.

With a queue, `spec.suspend` of the Job is Kueue's: two writers would fight. So there the Job itself goes, with the quota that it
holds, and comes back.
"""

from __future__ import annotations

from modelship_operator.api.reasons import Reason
from modelship_operator.controllers.common.conditions import Mark, State
from modelship_operator.controllers.framework import Json
from modelship_operator.controllers.training.observed import Observed

HELD = State("Suspended", Mark.HELD, Reason.SUSPENDED, "suspend is true; set it to false to go on from the last checkpoint.")


def is_suspended(job: Json) -> bool:
    """Whether the Job holds its pods back."""
    return bool(job["spec"].get("suspend"))


def must_toggle(seen: Observed, job: Json) -> bool:
    """Whether the Job has to be told."""
    return seen.queue is None and is_suspended(job) != seen.suspended
