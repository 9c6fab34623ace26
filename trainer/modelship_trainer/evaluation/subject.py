"""What is measured: an artifact whose every byte was verified, its recipe, and the data that it was trained on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from modelship_trainer.artifact.contents import METRICS, PREPROCESSING, RECIPE
from modelship_trainer.artifact.manifest import ArtifactError, ArtifactNotFound, DigestMismatch, Manifest, read_file, verify
from modelship_trainer.data import bundled
from modelship_trainer.data.dataset import Dataset
from modelship_trainer.data.fit import distinct
from modelship_trainer.data.load import load
from modelship_trainer.data.preprocessing import Fitted
from modelship_trainer.data.target import Target
from modelship_trainer.errors import UserError
from modelship_trainer.evaluation.metrics import wanted
from modelship_trainer.evaluation.records import Epoch, epochs_of
from modelship_trainer.judgement import Metric
from modelship_trainer.locations import local_path, scheme_of
from modelship_trainer.models.source import source_digest
from modelship_trainer.protocol import EvaluateTask, FailureReason
from modelship_trainer.recipe import Recipe
from modelship_trainer.schema import canonical_json, digest_of


@dataclass(frozen=True)
class Subject:
    """A verified artifact, and what to measure of it."""

    folder: Path
    manifest: Manifest
    recipe: Recipe
    fitted: Fitted
    target: Target
    history: list[Epoch]
    """Its own training curve."""
    metrics: list[Metric]
    """What to measure."""


def open_subject(task: EvaluateTask) -> Subject:
    """Verify the artifact, file by file, and read it; nothing of it is used before.

    Raises:
        UserError: DigestMismatch, DataNotFound, or RecipeInvalid where task and recipe do not go together.
    """
    folder = local_path(task.artifact.uri)
    manifest = _verify(folder, task)
    try:
        recipe = Recipe.model_validate_json(read_file(folder, manifest, RECIPE))
        fitted = Fitted.model_validate_json(read_file(folder, manifest, PREPROCESSING))
        history = epochs_of(json.loads(read_file(folder, manifest, METRICS))["history"])
    except DigestMismatch as error:
        raise _tampered(task, error) from error
    except (OSError, ValueError, KeyError) as error:  # whole, but not written by this version
        first = str(error).splitlines()[0]
        raise _unknown(task, manifest, f"cannot be read by this version of Modelship ({first})") from error
    if fitted.target is None or recipe.digest() != manifest.lineage.recipe_digest:
        raise _unknown(task, manifest, f"means another recipe to this version of Modelship ({recipe.digest()})")
    if task.source is not None and task.method.k_fold is not None:
        raise UserError(
            FailureReason.RECIPE_INVALID,
            "other data goes with method.holdout: k-fold retrains on the artifact's own data; leave one of them out.",
        )
    metrics = wanted(task.metrics, task.gates, recipe.training.task)
    return Subject(folder, manifest, recipe, fitted, fitted.target, history, metrics)


def identity_of(task: EvaluateTask, subject: Subject) -> str:
    """Digest of what decides the folds' numbers, so that a record of something else is never taken for one of them."""
    lineage = subject.manifest.lineage
    method = task.method.k_fold.to_json() if task.method.k_fold else {}
    method.pop("parallelism", None)
    metrics = [metric.value for metric in subject.metrics]
    made_of = {"recipe": lineage.recipe_digest, "data": lineage.data_digest, "code": source_digest(subject.recipe.model)}
    return digest_of(canonical_json(made_of | {"method": method, "metrics": metrics}))


def _gone(task: EvaluateTask) -> str:
    return f"artifact {task.artifact.digest[:19]}… is no longer at {task.artifact.uri}; restore it or train again."


def _verify(folder: Path, task: EvaluateTask) -> Manifest:
    uri = task.artifact.uri
    try:
        return verify(folder, task.artifact.digest)
    except ArtifactNotFound as error:
        raise UserError(FailureReason.DATA_NOT_FOUND, _gone(task)) from error
    except DigestMismatch as error:
        raise _tampered(task, error) from error
    except ArtifactError as error:
        raise UserError(FailureReason.DIGEST_MISMATCH, f"{uri} is not an artifact: {error}.") from error


def _tampered(task: EvaluateTask, error: DigestMismatch) -> UserError:
    return UserError(FailureReason.DIGEST_MISMATCH, f"{task.artifact.uri}: {error}; nothing was scored.")


def _unknown(task: EvaluateTask, manifest: Manifest, what: str) -> UserError:
    lineage = manifest.lineage
    return UserError(
        FailureReason.RECIPE_INVALID,
        f"{task.artifact.uri} {what}; recipe {lineage.recipe_digest} was trained by {lineage.trainer}: evaluate with that "
        "version, or train again.",
    )


def load_data(subject: Subject, source: str | None) -> Dataset:
    """The data that the artifact was trained on, proven by its digest; or `source`, all its rows, in the model's types.

    Raises:
        UserError: DataInvalid where the data changed since training, or where `source` is no other data; and all that `data.load`
            raises.
    """
    data = subject.recipe.data
    if source is not None:
        # A bundled dataset's target need not be named in a recipe; that of the same columns elsewhere has its name.
        target = data.target or (bundled.TARGET if scheme_of(data.source) == "sklearn" else None)
        data = data.model_copy(update={"source": source, "target": None if scheme_of(source) == "sklearn" else target})
    dataset = load(data, task=subject.recipe.training.task, fitted=None if source is None else subject.fitted)
    for note in dataset.notes:
        print(f"warning: {note}", flush=True)
    trained = subject.manifest.lineage.data_digest
    if source is not None and dataset.digest == trained:  # all of its rows would be scored, those learned from with them
        raise UserError(
            FailureReason.DATA_INVALID,
            f"{dataset.source}: this is the data that the model was trained on; leave spec.data (--data) out to score its test "
            "split.",
        )
    if source is None and dataset.digest != trained:
        raise UserError(
            FailureReason.DATA_INVALID,
            f"{dataset.source}: the data changed since training (was {trained}, is {dataset.digest}); train again, or evaluate on "
            "data of its own by spec.data.",
        )
    return distinct(dataset, data.preprocessing) if source is None else dataset
