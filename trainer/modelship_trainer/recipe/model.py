"""The architecture."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, JsonValue, StringConstraints, model_validator

from modelship_trainer.schema import Model, OneOf, Rule, raise_broken


class Activation(StrEnum):
    """Non-linearity between layers."""

    RELU = "relu"
    GELU = "gelu"
    TANH = "tanh"
    SILU = "silu"


class Linear(Model):
    """Linear regression, or logistic regression for classification."""


class Mlp(Model):
    """A multi-layer perceptron."""

    hidden: Annotated[list[Annotated[int, Field(ge=1, le=16_384)]], Field(min_length=1, max_length=16)] = Field(
        default_factory=lambda: [64, 32], description="Units of each hidden layer."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Fraction of units dropped while training.")
    activation: Activation = Field(Activation.RELU, description="relu, gelu, tanh or silu.")
    batch_norm: bool = Field(False, description="Normalise each hidden layer over the batch.")


class Cnn(Model):
    """A convolutional network for images: blocks of convolution, normalisation, activation and pooling, then one hidden layer."""

    channels: Annotated[list[Annotated[int, Field(ge=1, le=2_048)]], Field(min_length=1, max_length=8)] = Field(
        default_factory=lambda: [16, 32],
        description="Output channels of each block; each block halves width and height.",
    )
    kernel_size: int = Field(3, ge=1, le=11, description="Side of the convolution's kernel; odd.")
    hidden: int = Field(64, ge=1, le=16_384, description="Units of the hidden layer after the blocks.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Fraction of hidden units dropped while training.")

    rules = (Rule("self.kernelSize % 2 == 1", "kernelSize must be odd, so that a block keeps the image's centre"),)

    @model_validator(mode="after")
    def _odd(self) -> Self:
        raise_broken(self.rules, (self.kernel_size % 2 == 0,))
        return self


class Custom(Model):
    """The user's own torch.nn.Module, importable in the training image."""

    entrypoint: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$", max_length=253)] = (
        Field(description="module:function; called as function(input_shape, output_size, **args), returns a torch.nn.Module.")
    )
    args: Annotated[dict[str, JsonValue], Field(max_length=64)] | None = Field(
        None, description="Keyword arguments of the function."
    )


class ModelSpec(OneOf):
    """The architecture."""

    linear: Linear | None = Field(None, description="Linear or logistic regression.")
    mlp: Mlp | None = Field(None, description="Multi-layer perceptron.")
    cnn: Cnn | None = Field(None, description="Convolutional network for images.")
    custom: Custom | None = Field(None, description="Your own module:function, in your own image (spec.compute.image).")
