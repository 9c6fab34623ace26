"""The training loop, top down: fit, train an epoch, take a step, validate, keep, save.

    trained = fit(recipe, prepared, device=choose_device(), checkpoints=..., should_stop=..., report=...)

Shapes: N rows, B rows of a batch, O outputs. Data lies as tensors on the device and batches are slices of it: there is no loader.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from modelship_trainer.data.prepare import Prepared
from modelship_trainer.errors import Interrupted, UserError
from modelship_trainer.memory import is_exhausted
from modelship_trainer.models.build import build, explain_user_code
from modelship_trainer.protocol import FailureReason, Progress
from modelship_trainer.recipe import Recipe, Task, Training
from modelship_trainer.training.batches import Batches
from modelship_trainer.training.checkpoint import Checkpoints
from modelship_trainer.training.device import autocast_type, random_state, restore_random_state, seed_everything
from modelship_trainer.training.optimizers import Updates, build_optimizer, learning_rate_factor
from modelship_trainer.training.threads import use_threads
from modelship_trainer.training.validation import EpochRecord, Watch, doubts_of, losses_of, predict, validate

REPORT_SECONDS = 1.0
CHECK_STEPS = 50
"""On a GPU, losses are looked at after so many steps: each look waits for the device."""


@dataclass(frozen=True)
class Trained:
    """What a run gives."""

    module: nn.Module
    """On the CPU, in eval mode, with the kept epoch's weights."""
    history: list[EpochRecord]
    kept_epoch: int
    """From 1: the best epoch with early stopping, else the last."""
    steps: int
    rows_seen: int
    """Rows trained on by this process (a resumed run: since then)."""
    seconds: float
    """Training time of this process."""
    warnings: tuple[str, ...] = ()
    """What to know of the epoch that was kept."""

    @property
    def parameters(self) -> int:
        """Number of trainable values."""
        return sum(parameter.numel() for parameter in self.module.parameters() if parameter.requires_grad)


def fit(
    recipe: Recipe,
    prepared: Prepared,
    *,
    device: torch.device,
    checkpoints: Checkpoints | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Trained:
    """Fit the recipe's model to `prepared`; goes on from the last of `checkpoints`.

    Raises:
        UserError: RecipeInvalid, NonFiniteLoss, OutOfMemory, UserCodeFailed.
        Interrupted: `should_stop` said so; a checkpoint was written.
    """
    try:
        run = _setup(recipe, prepared, device, checkpoints)
        run.clock = _Clock(report)
        return _fit(run, should_stop)
    except (UserError, Interrupted, OSError):
        raise
    except Exception as error:
        if is_exhausted(error):
            raise UserError(
                FailureReason.OUT_OF_MEMORY,
                "the device ran out of memory; lower training.batchSize, or ask for more in spec.compute.",
            ) from error
        if recipe.model.custom is not None:  # the user's own forward or backward pass
            raise explain_user_code(recipe.model.custom, error) from error
        raise


def _fit(run: _Run, should_stop: Callable[[], bool]) -> Trained:
    while run.epoch < run.spec.epochs and not run.stopped:
        _train_epoch(run, should_stop)
        _finish_epoch(run)
        if run.epoch % run.spec.checkpoint.every_epochs == 0 or run.done:
            run.save()
        run.clock.report(run, now=run.done)
    return run.result()


# --- state --------------------------------------------------------------------------------------------------------------------


@dataclass
class _Clock:
    """Time of this process's training, and when progress was last told."""

    tell: Callable[[Progress], None]
    started: float = field(default_factory=time.perf_counter)
    told: float = field(default_factory=time.perf_counter)
    steps: int = 0
    rows: int = 0

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def report(self, run: _Run, *, now: bool = False) -> None:
        """Tell progress, at most once a second."""
        if now or time.perf_counter() - self.told >= REPORT_SECONDS:
            self.told = time.perf_counter()
            self.tell(run.progress())


@dataclass
class _Run:
    """All that a checkpoint keeps, and what is built from the recipe around it."""

    spec: Training
    task: Task
    prepared: Prepared
    device: torch.device
    module: nn.Module
    optimizer: Updates
    loss: nn.Module
    batches: Batches
    watch: Watch
    checkpoints: Checkpoints | None
    autocast: torch.dtype | None
    scaler: torch.amp.GradScaler
    steps_per_epoch: int
    learning_rate: float
    clock: _Clock = field(default_factory=lambda: _Clock(lambda progress: None))
    # From here on: the state.
    epoch: int = 0
    """Epochs done."""
    step: int = 0
    """Optimiser steps done."""
    epoch_loss: float = 0.0
    """Sum over the rows of the running epoch so far."""
    epoch_rows: int = 0
    history: list[EpochRecord] = field(default_factory=list)
    kept_epoch: int = 0
    kept: dict[str, Tensor] = field(default_factory=dict)
    stopped: bool = False

    @property
    def done(self) -> bool:
        return self.stopped or self.epoch >= self.spec.epochs

    def save(self) -> None:
        """Write a checkpoint, where the run has a place for them."""
        if self.checkpoints is None:
            return
        self.checkpoints.save(
            self.step,
            {
                "module": self.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "random": random_state(self.device),
                "position": {name: getattr(self, name) for name in _POSITION},
                "history": [dict(record) for record in self.history],
                "kept": self.kept,
            },
        )

    def resume(self) -> None:
        """Take up the state of the last checkpoint."""
        state = self.checkpoints.load(self.device) if self.checkpoints else None
        if state is None:
            return
        if _shapes(state["module"]) != _shapes(self.module.state_dict()):  # a file that the user's own code imports was changed
            print("the checkpoint is of a module of other shapes; it is not used", flush=True)
            return
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.history, self.kept = state["history"], state["kept"]
        for name in _POSITION:
            setattr(self, name, state["position"][name])
        restore_random_state(state["random"], self.device)
        print(f"resuming after step {self.step}, epoch {self.epoch} of {self.spec.epochs}", flush=True)

    def progress(self) -> Progress:
        """How far the run is."""
        last = self.history[-1] if self.history else {}
        rate = self.clock.steps / self.clock.seconds if self.clock.steps else 0.0
        remaining = 0 if self.done else self.spec.epochs * self.steps_per_epoch - self.step
        return Progress(
            phase="Training",
            epoch=self.epoch,
            epochs=self.spec.epochs,
            step=self.step,
            steps=self.spec.epochs * self.steps_per_epoch,
            loss=_text(last.get("loss", self.epoch_loss / self.epoch_rows if self.epoch_rows else None)),
            val_loss=_text(last.get("val_loss")),
            samples_per_second=f"{self.clock.rows / self.clock.seconds:.0f}" if self.clock.rows else None,
            eta_seconds=round(remaining / rate) if rate else None,
        )

    def result(self) -> Trained:
        """The module with the weights to keep."""
        doubts: tuple[str, ...] = ()
        if self.kept:
            last = self._validation_losses() if self.kept_epoch < self.epoch else None
            self.module.load_state_dict(self.kept)
            doubts = () if last is None else doubts_of(self._validation_losses(), last, self.kept_epoch, self.epoch)
        module = self.module.to("cpu").eval()
        kept_epoch = self.kept_epoch or self.epoch
        return Trained(module, self.history, kept_epoch, self.step, self.clock.rows, self.clock.seconds, doubts)

    def _validation_losses(self) -> npt.NDArray[np.float32]:
        return losses_of(predict(self.module, self.prepared.validation.x, self.device), self.prepared.validation, self.task)


_POSITION = ("epoch", "step", "epoch_loss", "epoch_rows", "kept_epoch", "stopped")


def _shapes(state: dict[str, Any]) -> dict[str, Any]:
    return {name: getattr(value, "shape", None) for name, value in state.items()}


def _text(value: float | None) -> str | None:
    return None if value is None else f"{value:.5g}"


def _setup(recipe: Recipe, prepared: Prepared, device: torch.device, checkpoints: Checkpoints | None) -> _Run:
    spec = recipe.training
    seed_everything(spec.seed, deterministic=spec.deterministic)
    batches = Batches(prepared.train, device)
    module = build(recipe.model, batches.row_shape, prepared.target.output_size)
    if device.type == "cpu":
        use_threads(recipe, module, batches.row_shape, len(batches))
    module = module.to(device)
    optimizer = build_optimizer(spec.optimizer, module.parameters())
    autocast = autocast_type(spec.precision, device)
    run = _Run(
        spec=spec,
        task=spec.task,
        prepared=prepared,
        device=device,
        module=module,
        optimizer=optimizer,
        loss=nn.CrossEntropyLoss() if spec.task is Task.CLASSIFICATION else nn.MSELoss(),
        batches=batches,
        watch=Watch.of(spec),
        checkpoints=checkpoints,
        autocast=autocast,
        scaler=torch.amp.GradScaler(device.type, enabled=autocast is torch.float16),
        steps_per_epoch=len(_steps(len(batches), spec, module)),
        learning_rate=spec.optimizer.value.learning_rate,
    )
    run.resume()
    return run


# --- an epoch -----------------------------------------------------------------------------------------------------------------

Step = list[tuple[int, int]]
"""The batches `[start, stop)` whose gradients make one optimiser step."""


def _steps(rows: int, spec: Training, module: nn.Module) -> list[Step]:
    """The optimiser steps of an epoch.

    Gradient descent has one, over all rows. A last batch of a single row is left out (of this epoch) where batch normalisation
    could not make a statistic of it.

    Raises:
        UserError: RecipeInvalid where that leaves nothing.
    """
    batches = [(start, min(start + spec.batch_size, rows)) for start in range(0, rows, spec.batch_size)]
    if any(isinstance(part, _BatchNorm) for part in module.modules()):
        batches = [(start, stop) for start, stop in batches if stop - start > 1]
        if not batches:
            raise UserError(
                FailureReason.RECIPE_INVALID,
                "batch normalisation needs two rows in a batch; raise training.batchSize, or add rows.",
            )
    size = len(batches) if spec.optimizer.gradient_descent else spec.accumulate_batches
    return [batches[first : first + size] for first in range(0, len(batches), size)]


def _train_epoch(run: _Run, should_stop: Callable[[], bool]) -> None:
    """All optimiser steps of the epoch that the run has not taken yet.

    Raises:
        Interrupted: after a checkpoint, between two steps.
    """
    run.module.train()
    steps = _steps(len(run.batches), run.spec, run.module)
    run.batches.arrange(_order(run))
    losses = _Losses(run)
    for number in range(run.step - run.epoch * run.steps_per_epoch, len(steps)):
        if should_stop():
            losses.check()
            run.save()
            raise Interrupted
        _set_learning_rate(run, number, len(steps))
        rows = _take_step(run, steps[number], losses)
        run.step += 1
        run.clock.steps += 1
        run.clock.rows += rows
        run.clock.report(run)
    losses.check()


def _order(run: _Run) -> Tensor | None:
    """This epoch's order of the rows, which seed and epoch alone decide: a resumed epoch sees the same one."""
    if run.spec.optimizer.gradient_descent:
        return None
    return torch.randperm(len(run.batches), generator=torch.Generator().manual_seed((run.spec.seed << 32) + run.epoch))


def _set_learning_rate(run: _Run, number: int, count: int) -> None:
    spec = run.spec
    factor = learning_rate_factor(spec.schedule, run.epoch + number / count, spec.epochs, spec.warmup_epochs, 1 / count)
    run.optimizer.learning_rate = run.learning_rate * factor


def _take_step(run: _Run, step: Step, losses: _Losses) -> int:
    """One optimiser step on the mean gradient of the step's rows; returns their number."""
    rows = sum(stop - start for start, stop in step)
    optimizer: Any = run.optimizer  # the scaler wants no more of torch.optim's than it has
    optimizer.zero_grad()
    for start, stop in step:
        x, y = run.batches(start, stop)
        with torch.autocast(run.device.type, run.autocast) if run.autocast else nullcontext():
            loss = run.loss(run.module(x), y)
        losses.add(loss.detach(), stop - start)
        share = loss if len(step) == 1 else loss * ((stop - start) / rows)
        run.scaler.scale(share).backward()
    if run.spec.clip_gradient_norm is not None:
        run.scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(run.module.parameters(), run.spec.clip_gradient_norm)
    run.scaler.step(optimizer)
    run.scaler.update()
    return rows


class _Losses:
    """Sums the epoch's losses, and stops the run at the first that is not finite.

    On the CPU before the optimiser sees it; on a GPU within CHECK_STEPS steps, and always before a checkpoint.
    """

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._pending: list[tuple[int, Tensor, int]] = []
        self._limit = 1 if run.device.type == "cpu" else CHECK_STEPS

    def add(self, loss: Tensor, rows: int) -> None:
        """Take up the mean loss of a batch of `rows`. Raises UserError: NonFiniteLoss."""
        self._pending.append((self._run.step + 1, loss, rows))
        if len(self._pending) >= self._limit:
            self.check()

    def check(self) -> None:
        """Look at what was added. Raises UserError: NonFiniteLoss."""
        if not self._pending:
            return
        values = [self._pending[0][1].item()] if len(self._pending) == 1 else torch.stack([e[1] for e in self._pending]).tolist()
        for (step, _, rows), value in zip(self._pending, values, strict=True):
            if not math.isfinite(value):
                raise non_finite("loss", value, f"at step {step} (epoch {self._run.epoch + 1})", self._run.spec)
            self._run.epoch_loss += value * rows
            self._run.epoch_rows += rows
        self._pending.clear()


def non_finite(what: str, value: float, where: str, spec: Training) -> UserError:
    """The message of a run that blew up."""
    rate = f"optimizer.{spec.optimizer.kind}.learningRate"
    cure = "or clip gradients" if spec.clip_gradient_norm is None else "or clipGradientNorm"
    return UserError(FailureReason.NON_FINITE_LOSS, f"{what} is {value} {where}; lower {rate} {cure}.")


def _finish_epoch(run: _Run) -> None:
    """Validate, record, and decide what to keep and whether to go on."""
    run.epoch += 1
    record: EpochRecord = {"epoch": run.epoch, "loss": run.epoch_loss / run.epoch_rows}
    record["learningRate"] = run.optimizer.learning_rate
    run.epoch_loss, run.epoch_rows = 0.0, 0
    if len(run.prepared.validation.x):
        record |= validate(run.module, run.prepared.validation, run.prepared.target, run.watch, run.device)
        if not math.isfinite(record["val_loss"]):
            raise non_finite("val_loss", record["val_loss"], f"after epoch {run.epoch}", run.spec)
    run.history.append(record)
    if run.watch.stopping is None:
        return
    if run.watch.better(record, run.history[run.kept_epoch - 1] if run.kept_epoch else None):
        run.kept_epoch = run.epoch
        run.kept = {name: value.detach().cpu().clone() for name, value in run.module.state_dict().items()}
    run.stopped = run.epoch - run.kept_epoch >= run.watch.stopping.patience
