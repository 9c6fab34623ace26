"""How a model is served: what `spec.batching` and `spec.optimization` of a ModelDeployment say, and config.pbtxt is made of."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from modelship_trainer.schema import Model


class Batching(Model):
    """Joining requests that wait at the same time into one run of the model. No request waits for others to arrive."""

    max_batch_size: int = Field(
        64, ge=0, le=4096, description="Rows a request or a joined batch may have; 0: a row axis is the model's own."
    )
    dynamic: bool = Field(True, description="Join waiting requests, up to maxBatchSize rows.")


class GraphOptimization(StrEnum):
    """How far ONNX Runtime rewrites the graph when it loads it."""

    NONE = "None"
    BASIC = "Basic"
    EXTENDED = "Extended"
    ALL = "All"


class Optimization(Model):
    """How the graph is run."""

    graph: GraphOptimization = Field(
        GraphOptimization.ALL, description="Rewrites of the graph at load: None, Basic, Extended or All."
    )
    threads: int = Field(1, ge=1, le=256, description="CPU threads inside one operator, for each instance.")
    instances: int = Field(1, ge=1, le=64, description="Copies of the model in one pod (per GPU, on GPUs) that run side by side.")


class Device(StrEnum):
    """Where the model runs."""

    CPU = "cpu"
    GPU = "gpu"
