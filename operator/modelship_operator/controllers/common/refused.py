"""What a resource says when a request for one of its children was refused, or its own spec is not understood."""

from __future__ import annotations

from pydantic import ValidationError

from modelship_operator.controllers.common.conditions import Mark, State
from modelship_operator.controllers.framework import Failure

RETRY_REFUSED_SECONDS = 60.0
"""Until a refused request is tried again: a quota may have been raised, a right given."""
RETRY_NAME_SECONDS = 5.0
"""Until a name that was taken, mostly by what a deleted resource of the same name left, is looked at again."""


def refused(refusal: Failure, mark: Mark, phase: str, owner: str) -> State:
    """The state of a resource whose request was refused; `owner` is what a person calls it, such as "this evaluation"."""
    what = f'{refusal.target.kind} "{refusal.target.name}"'
    if refusal.code == 409:
        return State(phase, mark, "NameTaken", f"{what} exists and is not of {owner}; delete it or use another name.")
    return State(phase, mark, "RequestRefused", f"{refusal.verb} of {what} was refused ({refusal.code}): {refusal.message}")


def spec_invalid(error: ValidationError, phase: str) -> State:
    """The state of a resource whose spec this version does not understand, with the field that it stumbled over."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return State(phase, Mark.STALLED, "SpecInvalid", f"spec.{where}: {first['msg']}.")
