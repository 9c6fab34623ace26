"""After the end: the Jobs go when their time has come, the verdict stays, and nothing is measured again."""

from __future__ import annotations

from datetime import datetime, timedelta

from modelship_operator.controllers.common.pods import time_of
from modelship_operator.controllers.evaluation.observed import Observed
from modelship_operator.controllers.framework import Plan


def after_the_end(seen: Observed, now: datetime) -> Plan:
    """Delete the Jobs once `ttlSecondsAfterFinished` is over; wake up for it until then."""
    ttl = seen.evaluation["spec"].get("ttlSecondsAfterFinished")
    left = tuple(run.key for run in (seen.folds, seen.score) if run.job is not None)
    if ttl is None or not left:
        return Plan()
    due = time_of(seen.status["completionTime"]) + timedelta(seconds=ttl)
    if now < due:
        return Plan(requeue_after=(due - now).total_seconds())
    return Plan(delete=left)
