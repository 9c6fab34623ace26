"""A process of ours from start to end: SIGTERM, the termination message, the exit status."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from modelship_trainer.artifact.manifest import DigestMismatch
from modelship_trainer.errors import Interrupted, UserError
from modelship_trainer.memory import is_exhausted
from modelship_trainer.protocol import (
    ENV_TERMINATION_LOG,
    TERMINATION_LIMIT,
    TERMINATION_LOG,
    EvaluateResult,
    ExitCode,
    Failure,
    FailureReason,
    FoldsResult,
    Progress,
    RunRef,
    TrainResult,
)
from modelship_trainer.recipe_file import explain
from modelship_trainer.storage import refusal_of
from modelship_trainer.training.reporting import Reporter

Report = Callable[[Progress], None]
ShouldStop = Callable[[], bool]
Result = TrainResult | FoldsResult | EvaluateResult


def guarded(body: Callable[[], Result | int], *, in_pod: bool) -> int:
    """Run `body`; its result or failure becomes the termination message (in a pod), and the exit status that is returned."""
    try:
        outcome = body()
    except Interrupted:
        print("interrupted; the next run goes on from the checkpoint", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except Exception as error:  # whatever it is, the user is told
        failed = failure_of(error)
        if failed.reason is FailureReason.INTERNAL_ERROR:
            traceback.print_exc()
        print(f"{failed.reason.value}: {failed.message}", file=sys.stderr, flush=True)
        if in_pod:
            write_termination_message(failed.failure())
        return failed.exit_code
    if isinstance(outcome, int):
        return outcome
    if in_pod:
        write_termination_message(outcome)
    return ExitCode.OK


def failure_of(error: Exception) -> UserError:
    """Any exception as what the user is told."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, DigestMismatch):
        return UserError(FailureReason.DIGEST_MISMATCH, f"{error}.")
    if isinstance(error, ValidationError):
        return UserError(FailureReason.RECIPE_INVALID, explain(error))
    if is_exhausted(error):  # the loop tells of its own
        return UserError(
            FailureReason.OUT_OF_MEMORY,
            "the data does not fit into memory; leave out columns, set oneHot.maxCategories, lower tokenize.vocabularySize or "
            "data.image.size, or ask for more in spec.compute.",
        )
    if refusal := refusal_of(error):
        return refusal
    if isinstance(error, RuntimeError) and "does not have a deterministic implementation" in str(error):
        what = str(error).split(" ", 1)[0]
        return UserError(
            FailureReason.RECIPE_INVALID, f"{what} has no deterministic algorithm here; set training.deterministic: false."
        )
    return UserError(FailureReason.INTERNAL_ERROR, traceback.format_exception_only(error)[-1].strip())


@contextmanager
def telling(run: RunRef, *, in_pod: bool) -> Iterator[tuple[ShouldStop, Report]]:
    """Whether to stop (SIGTERM or Ctrl-C arrived), and where to tell progress.

    The loop asks, and saves a checkpoint; between the other phases, telling the next one raises Interrupted.
    """
    stop = threading.Event()
    reporter = Reporter(run, in_pod=in_pod)

    def report(progress: Progress) -> None:
        reporter(progress)
        if stop.is_set() and progress.phase != "Training":
            raise Interrupted

    def on_signal(number: int, frame: object) -> None:
        if number == signal.SIGINT and stop.is_set():
            raise KeyboardInterrupt  # Ctrl-C a second time: now
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop.is_set, report
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        reporter.close()


def write_termination_message(message: Result | Failure) -> None:
    """Write what the operator reads from the pod's status, within kubelet's limit."""
    path = Path(os.environ.get(ENV_TERMINATION_LOG, TERMINATION_LOG))
    try:
        path.write_bytes(_within_limit(message))
    except OSError as error:
        print(f"cannot write {path}: {error.strerror}", file=sys.stderr)


def _within_limit(message: Result | Failure) -> bytes:
    data = json.dumps(message.to_json(), ensure_ascii=False).encode()
    if len(data) <= TERMINATION_LIMIT:
        return data
    if isinstance(message, TrainResult) and message.warnings:  # characters are up to four bytes
        return _within_limit(message.model_copy(update={"warnings": message.warnings[:-1]}))
    if not isinstance(message, Failure):
        return data
    cut = message.message[: TERMINATION_LIMIT // 6]  # a character is at most six bytes of JSON
    return json.dumps(message.model_copy(update={"message": f"{cut}..."}).to_json(), ensure_ascii=False).encode()
