"""How the model is fitted: optimiser, schedule, when to stop."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from modelship_trainer.recipe.task import Task, metrics_of
from modelship_trainer.schema import Model, OneOf, Rule, cel_list, raise_broken

LearningRate = Annotated[float, Field(gt=0, le=100)]
WeightDecay = Annotated[float, Field(ge=0, le=10)]
Beta = Annotated[float, Field(ge=0, lt=1)]


class GradientDescent(Model):
    """Batch gradient descent: one step an epoch, on the gradient of all training rows (batchSize only limits memory)."""

    learning_rate: LearningRate = Field(0.1, description="Step size.")
    weight_decay: WeightDecay = Field(0.0, description="L2 penalty.")


class Sgd(Model):
    """Stochastic gradient descent, with momentum (classical or Nesterov) if momentum is above 0 (torch.optim.SGD)."""

    rules = (Rule("!self.nesterov || self.momentum > 0.0", "nesterov needs momentum above 0"),)

    learning_rate: LearningRate = Field(0.01, description="Step size.")
    momentum: Beta = Field(0.0, description="Fraction of the last update kept.")
    nesterov: bool = Field(False, description="Look ahead along the momentum.")
    weight_decay: WeightDecay = Field(0.0, description="L2 penalty.")

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        raise_broken(self.rules, (self.nesterov and self.momentum == 0,))
        return self


class Adam(Model):
    """Adam (torch.optim.Adam; Kingma and Ba, 2015)."""

    learning_rate: LearningRate = Field(0.001, description="Step size.")
    beta1: Beta = Field(0.9, description="Decay of the first moment.")
    beta2: Beta = Field(0.999, description="Decay of the second moment.")
    weight_decay: WeightDecay = Field(0.0, description="L2 penalty.")


class AdamW(Model):
    """Adam with decoupled weight decay (torch.optim.AdamW; Loshchilov and Hutter, 2019)."""

    learning_rate: LearningRate = Field(0.001, description="Step size.")
    beta1: Beta = Field(0.9, description="Decay of the first moment.")
    beta2: Beta = Field(0.999, description="Decay of the second moment.")
    weight_decay: WeightDecay = Field(0.01, description="Decoupled weight decay.")


class Optimizer(OneOf):
    """How weights follow the gradient."""

    gradient_descent: GradientDescent | None = Field(None, description="Batch gradient descent.")
    sgd: Sgd | None = Field(None, description="SGD, with momentum or Nesterov momentum.")
    adam: Adam | None = Field(None, description="Adam.")
    adamw: AdamW | None = Field(None, description="AdamW.")


class Constant(Model):
    """The learning rate stays."""


class StepDecay(Model):
    """Multiply the learning rate by gamma every so many epochs."""

    every_epochs: int = Field(10, ge=1, le=100_000, description="Epochs between two decays.")
    gamma: float = Field(0.1, gt=0, le=1, description="Factor of each decay.")


class Exponential(Model):
    """Multiply the learning rate by gamma every epoch."""

    gamma: float = Field(0.95, gt=0, le=1, description="Factor of each epoch.")


class Cosine(Model):
    """Half a cosine from the learning rate to a last one over all epochs (Loshchilov and Hutter, 2017)."""

    final_fraction: float = Field(
        0.0, ge=0, le=1, description="Learning rate that is reached where the run ends, as a fraction of the first."
    )


class Schedule(OneOf):
    """How the learning rate changes over the run."""

    constant: Constant | None = Field(None, description="No change.")
    step: StepDecay | None = Field(None, description="Steps down.")
    exponential: Exponential | None = Field(None, description="Exponential decay.")
    cosine: Cosine | None = Field(None, description="Cosine decay.")


MetricName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=63)]


class EarlyStopping(Model):
    """Stop when a validation metric no longer gets better; the best epoch's weights are kept."""

    metric: MetricName = Field("val_loss", description="val_loss, or val_<metric> of the task, such as val_accuracy or val_r2.")
    patience: int = Field(3, ge=1, le=10_000, description="Epochs without a better value before the run stops.")
    min_delta: float = Field(0.0, ge=0, description="Smallest change that counts as better.")


class Precision(StrEnum):
    """Number format of the forward and backward pass."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class Checkpointing(Model):
    """A killed pod goes on from its last checkpoint."""

    every_epochs: int = Field(1, ge=1, le=10_000, description="Epochs between two checkpoints.")


WATCHED = {task: ("val_loss", *(f"val_{metric}" for metric in metrics_of(task))) for task in Task}
"""What early stopping can look at."""


class Training(Model):
    """How the model is fitted."""

    rules = (
        Rule("self.warmupEpochs < self.epochs", "warmupEpochs must be below epochs: lower it, or raise epochs"),
        Rule(
            "!has(self.earlyStopping) || self.earlyStopping.metric in "
            f"(self.task == 'classification' ? {cel_list(WATCHED[Task.CLASSIFICATION])} : {cel_list(WATCHED[Task.REGRESSION])})",
            "earlyStopping.metric must be of the task: " + "; ".join(f"{task}: {', '.join(WATCHED[task])}" for task in Task),
        ),
        Rule(
            "self.accumulateBatches == 1 || !has(self.optimizer.gradientDescent)",
            "accumulateBatches has no effect with optimizer.gradientDescent, whose steps are of all rows: leave it out",
        ),
    )

    task: Task = Field(description="classification or regression.")
    epochs: int = Field(10, ge=1, le=100_000, description="Passes over the training rows, at most.")
    batch_size: int = Field(32, ge=1, le=1_000_000, description="Rows in a step.")
    optimizer: Optimizer = Field(
        default_factory=lambda: Optimizer(adamw=AdamW()), description="gradientDescent, sgd, adam or adamw."
    )
    schedule: Schedule = Field(default_factory=lambda: Schedule(constant=Constant()), description="Learning-rate schedule.")
    warmup_epochs: int = Field(0, ge=0, le=10_000, description="Epochs in which the learning rate rises linearly to its value.")
    early_stopping: EarlyStopping | None = Field(None, description="Stop when validation no longer improves.")
    clip_gradient_norm: float | None = Field(None, gt=0, description="Scale gradients down to this L2 norm.")
    accumulate_batches: int = Field(1, ge=1, le=10_000, description="Batches whose gradients are averaged into one optimiser step.")
    precision: Precision = Field(Precision.AUTO, description="auto: bf16 where the device has it, else fp32.")
    checkpoint: Checkpointing = Field(default_factory=Checkpointing, description="How often progress is saved.")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of weights, shuffling and dropout.")
    deterministic: bool = Field(
        True,
        description="Use only deterministic algorithms: the same seed gives the same bytes on the same machine type.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        broken = (
            self.warmup_epochs >= self.epochs,
            self.early_stopping is not None and self.early_stopping.metric not in WATCHED[self.task],
            self.accumulate_batches > 1 and self.optimizer.gradient_descent is not None,
        )
        raise_broken(self.rules, broken)
        return self
