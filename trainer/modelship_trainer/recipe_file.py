"""Read a recipe from a file: plain YAML or JSON with data, model and training, or a ModelTraining manifest, whose spec has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from modelship_trainer.errors import UserError
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import Recipe


def read_recipe(path: Path) -> Recipe:
    """The recipe in `path`.

    Raises:
        UserError: RecipeInvalid, naming the file and the field.
    """
    return parse_recipe(_document(path), str(path))


def parse_recipe(document: Any, shown: str) -> Recipe:
    """The recipe of a document: itself, or the spec of a ModelTraining."""
    if not isinstance(document, dict):
        raise _invalid(f"{shown} is not a recipe: it needs the fields data, model and training.")
    prefix = ""
    if document.get("kind") == "ModelTraining":
        spec = document.get("spec")
        document, prefix = (
            {name: spec[name] for name in Recipe.model_fields if name in spec} if isinstance(spec, dict) else {},
            "spec.",
        )
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        raise _invalid(f"{shown}: {explain(error, prefix)}") from error


def explain(error: ValidationError, prefix: str = "") -> str:
    """All of pydantic's findings in one sentence: `training.epochs: input should be greater than or equal to 1; ...`."""
    findings = []
    for finding in error.errors():
        path = prefix + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in finding["loc"]).lstrip(".")
        message = "this field is not known" if finding["type"] == "extra_forbidden" else finding["msg"]
        findings.append(f"{path}: {message[0].lower()}{message[1:]}" if path else message)
    return "; ".join(findings) + "."


def _document(path: Path) -> Any:
    try:
        documents = [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document is not None]
    except OSError as error:
        raise _invalid(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _invalid(f"{path} is neither YAML nor JSON: {' '.join(str(error).split())}.") from error
    trainings = [item for item in documents if isinstance(item, dict) and item.get("kind") == "ModelTraining"]
    if len(documents) > 1 and len(trainings) != 1:
        raise _invalid(f"{path} has {len(trainings)} ModelTrainings in {len(documents)} documents; one is needed.")
    return trainings[0] if trainings else next(iter(documents), None)


def _invalid(message: str) -> UserError:
    return UserError(FailureReason.RECIPE_INVALID, message)
