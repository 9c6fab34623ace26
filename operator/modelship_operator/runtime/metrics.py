"""What Prometheus is told. `docs/operations.md` lists it for people; a test keeps the two alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client import Counter as PrometheusCounter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from modelship_operator.runtime.store import Store

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """All metrics of the process, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._reconcile_seconds = Histogram(
            "modelship_reconcile_seconds", "Duration of reconciles.", ["kind"], registry=self.registry, buckets=_SECONDS
        )
        self._reconciles = PrometheusCounter(
            "modelship_reconciles", "Reconciles by result: success, retry, error.", ["kind", "result"], registry=self.registry
        )
        self.queue_seconds = Histogram(
            "modelship_queue_wait_seconds", "From a change to the start of its reconcile.", registry=self.registry, buckets=_SECONDS
        )
        self._requests = PrometheusCounter(
            "modelship_api_requests",
            "Requests to the API server; code 0: no answer.",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "modelship_api_request_seconds", "Their duration.", ["verb"], registry=self.registry, buckets=_SECONDS
        )
        self._progress = PrometheusCounter(
            "modelship_progress_pushes", "Progress pushes by HTTP code of the answer.", ["code"], registry=self.registry
        )
        self.events_dropped = PrometheusCounter(
            "modelship_events_dropped", "Events not sent: too many, or refused.", registry=self.registry
        )
        self.swept = PrometheusCounter("modelship_sweeps", "Periodic lists, by result.", ["result"], registry=self.registry)
        self.yielded = Gauge("modelship_yielded_resources", "Resources that are left to another operator.", registry=self.registry)
        self.leading = Gauge("modelship_leading", "1 on the replica that acts.", registry=self.registry)
        self.loop_lag = Gauge("modelship_event_loop_lag_seconds", "By how much the event loop runs late.", registry=self.registry)
        self._cells: dict[tuple[str, ...], Histogram | PrometheusCounter] = {}

    def reconciled(self, kind: str, result: str, seconds: float) -> None:
        """A reconcile ended."""
        self._histogram(self._reconcile_seconds, kind).observe(seconds)
        self._counter(self._reconciles, kind, result).inc()

    def requested(self, verb: str, plural: str, code: int, seconds: float) -> None:
        """A request to the API server was answered (code 0: was not)."""
        self._counter(self._requests, verb, plural, str(code)).inc()
        self._histogram(self._request_seconds, verb).observe(seconds)

    def pushed(self, code: int) -> None:
        """A progress push was answered."""
        self._counter(self._progress, str(code)).inc()

    def queue_depth(self, depth: Callable[[], int], running: Callable[[], int]) -> None:
        """Have the queue's state read at each scrape."""
        Gauge("modelship_queue_depth", "Resources that wait for a worker.", registry=self.registry).set_function(depth)
        Gauge("modelship_workers_busy", "Resources that are reconciled now.", registry=self.registry).set_function(running)

    def describe_store(self, store: Store, kinds: Sequence[str]) -> None:
        """Have phases, verdicts and throughput counted from the store at each scrape: there is no second state to keep."""
        self.registry.register(_StoreCollector(store, kinds))

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)

    # `labels()` takes a lock and builds a key each time; these calls are made for every request.
    def _counter(self, metric: PrometheusCounter, *labels: str) -> PrometheusCounter:
        key = (metric._name, *labels)
        if key not in self._cells:
            self._cells[key] = metric.labels(*labels)
        cell = self._cells[key]
        assert isinstance(cell, PrometheusCounter)  # noqa: S101 - for the type checker
        return cell

    def _histogram(self, metric: Histogram, *labels: str) -> Histogram:
        key = (metric._name, *labels)
        if key not in self._cells:
            self._cells[key] = metric.labels(*labels)
        cell = self._cells[key]
        assert isinstance(cell, Histogram)  # noqa: S101 - for the type checker
        return cell


class _StoreCollector(Collector):
    def __init__(self, store: Store, kinds: Sequence[str]) -> None:
        self._store = store
        self._kinds = kinds

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing: known at each scrape only."""
        return []

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Count."""
        phases = GaugeMetricFamily("modelship_resources", "Resources by phase.", labels=["kind", "phase"])
        verdicts = GaugeMetricFamily("modelship_evaluation_verdicts", "ModelEvaluations by verdict.", labels=["verdict"])
        for kind in self._kinds:
            counted = Counter(_phase(obj) for obj in self._store.all(kind))
            for phase, count in counted.items():
                phases.add_metric([kind, phase], count)
        passed = Counter(obj.get("status", {}).get("verdict") for obj in self._store.all("ModelEvaluation"))
        for verdict in ("Passed", "Failed"):
            verdicts.add_metric([verdict], passed[verdict])
        return [phases, verdicts, *self._progress()]

    def _progress(self) -> list[GaugeMetricFamily]:
        """What running trainings push; of a finished one the pod, and what it said last, may stay for long."""
        families = {field: GaugeMetricFamily(name, text, labels=["namespace", "name"]) for field, name, text in _PUSHED}
        for obj in self._store.all("ModelTraining"):
            metadata = obj["metadata"]
            if "completionTime" in obj.get("status", {}):
                continue
            # One pod trains at a time: the last that began to push. What failed before it may still be there.
            for push in list(self._store.progress(metadata["uid"]).values())[-1:]:
                for field, family in families.items():
                    if (value := getattr(push.progress, field)) is not None:
                        family.add_metric([metadata["namespace"], metadata["name"]], float(value))
        return list(families.values())


_PUSHED = (
    ("epoch", "modelship_training_epoch", "Epochs done, of running trainings."),
    ("loss", "modelship_training_loss", "Training loss of the last epoch, of running trainings."),
    ("val_loss", "modelship_training_val_loss", "Validation loss of the last epoch, of running trainings."),
    ("samples_per_second", "modelship_training_samples_per_second", "Rows per second of running trainings."),
    ("eta_seconds", "modelship_training_eta_seconds", "Estimated seconds to the end of running trainings."),
)


def _phase(obj: dict[str, object]) -> str:
    """The resource's own phase, or what its Ready condition comes to."""
    status = obj.get("status")
    status = status if isinstance(status, dict) else {}
    if "phase" in status:
        return str(status["phase"])
    conditions = {condition["type"]: condition["status"] for condition in status.get("conditions", [])}
    if conditions.get("Stalled") == "True":
        return "Stalled"
    return "Ready" if conditions.get("Ready") == "True" else "Pending"
