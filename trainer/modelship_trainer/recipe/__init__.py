"""The recipe: data, model and training, as a user writes them in `ModelTraining.spec` and as the trainer runs them.

pydantic only: the operator embeds these very types in its CRDs, the trainer reads them in the pod or on a laptop. Every bound and
description here reaches `kubectl explain`. A recipe says nothing of where it runs: that is `spec.compute`.
"""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from modelship_trainer.recipe.data import (
    BUNDLED,
    IS_BUNDLED,
    IS_TABLE,
    NO_LOGIN_IN_SOURCE,
    NO_WAY_UP,
    Cast,
    CastType,
    Clip,
    ColumnType,
    Csv,
    Data,
    DropDuplicates,
    DropMissing,
    Format,
    ImageOptions,
    Impute,
    ImputeStrategy,
    Log,
    Normalize,
    NormalizeMethod,
    OneHot,
    Ordinal,
    Quote,
    Split,
    Step,
    Tokenize,
    carries_login,
)
from modelship_trainer.recipe.model import Activation, Cnn, Custom, Linear, Mlp, ModelSpec
from modelship_trainer.recipe.task import Task
from modelship_trainer.recipe.training import (
    Adam,
    AdamW,
    Cosine,
    EarlyStopping,
    Exponential,
    GradientDescent,
    Optimizer,
    Precision,
    Schedule,
    Sgd,
    StepDecay,
    Training,
)
from modelship_trainer.schema import Model, Rule, canonical_json, digest_of, raise_broken

__all__ = [
    "BUNDLED", "IS_BUNDLED", "NO_LOGIN_IN_SOURCE", "NO_WAY_UP", "Activation", "Adam", "AdamW", "Cast", "CastType", "Clip",
    "Cnn", "ColumnType", "Cosine", "Csv", "Custom", "Data", "DropDuplicates", "DropMissing", "EarlyStopping", "Exponential",
    "Format", "GradientDescent", "ImageOptions", "Impute", "ImputeStrategy", "Linear", "Log", "Mlp", "ModelSpec", "Normalize",
    "NormalizeMethod", "OneHot", "Optimizer", "Ordinal", "Precision", "Quote", "Recipe", "Schedule", "Sgd", "Split", "Step",
    "StepDecay", "Task", "Tokenize", "Training", "carries_login",
]  # fmt: skip


class Recipe(Model):
    """All that decides which model comes out: data, architecture, training."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!self.data.split.stratify || self.training.task == 'classification'",
            "data.split.stratify needs training.task classification",
        ),
        Rule(
            "!has(self.training.earlyStopping) || self.data.split.validation > 0.0",
            "training.earlyStopping needs data.split.validation above 0",
        ),
        Rule(
            f"!has(self.model.cnn) || !{IS_TABLE}",
            "model.cnn needs images, and data is a table: use model.mlp, or set data.format to imageFolder or npz",
        ),
    )

    data: Data = Field(description="Where the data is and how it becomes features and labels.")
    model: ModelSpec = Field(description="The architecture: set exactly one of its fields.")
    training: Training = Field(description="How the model is fitted.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        broken = (
            self.data.split.stratify and self.training.task is not Task.CLASSIFICATION,
            self.training.early_stopping is not None and self.data.split.validation == 0,
            self.model.cnn is not None and self.data.is_table,
        )
        raise_broken(Recipe.rules, broken)
        return self

    def digest(self) -> str:
        """Identity of the recipe: SHA-256 of its canonical JSON."""
        return digest_of(canonical_json(self.alone().to_json()))

    def alone(self) -> Recipe:
        """The recipe without what a subclass adds to it. Shares its parts, which are as frozen as it is."""
        return Recipe.model_construct(data=self.data, model=self.model, training=self.training)
