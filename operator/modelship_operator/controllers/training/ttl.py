"""After the end: the Job goes when its time has come, the result stays, and nothing is started again."""

from __future__ import annotations

from datetime import datetime, timedelta

from modelship_operator.controllers.common.pods import time_of
from modelship_operator.controllers.framework import Plan
from modelship_operator.controllers.training.observed import Observed


def after_the_end(seen: Observed, now: datetime) -> Plan:
    """Delete the Job once `ttlSecondsAfterFinished` is over; wake up for it until then."""
    ttl = seen.training["spec"].get("ttlSecondsAfterFinished")
    if ttl is None or seen.job is None:
        return Plan()
    due = time_of(seen.status["completionTime"]) + timedelta(seconds=ttl)
    if now < due:
        return Plan(requeue_after=(due - now).total_seconds())
    return Plan(delete=(seen.job_key,))
