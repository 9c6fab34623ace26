"""Telling how far a run is: a line in the log, a push to the operator, Prometheus gauges. None of them can stop or slow a run."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from modelship_trainer.protocol import (
    ENV_POD_NAME,
    ENV_PROGRESS_URL,
    ENV_TOKEN_FILE,
    METRICS_PORT,
    TOKEN_FILE,
    Progress,
    ProgressReport,
    RunRef,
)

LINE_SECONDS = 3.0
PUSH_SECONDS = 2.0
PUSH_TIMEOUT = 5.0


class Reporter:
    """Takes `Progress` from the run and passes it on; `close` sends the last one."""

    def __init__(self, run: RunRef, *, in_pod: bool = False) -> None:
        self._line = ProgressLine()
        url = os.environ.get(ENV_PROGRESS_URL)
        self._pusher = Pusher(url, run) if url else None
        self._gauges = _serve_gauges() if in_pod else None

    def __call__(self, progress: Progress) -> None:
        """Tell everyone; returns at once."""
        self._line(progress)
        if self._pusher:
            self._pusher(progress)
        if self._gauges:
            self._gauges(progress)

    def close(self) -> None:
        """Send what is waiting; takes PUSH_TIMEOUT at most."""
        if self._pusher:
            self._pusher.close()


class ProgressLine:
    """One line in the log, at each change of phase, and every few seconds of training."""

    def __init__(self, write: Callable[[str], object] = sys.stdout.write, clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._phase, self._last, self._waiting = "", 0.0, ""

    def __call__(self, progress: Progress) -> None:
        """Write the line if it is time for one; the last one of a phase is always written."""
        now, line = self._clock(), line_of(progress)
        if progress.phase != self._phase and self._waiting:
            self._print(self._waiting)
        if progress.phase == self._phase and now - self._last < LINE_SECONDS:
            self._waiting = line
            return
        self._phase, self._last, self._waiting = progress.phase, now, ""
        self._print(line)

    def _print(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads the log any more
            self._write(line + "\n")
            sys.stdout.flush()


def line_of(progress: Progress) -> str:
    """`Training  fold 2  epoch 3/30  step 84/840  loss 0.31  val_loss 0.29  12,345 rows/s  1m 20s left`."""
    parts = [progress.phase]
    if progress.fold is not None:
        parts.append(f"fold {progress.fold}")
    if progress.epochs:
        parts += [f"epoch {progress.epoch}/{progress.epochs}", f"step {progress.step}/{progress.steps}"]
    parts += [f"{name} {value}" for name, value in (("loss", progress.loss), ("val_loss", progress.val_loss)) if value]
    if progress.samples_per_second:
        parts.append(f"{float(progress.samples_per_second):,.0f} rows/s")
    if progress.eta_seconds:
        parts.append(f"{_duration(progress.eta_seconds)} left")
    return "  ".join(parts)


def _duration(seconds: int) -> str:
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m {seconds % 60}s" if minutes else f"{seconds}s"


class Pusher:
    """POSTs the newest progress from its own thread, at most every PUSH_SECONDS; failures are dropped, the next one comes."""

    def __init__(self, url: str, run: RunRef, *, interval: float = PUSH_SECONDS) -> None:
        self._url, self._run, self._interval = url, run, interval
        self._newest: Progress | None = None
        self._changed, self._closing = threading.Condition(), False
        self._thread = threading.Thread(target=self._work, name="progress", daemon=True)
        self._thread.start()

    def __call__(self, progress: Progress) -> None:
        """Replace what waits to be sent."""
        with self._changed:
            self._newest = progress
            self._changed.notify()

    def close(self) -> None:
        """Send what waits, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(PUSH_TIMEOUT)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._newest is not None or self._closing)
                progress, self._newest, closing = self._newest, None, self._closing
            if progress is not None:
                with contextlib.suppress(Exception):  # a push that fails is not the run's business
                    self._post(progress)
            if closing:
                return
            with self._changed:
                self._changed.wait_for(lambda: self._closing, timeout=self._interval)

    def _post(self, progress: Progress) -> None:
        pod = os.environ.get(ENV_POD_NAME) or socket.gethostname()
        report = ProgressReport(run=self._run, pod=pod, fold=progress.fold, progress=progress)
        request = urllib.request.Request(self._url, json.dumps(report.to_json()).encode(), method="POST")  # noqa: S310 - the operator's URL
        request.add_header("Content-Type", "application/json")
        token = Path(os.environ.get(ENV_TOKEN_FILE, TOKEN_FILE))
        if token.exists():  # re-read each time: kubelet rotates it
            request.add_unredirected_header("Authorization", f"Bearer {token.read_text().strip()}")
        with urllib.request.urlopen(request, timeout=PUSH_TIMEOUT):  # noqa: S310
            pass


def _serve_gauges() -> Callable[[Progress], None] | None:
    """Prometheus gauges on METRICS_PORT, without labels; None where the port is taken."""
    import prometheus_client as prometheus

    registry = prometheus.CollectorRegistry()
    names = {
        "loss": ("modelship_training_loss", "Training loss of the last epoch."),
        "val_loss": ("modelship_training_val_loss", "Validation loss of the last epoch."),
        "samples_per_second": ("modelship_training_samples_per_second", "Training rows per second."),
        "epoch": ("modelship_training_epoch", "Epochs done."),
        "epochs": ("modelship_training_epochs", "Epochs planned."),
        "step": ("modelship_training_step", "Optimiser steps done."),
        "eta_seconds": ("modelship_training_eta_seconds", "Estimated seconds to the end."),
    }
    gauges = {field: prometheus.Gauge(name, text, registry=registry) for field, (name, text) in names.items()}
    try:
        prometheus.start_http_server(METRICS_PORT, registry=registry)
    except OSError as error:
        print(f"no metrics on port {METRICS_PORT}: {error}", file=sys.stderr)
        return None

    def show(progress: Progress) -> None:
        for field, gauge in gauges.items():
            value = getattr(progress, field)
            if value is not None:
                gauge.set(float(value))

    return show
