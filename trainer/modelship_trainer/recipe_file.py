"""Read a recipe from a file: plain YAML or JSON with data, model and training, or a ModelTraining manifest, whose spec has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from modelship_trainer.errors import UserError
from modelship_trainer.findings import problems
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import Recipe
from modelship_trainer.yaml_text import NotJson, Problem, YamlError, as_sent, documents


def read_recipe(path: Path) -> Recipe:
    """The recipe in `path`, read and checked as `modelship validate` and the API server do it.

    Raises:
        UserError: RecipeInvalid, naming the file and the field.
    """
    return parse_recipe(_document(path), str(path))


def parse_recipe(document: Any, shown: str) -> Recipe:
    """The recipe of a document: itself, or the spec of a ModelTraining."""
    if isinstance(document, Problem):
        raise _invalid(f"{shown}: {document}.")
    if not isinstance(document, dict):
        raise _invalid(f"{shown} is not a recipe: it needs the fields data, model and training.")
    prefix: tuple[str, ...] = ()
    if document.get("kind") == "ModelTraining":
        spec, prefix = document.get("spec"), ("spec",)
        document = {name: spec[name] for name in Recipe.model_fields if name in spec} if isinstance(spec, dict) else {}
    try:
        return _strictly(as_sent(document, prefix))
    except NotJson as error:
        raise _invalid(f"{shown}: {error}.") from error
    except ValidationError as error:
        raise _invalid(f"{shown}: {explain(_better(document, error), Recipe, prefix)}") from error


def _strictly(document: Any) -> Recipe:
    return Recipe.model_validate_json(json.dumps(document), strict=True, by_alias=True, by_name=False)


def _better(document: Any, error: ValidationError) -> ValidationError:
    """Of `model: {mlp: }`, what is said with its null: write {mlp: {}}; without it, nothing is set."""
    if any(finding["type"] == "one_of" for finding in error.errors()):
        try:
            _strictly(document)
        except ValidationError as told:
            return told
    return error


def explain(error: ValidationError, model: type[BaseModel] | None = None, prefix: tuple[str, ...] = ()) -> str:
    """All of pydantic's findings in one sentence: `training.epochs: must be greater than or equal to 1, not 0; ...`."""
    return "; ".join(str(problem) for problem in problems(error, model, prefix)) + "."


def _document(path: Path) -> Any:
    try:
        found = list(documents(path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise _invalid(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise _invalid(f"{path} is neither YAML nor JSON: byte {error.start + 1} is no UTF-8.") from error
    except YamlError as error:
        raise _invalid(f"{path} is neither YAML nor JSON: {error}.") from error
    trainings = [item for item in found if isinstance(item, dict) and item.get("kind") == "ModelTraining"]
    if len(found) > 1 and len(trainings) != 1:
        raise _invalid(f"{path} has {len(trainings)} ModelTrainings in {len(found)} documents; one is needed.")
    return trainings[0] if trainings else next(iter(found), None)


def _invalid(message: str) -> UserError:
    return UserError(FailureReason.RECIPE_INVALID, message)
