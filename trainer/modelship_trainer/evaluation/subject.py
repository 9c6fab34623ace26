"""What is measured: an artifact whose every byte was verified, its recipe, and the rows that its training never saw."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from modelship_trainer.artifact.manifest import ArtifactError, ArtifactNotFound, DigestMismatch, Manifest, verify
from modelship_trainer.data.dataset import Dataset
from modelship_trainer.data.load import load
from modelship_trainer.errors import UserError
from modelship_trainer.evaluation.metrics import wanted
from modelship_trainer.evaluation.records import Epoch, epochs_of
from modelship_trainer.judgement import Metric
from modelship_trainer.locations import local_path
from modelship_trainer.protocol import EvaluateTask, FailureReason
from modelship_trainer.recipe import Recipe


@dataclass(frozen=True)
class Subject:
    """A verified artifact."""

    folder: Path
    manifest: Manifest
    recipe: Recipe
    metrics: list[Metric]
    """What to measure of it."""


def open_subject(task: EvaluateTask) -> Subject:
    """Verify the artifact, file by file, and read its recipe; nothing of it is used before.

    Raises:
        UserError: DigestMismatch, DataNotFound, or RecipeInvalid where task and recipe do not go together.
    """
    folder = local_path(task.artifact.uri)
    try:
        manifest = verify(folder, task.artifact.digest)
    except ArtifactNotFound as error:
        raise UserError(
            FailureReason.DATA_NOT_FOUND, f"there is no artifact at {task.artifact.uri}; was it deleted since training?"
        ) from error
    except DigestMismatch as error:
        raise UserError(FailureReason.DIGEST_MISMATCH, f"{task.artifact.uri}: {error}; nothing was scored.") from error
    except ArtifactError as error:
        raise UserError(FailureReason.DIGEST_MISMATCH, f"{task.artifact.uri} is not an artifact: {error}.") from error
    recipe = _recipe(folder, manifest, task.artifact.uri)
    if task.source is not None and task.method.k_fold is not None:
        raise UserError(
            FailureReason.RECIPE_INVALID,
            "data.source goes with method.holdout: k-fold retrains on the artifact's own data; leave one of them out.",
        )
    return Subject(folder, manifest, recipe, wanted(task.metrics, task.gates, recipe.training.task))


def _recipe(folder: Path, manifest: Manifest, uri: str) -> Recipe:
    try:
        recipe = Recipe.model_validate_json((folder / "recipe.json").read_bytes())
    except (OSError, ValidationError) as error:
        raise UserError(
            FailureReason.RECIPE_INVALID, f"recipe.json of {uri} cannot be read by this version of Modelship: {error}"
        ) from error
    if recipe.digest() != manifest.lineage.recipe_digest:
        raise UserError(
            FailureReason.RECIPE_INVALID,
            f"recipe.json of {uri} means another recipe to this version of Modelship ({recipe.digest()}, trained was "
            f"{manifest.lineage.recipe_digest}); evaluate with the version that trained it: {manifest.lineage.trainer}.",
        )
    return recipe


def history_of(subject: Subject) -> list[Epoch]:
    """The artifact's own training curve, as its metrics.json tells it; empty where it tells none."""
    try:
        history = json.loads((subject.folder / "metrics.json").read_bytes()).get("history", [])
        return epochs_of(history)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):  # a report without this curve is better than none
        return []


def load_data(subject: Subject, source: str | None) -> Dataset:
    """The data that the artifact was trained on, proven by its digest; or `source`, read as the recipe reads its own.

    Raises:
        UserError: DataInvalid where the data changed since training, and all that `data.load` raises.
    """
    data = subject.recipe.data if source is None else subject.recipe.data.model_copy(update={"source": source})
    dataset = load(data, task=subject.recipe.training.task)
    trained = subject.manifest.lineage.data_digest
    if source is None and dataset.digest != trained:
        raise UserError(
            FailureReason.DATA_INVALID,
            f"{dataset.source}: the data changed since training (was {trained}, is {dataset.digest}); train again, or evaluate on "
            "data of its own by spec.data.",
        )
    return dataset
