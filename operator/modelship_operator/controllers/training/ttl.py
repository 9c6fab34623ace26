"""After the end: the Job goes when its time has come, the result stays, and nothing is started again."""

from __future__ import annotations

from datetime import datetime, timedelta

from modelship_operator.controllers.common.pods import time_of
from modelship_operator.controllers.framework import Plan
from modelship_operator.controllers.training.observed import Observed
from modelship_operator.controllers.training.status import observed_again


def after_the_end(seen: Observed, now: datetime) -> Plan:
    """Delete the Job once `ttlSecondsAfterFinished` is over; wake up for it until then.

    An edit of a field that may be edited is observed: the same status, about the new generation.
    """
    left = seconds_left(seen, time_of(seen.status["completionTime"]), now)
    status = observed_again(seen)
    if left is None:
        return Plan(status=status)
    return Plan(status=status, requeue_after=left) if left > 0 else Plan(delete=(seen.job_key,), status=status)


def seconds_left(seen: Observed, completed: datetime, now: datetime) -> float | None:
    """Until the Job of a run that was `completed` then is to go; None where it stays, or is gone."""
    ttl = seen.training["spec"].get("ttlSecondsAfterFinished")
    if ttl is None or seen.job is None:
        return None
    return max((completed + timedelta(seconds=ttl) - now).total_seconds(), 0.0)
