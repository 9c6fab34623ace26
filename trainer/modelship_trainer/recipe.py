"""The recipe: data, model and training, as a user writes them in `ModelTraining.spec` and as the trainer runs them.

pydantic only: the operator embeds these very types in its CRDs, the trainer reads them in the pod or on a laptop. Every bound and
description here reaches `kubectl explain`. A recipe says nothing of where it runs: that is `spec.compute`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import Field, JsonValue, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from modelship_trainer.schema import Distinct, Model, OneOf, Rule, canonical_json, digest_of

ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=253)]
Columns = Annotated[list[ColumnName], Field(min_length=1, max_length=512), Distinct()]
SecretName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
SourceUri = Annotated[
    str,
    StringConstraints(
        pattern=r"^(pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/.*)?|https://.+|sklearn://[a-z_]+|file:///.+)$",
        max_length=2048,
    ),
]
StoreUri = Annotated[str, StringConstraints(pattern=r"^(pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/.*)?|file:///.+)$", max_length=2048)]


class Format(StrEnum):
    """How the source's bytes are read."""

    CSV = "csv"
    PARQUET = "parquet"
    JSON_LINES = "jsonLines"
    IMAGE_FOLDER = "imageFolder"
    NPZ = "npz"


# --- data ---------------------------------------------------------------------------------------------------------------------


class Split(Model):
    """How rows are divided. Preprocessing is fitted on the training part alone."""

    rules = (
        Rule(
            "self.validation + self.test < 1.0",
            "validation + test must leave rows to train on: their sum must be below 1",
        ),
    )

    validation: float = Field(0.1, ge=0, lt=1, description="Fraction of rows that early stopping and val_loss are measured on.")
    test: float = Field(0.2, ge=0, lt=1, description="Fraction of rows that training never sees; evaluations score it.")
    stratify: bool = Field(False, description="Keep the classes' proportions in each part. Classification only.")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of the shuffle that makes the parts.")

    @model_validator(mode="after")
    def _leaves_rows(self) -> Self:
        if self.validation + self.test >= 1:
            raise PydanticCustomError("split", "{message}", {"message": self.rules[0].message})
        return self


class DropDuplicates(Model):
    """Drop rows that repeat an earlier one."""

    columns: Columns | None = Field(None, description="Columns that make two rows the same; all when left out.")


class DropMissing(Model):
    """Drop rows with a missing value."""

    columns: Columns | None = Field(None, description="Columns that must have a value; all when left out.")


class ImputeStrategy(StrEnum):
    """What a missing value becomes."""

    MEAN = "mean"
    MEDIAN = "median"
    MOST_FREQUENT = "mostFrequent"
    CONSTANT = "constant"


class Impute(Model):
    """Fill missing values with a statistic of the training rows, or a constant."""

    rules = (
        Rule("self.strategy != 'constant' || has(self.value)", "strategy constant needs value"),
        Rule("!has(self.value) || self.strategy == 'constant'", "value needs strategy constant"),
    )

    columns: Columns | None = Field(None, description="Columns to fill; all numeric ones when left out.")
    strategy: ImputeStrategy = Field(
        ImputeStrategy.MEDIAN, description="mean, median (numeric columns), mostFrequent, or constant."
    )
    value: Annotated[str, StringConstraints(max_length=253)] | None = Field(
        None, description="With strategy constant: the value, as text; read as a number for numeric columns."
    )

    @model_validator(mode="after")
    def _value_and_constant_go_together(self) -> Self:
        if self.strategy is ImputeStrategy.CONSTANT and self.value is None:
            raise PydanticCustomError("impute", "{message}", {"message": self.rules[0].message})
        if self.strategy is not ImputeStrategy.CONSTANT and self.value is not None:
            raise PydanticCustomError("impute", "{message}", {"message": self.rules[1].message})
        return self


class Clip(Model):
    """Limit outliers to quantiles of the training rows."""

    rules = (Rule("self.lowerQuantile < self.upperQuantile", "lowerQuantile must be below upperQuantile"),)

    columns: Columns | None = Field(None, description="Numeric columns to limit; all when left out.")
    lower_quantile: float = Field(0.01, ge=0, le=1, description="Values below this quantile become it.")
    upper_quantile: float = Field(0.99, ge=0, le=1, description="Values above this quantile become it.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.lower_quantile >= self.upper_quantile:
            raise PydanticCustomError("clip", "{message}", {"message": self.rules[0].message})
        return self


class OneHot(Model):
    """A 0/1 feature per category; a category unseen in training becomes all zeros."""

    columns: Columns = Field(description="Categorical columns.")
    max_categories: int | None = Field(None, ge=2, le=10_000, description="Rarer categories share one feature beyond this many.")


class Ordinal(Model):
    """A number per category, in sorted order; a category unseen in training becomes -1."""

    columns: Columns = Field(description="Categorical columns.")


class Log(Model):
    """log(1 + x), for columns with a long tail; values must be above -1."""

    columns: Columns = Field(description="Numeric columns.")


class CastType(StrEnum):
    """Types that a column can be read as."""

    NUMBER = "number"
    CATEGORY = "category"


class Cast(Model):
    """Read columns as another type: digits as categories, or text as numbers."""

    columns: Columns = Field(description="Columns to convert.")
    to: CastType = Field(description="number or category.")


class Tokenize(Model):
    """Text to weighted token counts (TF-IDF) over the training rows' vocabulary."""

    columns: Columns = Field(description="Text columns.")
    vocabulary_size: int = Field(2_000, ge=10, le=100_000, description="The most frequent tokens that become features.")
    ngrams: int = Field(1, ge=1, le=3, description="Longest run of tokens that counts as one.")
    lowercase: bool = Field(True, description="Fold case first.")


class NormalizeMethod(StrEnum):
    """How a numeric column is scaled."""

    STANDARD = "standard"
    MIN_MAX = "minMax"
    ROBUST = "robust"


class Normalize(Model):
    """Scale numeric columns by statistics of the training rows."""

    columns: Columns | None = Field(None, description="Numeric columns; all when left out. For images and arrays: every value.")
    method: NormalizeMethod = Field(
        NormalizeMethod.STANDARD,
        description="standard: mean 0, deviation 1. minMax: 0 to 1. robust: median 0, quartile range 1.",
    )


class Step(OneOf):
    """One preprocessing step; steps run in the order written."""

    drop_duplicates: DropDuplicates | None = Field(None, description="Cleaning: drop repeated rows.")
    drop_missing: DropMissing | None = Field(None, description="Cleaning: drop rows with missing values.")
    impute: Impute | None = Field(None, description="Cleaning: fill missing values.")
    clip: Clip | None = Field(None, description="Cleaning: limit outliers.")
    cast: Cast | None = Field(None, description="Transformation: change a column's type.")
    log: Log | None = Field(None, description="Transformation: log(1 + x).")
    one_hot: OneHot | None = Field(None, description="Transformation: categories to 0/1 features.")
    ordinal: Ordinal | None = Field(None, description="Transformation: categories to numbers.")
    tokenize: Tokenize | None = Field(None, description="Transformation: text to token weights.")
    normalize: Normalize | None = Field(None, description="Normalisation: scale numeric features.")


class ImageOptions(Model):
    """How image files become arrays."""

    size: int = Field(32, ge=8, le=1024, description="Images are resized to size x size pixels.")
    channels: int = Field(3, ge=1, le=3, description="1 for grey, 3 for RGB.")

    rules = (Rule("self.channels != 2", "channels must be 1 (grey) or 3 (RGB)"),)

    @model_validator(mode="after")
    def _grey_or_rgb(self) -> Self:
        if self.channels not in (1, 3):
            raise PydanticCustomError("channels", "{message}", {"message": self.rules[0].message})
        return self


NO_LOGIN_IN_SOURCE = Rule(
    "!self.source.matches('^https://[^/?#]*@')",
    "source must not carry a user or a password, which everybody could read here; use credentialsSecret of the training's data",
)


def carries_login(source: str) -> bool:
    """Whether an https URI has a user or a password in it: the offline mirror of `NO_LOGIN_IN_SOURCE`."""
    return re.match(r"https://[^/?#]*@", source) is not None


class Data(Model):
    """Where the data is and how it becomes features and labels."""

    rules = (
        NO_LOGIN_IN_SOURCE,
        Rule("!has(self.image) || !has(self.format) || self.format == 'imageFolder'", "image needs format imageFolder"),
        Rule("!has(self.credentialsSecret) || self.source.startsWith('https://')", "credentialsSecret needs a source of https://"),
    )

    source: SourceUri = Field(
        description="pvc://claim/path, https://..., or sklearn://digits|iris|wine|breast_cancer|diabetes (bundled, no download)."
    )
    format: Format | None = Field(None, description="Told from the file's ending when left out.")
    credentials_secret: SecretName | None = Field(
        None,
        description="For https: name of a Secret in this namespace with the key token (bearer), or username and password.",
    )
    target: ColumnName | None = Field(
        None,
        description="Column with the label or value to predict. Bundled datasets have `target`; image folders: the folder's name.",
    )
    features: Columns | None = Field(None, description="Columns to learn from; all but the target when left out.")
    image: ImageOptions | None = Field(None, description="For format imageFolder.")
    split: Split = Field(default_factory=Split, description="How rows are divided for training, validation and test.")
    preprocessing: Annotated[list[Step], Field(max_length=64)] = Field(
        default_factory=list,
        description="Cleaning, transformation and normalisation, in order; fitted on the training rows only.",
    )

    @model_validator(mode="after")
    def _readable(self) -> Self:
        if carries_login(self.source):
            raise PydanticCustomError("source", "{message}", {"message": self.rules[0].message})
        if self.image is not None and self.format not in (None, Format.IMAGE_FOLDER):
            raise PydanticCustomError("image", "{message}", {"message": self.rules[1].message})
        if self.credentials_secret is not None and not self.source.startswith("https://"):
            raise PydanticCustomError("credentials", "{message}", {"message": self.rules[2].message})
        return self


# --- model --------------------------------------------------------------------------------------------------------------------


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
        if self.kernel_size % 2 == 0:
            raise PydanticCustomError("kernel_size", "{message}", {"message": self.rules[0].message})
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


# --- training -----------------------------------------------------------------------------------------------------------------

LearningRate = Annotated[float, Field(gt=0, le=100)]
WeightDecay = Annotated[float, Field(ge=0, le=10)]
Beta = Annotated[float, Field(ge=0, lt=1)]


class Task(StrEnum):
    """What is predicted."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


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
        if self.nesterov and self.momentum == 0:
            raise PydanticCustomError("nesterov", "{message}", {"message": self.rules[0].message})
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

    final_fraction: float = Field(0.0, ge=0, le=1, description="Last learning rate, as a fraction of the first.")


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


class Training(Model):
    """How the model is fitted."""

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
    )

    data: Data = Field(description="Where the data is and how it becomes features and labels.")
    model: ModelSpec = Field(description="The architecture: set exactly one of its fields.")
    training: Training = Field(description="How the model is fitted.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.data.split.stratify and self.training.task is not Task.CLASSIFICATION:
            raise PydanticCustomError("stratify", "{message}", {"message": self.rules[0].message})
        if self.training.early_stopping and self.data.split.validation == 0:
            raise PydanticCustomError("early_stopping", "{message}", {"message": self.rules[1].message})
        return self

    def digest(self) -> str:
        """Identity of the recipe: SHA-256 of its canonical JSON."""
        return digest_of(canonical_json(self.alone().to_json()))

    def alone(self) -> Recipe:
        """The recipe without what a subclass adds to it. Shares its parts, which are as frozen as it is."""
        return Recipe.model_construct(data=self.data, model=self.model, training=self.training)
