"""The loop against plain PyTorch, golden curves, and every way in which a run can stop."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from modelship_trainer.cpu import cgroup_cpus
from modelship_trainer.data.load import load
from modelship_trainer.data.prepare import Examples, Prepared, prepare
from modelship_trainer.data.preprocessing import ArrayInput, Fitted
from modelship_trainer.data.split import split
from modelship_trainer.data.target import Target
from modelship_trainer.errors import Interrupted, UserError
from modelship_trainer.models.build import build
from modelship_trainer.protocol import FailureReason, Progress
from modelship_trainer.recipe import ModelSpec, Precision, Recipe, Task
from modelship_trainer.recipe_file import read_recipe
from modelship_trainer.training import loop
from modelship_trainer.training.device import autocast_type
from modelship_trainer.training.loop import Trained, fit
from modelship_trainer.training.threads import multiplications, use_threads
from modelship_trainer.training.validation import doubts_of, losses_of

pytestmark = pytest.mark.unit
CPU = torch.device("cpu")
GOLDEN = Path(__file__).parent / "golden"


def recipe(model: dict[str, Any] | None = None, task: str = "classification", **training: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "data": {"source": "pvc://datasets/rows.npz"},
            "model": model or {"linear": {}},
            "training": {"task": task, "epochs": 3, "batchSize": 8} | training,
        }
    )


def examples(rows: int = 20, features: int = 3, classes: int = 2, seed: int = 0) -> Examples:
    rng = np.random.RandomState(seed)
    x = rng.randn(rows, features).astype(np.float32)
    return Examples(x, (x[:, 0] * 3 + rng.randn(rows) > 0).astype(np.int64) % classes)


def prepared(train: Examples | None = None, validation: Examples | None = None) -> Prepared:
    train = train or examples()
    fitted = Fitted(array=ArrayInput(shape=list(train.x.shape[1:]), center=[0.0], scale=[1.0]))
    target = Target(task=Task.CLASSIFICATION, classes=[0, 1]) if train.y.dtype == np.int64 else Target(task=Task.REGRESSION)
    return Prepared(train, validation or examples(seed=1), fitted, target)


def weights(trained: Trained) -> list[np.ndarray]:
    return [value.numpy() for value in trained.module.state_dict().values()]


# --- against plain PyTorch ------------------------------------------------------------------------------------------------------


def plain_gradient(x: np.ndarray, y: np.ndarray, seed: int = 0) -> tuple[nn.Module, float]:
    """A fresh linear model with the gradient of all rows, and the loss."""
    torch.manual_seed(seed)
    module = build(ModelSpec.model_validate({"linear": {}}), x.shape[1:], 2)
    loss = nn.functional.cross_entropy(module(torch.from_numpy(x)), torch.from_numpy(y))
    loss.backward()
    return module, loss.item()


def step_of(module: nn.Module, rate: float, scale: float = 1.0) -> list[np.ndarray]:
    return [(p - rate * scale * p.grad).detach().numpy() for p in module.parameters() if p.grad is not None]


@pytest.mark.parametrize("batch_size", [1, 7, 20, 1000])
def test_gradient_descent_takes_one_step_an_epoch_on_all_rows(batch_size: int) -> None:
    data = prepared()
    spec = recipe(epochs=1, batchSize=batch_size, optimizer={"gradientDescent": {"learningRate": 0.5}})
    trained = fit(spec, data, device=CPU)
    module, loss = plain_gradient(data.train.x, data.train.y)
    assert trained.steps == 1
    assert trained.history[0]["loss"] == pytest.approx(loss, rel=1e-6)
    for actual, expected in zip(weights(trained), step_of(module, 0.5), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-7)


def test_accumulated_batches_equal_one_large_one() -> None:
    """20 rows in batches of 8, 8 and 4: their gradients weigh by rows."""
    small = fit(recipe(batchSize=8, accumulateBatches=3, optimizer={"sgd": {}}), prepared(), device=CPU)
    large = fit(recipe(batchSize=20, optimizer={"sgd": {}}), prepared(), device=CPU)
    assert small.steps == large.steps == 3
    for actual, expected in zip(weights(small), weights(large), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-7)


def test_gradients_are_clipped_to_the_norm() -> None:
    data = prepared()
    spec = recipe(epochs=1, batchSize=20, clipGradientNorm=0.01, optimizer={"sgd": {"learningRate": 1}})
    module, _ = plain_gradient(data.train.x, data.train.y)
    norm = math.sqrt(sum(float((p.grad**2).sum()) for p in module.parameters() if p.grad is not None))
    assert norm > 0.01
    for actual, expected in zip(weights(fit(spec, data, device=CPU)), step_of(module, 1, 0.01 / norm), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4)


def test_regression_has_its_own_unit_in_val_rmse() -> None:
    train, validation = (Examples(e.x, e.x[:, 0] * 2) for e in (examples(), examples(seed=1)))
    data = prepared(train, validation)._replace(target=Target(task=Task.REGRESSION, mean=100.0, scale=50.0))
    spec = recipe(task="regression", epochs=200, optimizer={"sgd": {"learningRate": 0.1}})
    record = fit(spec, data, device=CPU).history[-1]
    assert record["val_loss"] < 1e-3
    assert record["val_rmse"] == pytest.approx(50 * math.sqrt(record["val_loss"]))


# --- golden curves --------------------------------------------------------------------------------------------------------------

RUNS = {
    "digits-cnn": (
        {"source": "sklearn://digits", "split": {"stratify": True}, "preprocessing": [{"normalize": {"method": "minMax"}}]},
        {"cnn": {"channels": [8, 16], "hidden": 32, "dropout": 0.2}},
        {"epochs": 3, "batchSize": 64, "optimizer": {"adamw": {"learningRate": 0.003}}, "schedule": {"cosine": {}}},
    ),
    "tumour-mlp": (
        {"source": "sklearn://breast_cancer", "preprocessing": [{"clip": {}}, {"normalize": {}}]},
        {"mlp": {"hidden": [16, 8], "dropout": 0.1, "batchNorm": True}},
        {"epochs": 4, "optimizer": {"sgd": {"learningRate": 0.05, "momentum": 0.9, "nesterov": True}}, "warmupEpochs": 1},
    ),
    "diabetes-linear": (
        {"source": "sklearn://diabetes", "preprocessing": [{"normalize": {"method": "robust"}}]},
        {"linear": {}},
        {"task": "regression", "epochs": 4, "optimizer": {"adam": {"learningRate": 0.01}}, "schedule": {"exponential": {}}},
    ),
    "wine-gradient-descent": (
        {"source": "sklearn://wine", "preprocessing": [{"normalize": {}}]},
        {"linear": {}},
        {"epochs": 5, "batchSize": 50, "optimizer": {"gradientDescent": {"learningRate": 0.5}}},
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_golden_curve(name: str) -> None:
    """Losses of small real runs, as recorded. `python tests/unit/trainer/golden/record.py` writes them anew."""
    recorded = json.loads((GOLDEN / f"{name}.json").read_text())
    for epoch, expected in zip(golden_run(name), recorded, strict=True):
        assert epoch == pytest.approx(expected, rel=1e-3, abs=1e-6)


def golden_run(name: str) -> list[dict[str, float]]:
    data, model, training = RUNS[name]
    spec = Recipe.model_validate({"data": data, "model": model, "training": {"task": "classification"} | training})
    dataset = load(spec.data, task=spec.training.task)
    parts = split(dataset, spec.data.split, spec.training.task)
    return fit(spec, prepare(spec, dataset, parts.train, parts.validation), device=CPU).history


def test_same_seed_same_bytes() -> None:
    mlp = {"mlp": {"hidden": [8], "dropout": 0.3}}
    first, second, other = (fit(recipe(mlp, seed=seed), prepared(), device=CPU) for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(weights(first), weights(second), strict=True))
    assert not all((a == b).all() for a, b in zip(weights(first), weights(other), strict=True))
    assert first.history == second.history


# --- stopping -------------------------------------------------------------------------------------------------------------------


def test_early_stopping_keeps_the_best_epoch() -> None:
    """A learning rate of 3 overshoots: the best epoch is not the last, and its weights are the ones that stay."""
    spec = recipe(epochs=50, optimizer={"sgd": {"learningRate": 3}}, earlyStopping={"patience": 4})
    trained = fit(spec, prepared(), device=CPU)
    losses = [record["val_loss"] for record in trained.history]
    assert trained.kept_epoch == int(np.argmin(losses)) + 1 == len(losses) - 4
    until = recipe(epochs=trained.kept_epoch, optimizer={"sgd": {"learningRate": 3}})
    assert all((a == b).all() for a, b in zip(weights(trained), weights(fit(until, prepared(), device=CPU)), strict=True))


@pytest.mark.parametrize(("metric", "best"), [("val_accuracy", np.argmax), ("val_roc_auc", np.argmax), ("val_log_loss", np.argmin)])
def test_early_stopping_by_a_metric(metric: str, best: Any) -> None:
    spec = recipe(epochs=30, optimizer={"sgd": {"learningRate": 1}}, earlyStopping={"metric": metric, "patience": 5})
    trained = fit(spec, prepared(), device=CPU)
    assert trained.kept_epoch == best([record[metric] for record in trained.history]) + 1


@pytest.mark.parametrize(
    ("rows", "last_is_worse_by", "warns"),
    [(40, 0.01, True), (40, 0.5, False), (40_000, 0.001, False), (1, 0.01, True)],
    ids=["few rows", "few rows and a clear difference", "many rows", "one row"],
)
def test_validation_rows_that_are_too_few_to_decide(rows: int, last_is_worse_by: float, warns: bool) -> None:
    kept = np.random.default_rng(0).exponential(0.4, rows).astype(np.float32)
    doubts = doubts_of(kept, kept + np.float32(last_is_worse_by), 7, 12)
    assert bool(doubts) is warns
    if warns:
        assert doubts[0].startswith(f"early stopping kept epoch 7 of 12 by {rows} validation row")
        assert doubts[0].endswith("raise data.split.validation, or leave training.earlyStopping out and choose training.epochs.")


def test_a_run_warns_of_too_few_validation_rows() -> None:
    spec = recipe(epochs=50, optimizer={"sgd": {"learningRate": 1}}, earlyStopping={"metric": "val_accuracy", "patience": 2})
    trained = fit(spec, prepared(), device=CPU)
    assert trained.kept_epoch < len(trained.history)
    assert trained.warnings[0].startswith(f"early stopping kept epoch {trained.kept_epoch} of {len(trained.history)} by 20 val")
    spec = recipe(epochs=3, optimizer={"sgd": {"learningRate": 1e-3}}, earlyStopping={})
    assert fit(spec, prepared(), device=CPU).warnings == ()  # nothing was decided


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_the_losses_of_rows_are_those_of_val_loss(task: str) -> None:
    outputs = np.array([[0.5, 2.0], [1.0, -1.0]], np.float32)[:, : 2 if task == "classification" else 1]
    y = np.array([0, 1]) if task == "classification" else np.array([0.5, 2.0], np.float32)
    losses = losses_of(outputs, Examples(outputs, y), Task(task))
    expected = [math.log(1 + math.exp(1.5)), math.log(1 + math.exp(2))] if task == "classification" else [0, 1]
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


def test_min_delta() -> None:
    spec = recipe(epochs=30, optimizer={"sgd": {"learningRate": 1e-6}}, earlyStopping={"patience": 2, "minDelta": 0.5})
    assert len(fit(spec, prepared(), device=CPU).history) == 3


BAD = {
    "fp16 on the CPU": (
        recipe(precision="fp16"),
        FailureReason.RECIPE_INVALID,
        "training.precision fp16 needs a GPU; use auto, bf16 or fp32, or ask for a GPU.",
    ),
    "cnn of a table": (
        recipe({"cnn": {}}),
        FailureReason.RECIPE_INVALID,
        "model.cnn needs images [channels, height, width], and rows have shape [3]; use model.mlp.",
    ),
    "batch normalisation of single rows": (
        recipe({"mlp": {"batchNorm": True}}, batchSize=1),
        FailureReason.RECIPE_INVALID,
        "batch normalisation needs two rows in a batch; raise training.batchSize, or add rows.",
    ),
    "module not in the image": (
        recipe({"custom": {"entrypoint": "not_there:build"}}),
        FailureReason.RECIPE_INVALID,
        "model.custom.entrypoint not_there:build cannot be imported (No module named 'not_there'); put it into the image of "
        "spec.compute.image, below a folder of PYTHONPATH.",
    ),
    "no such function": (
        recipe({"custom": {"entrypoint": "math:build"}}),
        FailureReason.RECIPE_INVALID,
        "model.custom.entrypoint math:build cannot be imported (module 'math' has no attribute 'build'); put it ",
    ),
    "function raises": (
        recipe({"custom": {"entrypoint": "trainer_models:raises", "args": {"size": 3}}}),
        FailureReason.USER_CODE_FAILED,
        "trainer_models:raises failed: ValueError: size 3 is odd (trainer_models.py:",
    ),
    "wrong arguments": (
        recipe({"custom": {"entrypoint": "trainer_models:raises"}}),
        FailureReason.USER_CODE_FAILED,
        "trainer_models:raises failed: TypeError: raises() missing 1 required keyword-only argument: 'size'",
    ),
    "not a module": (
        recipe({"custom": {"entrypoint": "trainer_models:no_module"}}),
        FailureReason.USER_CODE_FAILED,
        "trainer_models:no_module returned int, not a torch.nn.Module; its output must be [2, 2].",
    ),
    "wrong output": (
        recipe({"custom": {"entrypoint": "trainer_models:wrong_output"}}),
        FailureReason.USER_CODE_FAILED,
        "trainer_models:wrong_output maps [2, 3] to [2, 7]; its output must be [2, 2].",
    ),
    "raises while training": (
        recipe({"custom": {"entrypoint": "trainer_models:fails_in_training"}}),
        FailureReason.USER_CODE_FAILED,
        "trainer_models:fails_in_training failed: RuntimeError: not while training (trainer_models.py:",
    ),
}


@pytest.mark.parametrize(("spec", "reason", "message"), BAD.values(), ids=BAD)
def test_bad_recipe(spec: Recipe, reason: FailureReason, message: str) -> None:
    with pytest.raises(UserError) as caught:
        fit(spec, prepared(), device=CPU)
    assert caught.value.message.startswith(message)
    assert caught.value.reason is reason


def test_too_many_blocks_for_the_image() -> None:
    with pytest.raises(UserError, match=r"4 blocks, each halving the image, and 8 x 8 pixels allow 3; use fewer"):
        build(ModelSpec.model_validate({"cnn": {"channels": [4, 4, 4, 4]}}), (1, 8, 8), 2)


def test_infinite_loss_stops_before_the_optimiser() -> None:
    train = examples()
    train.x[:, 1] = 1e30
    spec = recipe(batchSize=5, optimizer={"sgd": {"learningRate": 100}}, seed=3)
    with pytest.raises(UserError) as caught:
        fit(spec, prepared(train), device=CPU)
    assert caught.value.reason is FailureReason.NON_FINITE_LOSS
    assert caught.value.message in {
        f"loss is {value} at step 2 (epoch 1); lower optimizer.sgd.learningRate or clip gradients." for value in ("nan", "inf")
    }


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
    ids=lambda error: type(error).__name__,
)
def test_memory_that_ran_out_in_the_loop_is_told_with_the_batch(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def no_memory(*arguments: object) -> int:
        raise error

    monkeypatch.setattr(loop, "_take_step", no_memory)
    for spec in (recipe(), recipe({"custom": {"entrypoint": "trainer_models:wide", "args": {"width": 5}}})):
        with pytest.raises(UserError, match=r"^the device ran out of memory; lower training.batchSize, or ask for more") as caught:
            fit(spec, prepared(), device=CPU)
        assert caught.value.reason is FailureReason.OUT_OF_MEMORY


def test_custom_module_trains() -> None:
    spec = recipe({"custom": {"entrypoint": "trainer_models:wide", "args": {"width": 5}}}, epochs=20)
    trained = fit(spec, prepared(), device=CPU)
    assert trained.parameters == 3 * 5 + 5 + 5 * 2 + 2
    assert trained.history[-1]["loss"] < trained.history[0]["loss"]


def test_a_last_batch_of_one_row_is_left_out_of_batch_normalisation() -> None:
    spec = recipe({"mlp": {"hidden": [4], "batchNorm": True}}, batchSize=19)
    assert fit(spec, prepared(), device=CPU).steps == 3


def test_bf16() -> None:
    trained = fit(recipe(epochs=10, precision="bf16"), prepared(), device=CPU)
    assert trained.history[-1]["loss"] < trained.history[0]["loss"]
    assert weights(trained)[0].dtype == np.float32


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, None)])
def test_auto_does_not_emulate_bf16(monkeypatch: pytest.MonkeyPatch, native: bool, expected: torch.dtype | None) -> None:
    """A GPU before Ampere: torch says that it has bf16, as it can emulate it."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert autocast_type(Precision.AUTO, torch.device("cuda")) is expected
    assert autocast_type(Precision.AUTO, CPU) is None


def test_without_validation_rows() -> None:
    nothing = Examples(np.zeros((0, 3), np.float32), np.zeros(0, np.int64))
    trained = fit(recipe(), prepared(validation=nothing), device=CPU)
    assert "val_loss" not in trained.history[-1]
    assert trained.kept_epoch == 3


def test_stop_between_steps() -> None:
    with pytest.raises(Interrupted):
        fit(recipe(), prepared(), device=CPU, should_stop=lambda: True)


def test_progress_tells_epochs_steps_and_losses() -> None:
    told: list[Progress] = []
    fit(recipe(), prepared(), device=CPU, report=told.append)
    last = told[-1]
    assert (last.epoch, last.epochs, last.step, last.steps, last.eta_seconds) == (3, 3, 9, 9, 0)
    assert float(last.loss or "nan") > 0
    assert float(last.samples_per_second or "nan") > 0


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
    ids=["v2", "v2 unlimited", "v1", "v1 unlimited", "none"],
)
def test_cpu_limit_of_the_cgroup(tmp_path: Path, files: dict[str, str], expected: float | None) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert cgroup_cpus(tmp_path) == expected


# --- threads --------------------------------------------------------------------------------------------------------------------


def counted(**model: Any) -> int:
    module = build(ModelSpec.model_validate(model), (1, 8, 8), 10)
    return multiplications(module, (1, 8, 8))


def test_multiplications() -> None:
    assert counted(linear={}) == 64 * 10
    assert counted(mlp={"hidden": [32]}) == 64 * 32 + 32 * 10
    assert counted(cnn={"channels": [4], "kernelSize": 3, "hidden": 7}) == 9 * 4 * 64 + 4 * 16 * 7 + 7 * 10


def test_counting_leaves_the_module_as_it_was() -> None:
    torch.manual_seed(0)
    module = build(ModelSpec.model_validate({"cnn": {"dropout": 0.5}}), (1, 8, 8), 10)
    before, state = torch.get_rng_state(), {name: value.clone() for name, value in module.state_dict().items()}
    multiplications(module, (1, 8, 8))
    assert module.training
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(("batch_size", "threads"), [(64, 1), (100_000, 1), (2_000, 3)])
def test_a_small_step_is_computed_by_one_thread(monkeypatch: pytest.MonkeyPatch, batch_size: int, threads: int) -> None:
    """A batch has no more rows than there are."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    before, module = torch.get_num_threads(), nn.Linear(100, 100)
    try:
        rows = 2_000 if threads > 1 else 64
        assert use_threads(recipe(batchSize=batch_size), module, (100,), rows) == threads == torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def test_the_number_of_threads_does_not_change_a_small_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions sum their gradients in as many parts as there are threads."""
    spec = read_recipe(Path(__file__).parents[3] / "examples" / "image" / "training.yaml")
    spec = spec.model_copy(update={"training": spec.training.model_copy(update={"epochs": 1})})
    dataset = load(spec.data, task=spec.training.task)
    parts = split(dataset, spec.data.split, spec.training.task)
    data = prepare(spec, dataset, parts.train[:192], parts.validation)
    before, made = torch.get_num_threads(), []
    try:
        for threads in ("1", "2", "4"):
            monkeypatch.setenv("OMP_NUM_THREADS", threads)
            made.append(fit(spec, data, device=CPU))
    finally:
        torch.set_num_threads(before)
    assert all(each.history == made[0].history for each in made)
    assert all((a == b).all() for each in made for a, b in zip(weights(each), weights(made[0]), strict=True))
