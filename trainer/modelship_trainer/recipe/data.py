"""Where the data is, and how it becomes features and labels."""

from __future__ import annotations

import re
import unicodedata
from enum import StrEnum
from functools import partial
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from modelship_trainer.schema import DNS_SUBDOMAIN, Distinct, Model, Obeys, OneOf, Rule, Told, cel_list, raise_broken

ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=253), AfterValidator(partial(unicodedata.normalize, "NFC"))]
"""In Unicode's NFC, as names are read from files."""
Columns = Annotated[list[ColumnName], Field(min_length=1, max_length=512), Distinct()]
SecretName = Annotated[str, StringConstraints(pattern=rf"^{DNS_SUBDOMAIN}$", max_length=253)]

BUNDLED = ("breast_cancer", "diabetes", "digits", "iris", "wine")
"""Datasets that scikit-learn carries: sklearn://NAME. All are tables but digits."""
_BUNDLED_URIS = [f"sklearn://{name}" for name in BUNDLED]
IS_BUNDLED = Obeys(
    Rule(f"!self.startsWith('sklearn://') || self in {cel_list(_BUNDLED_URIS)}", f"bundled are {', '.join(_BUNDLED_URIS)}"),
    lambda uri: not uri.startswith("sklearn://") or uri in _BUNDLED_URIS,
)
# As locations.local_path reads it, %2e for a dot and %2f for a slash too.
_WAY_UP = r"^(pvc|file)://(.*(/|%2[fF]))?(\.|%2[eE])(\.|%2[eE])((/|%2[fF]).*)?$"
NO_WAY_UP = Obeys(
    Rule(f"!self.matches(r'{_WAY_UP}')", "must not contain a segment '..': write the path without it"),
    lambda uri: re.match(_WAY_UP, uri) is None,
)
SourceUri = Annotated[
    str,
    StringConstraints(pattern=rf"^(pvc://{DNS_SUBDOMAIN}(/.*)?|https://.+|sklearn://[a-z_]+|file:///.+)$", max_length=2048),
    Told("write pvc://claim/path, https://... or sklearn://name (file:///... on a laptop)"),
    IS_BUNDLED,
    NO_WAY_UP,
]


class Format(StrEnum):
    """How the source's bytes are read."""

    CSV = "csv"
    PARQUET = "parquet"
    JSON_LINES = "jsonLines"
    IMAGE_FOLDER = "imageFolder"
    NPZ = "npz"


class Quote(StrEnum):
    """What surrounds a CSV cell that has separators or line breaks in it."""

    DOUBLE = '"'
    SINGLE = "'"
    NONE = "none"


class DecimalMark(StrEnum):
    """What stands before the fraction of a number."""

    POINT = "."
    COMMA = ","


class Encoding(StrEnum):
    """How a text file's characters are written as bytes; names that Python's codecs have, too."""

    UTF_8 = "utf-8"
    UTF_16 = "utf-16"
    LATIN_1 = "latin-1"
    ISO_8859_2 = "iso-8859-2"
    ISO_8859_15 = "iso-8859-15"
    WINDOWS_1250 = "windows-1250"
    WINDOWS_1251 = "windows-1251"
    WINDOWS_1252 = "windows-1252"
    BIG5 = "big5"
    EUC_JP = "euc-jp"
    EUC_KR = "euc-kr"
    GB18030 = "gb18030"
    SHIFT_JIS = "shift_jis"


class Csv(Model):
    """How a CSV file is written."""

    rules = (
        Rule("self.separator != self.decimal", "separator and decimal must differ: with decimal ',', set separator, such as ';'"),
        Rule("self.separator != self.quote", "separator and quote must differ"),
    )

    separator: Annotated[
        str,
        StringConstraints(pattern=r"^[\t !-/:-@\[-`{-~]$", max_length=8),
        Told('write one character of ASCII that is neither a letter nor a digit; a tab is "\\t"'),
    ] = Field(",", description='Between cells: one character, such as `,`, `;`, `|` or `"\\t"`.')
    decimal: DecimalMark = Field(DecimalMark.POINT, description="Before the fraction of a number: `.` or `,`.")
    quote: Quote = Field(
        Quote.DOUBLE,
        description="Around cells with separators or line breaks in them: `\"` or `'`, doubled where it is a character of such a "
        "cell; none: nothing is.",
    )
    encoding: Encoding = Field(Encoding.UTF_8, description="How characters are written as bytes.")

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        raise_broken(self.rules, (self.separator == self.decimal.value, self.separator == self.quote.value))
        return self


class ColumnType(StrEnum):
    """What the values of a column are."""

    NUMBER = "number"
    CATEGORY = "category"
    TEXT = "text"


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
        raise_broken(self.rules, (self.validation + self.test >= 1,))
        return self


class DropDuplicates(Model):
    """Drop rows that, as they were read, repeat an earlier one."""

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
        Rule("!has(self.strategy) || self.strategy != 'constant' || has(self.value)", "strategy constant needs value"),
        Rule("!has(self.value) || (has(self.strategy) && self.strategy == 'constant')", "value needs strategy constant"),
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
        constant = self.strategy is ImputeStrategy.CONSTANT
        raise_broken(self.rules, (constant and self.value is None, not constant and self.value is not None))
        return self


class Clip(Model):
    """Limit outliers to quantiles of the training rows."""

    rules = (
        Rule(
            "(has(self.lowerQuantile) ? self.lowerQuantile : 0.01) < (has(self.upperQuantile) ? self.upperQuantile : 0.99)",
            "lowerQuantile must be below upperQuantile",
        ),
    )

    columns: Columns | None = Field(None, description="Numeric columns to limit; all when left out.")
    lower_quantile: float = Field(0.01, ge=0, le=1, description="Values below this quantile become it.")
    upper_quantile: float = Field(0.99, ge=0, le=1, description="Values above this quantile become it.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        raise_broken(self.rules, (self.lower_quantile >= self.upper_quantile,))
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

    drop_duplicates: DropDuplicates | None = Field(None, description="Cleaning: drop repeated rows, before rows are divided.")
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
        raise_broken(self.rules, (self.channels not in (1, 3),))
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
        Rule("!has(self.csv) || !has(self.format) || self.format == 'csv'", "csv needs format csv"),
        Rule(
            "!self.source.startsWith('sklearn://') || !(has(self.format) || has(self.image) || has(self.csv))",
            "format, image and csv have no effect with a source of sklearn://: leave them out",
        ),
        Rule("!has(self.types) || !has(self.format) || self.format != 'imageFolder'", "types needs columns, and images have none"),
        Rule(
            "!has(self.features) || !has(self.target) || !(self.target in self.features)",
            "features must not contain the target: leave it out of features",
        ),
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
    types: Annotated[dict[str, ColumnType], Field(min_length=1, max_length=512)] | None = Field(
        None,
        description="What the values of a column are, features and target alike. number: read as numbers. category: read as text, "
        "with one spelling per number (`1.0` is `1`). text: just as the file says. Told from the values when left out.",
    )
    csv: Csv | None = Field(None, description="How a CSV file is written; commas, points, double quotes and UTF-8 when left out.")
    image: ImageOptions | None = Field(None, description="For format imageFolder.")
    split: Split = Field(default_factory=Split, description="How rows are divided for training, validation and test.")
    preprocessing: Annotated[list[Step], Field(max_length=64)] = Field(
        default_factory=list,
        description="Cleaning, transformation and normalisation, in order; fitted on the training rows only.",
    )

    @model_validator(mode="after")
    def _readable(self) -> Self:
        broken = (
            carries_login(self.source),
            self.image is not None and self.format not in (None, Format.IMAGE_FOLDER),
            self.credentials_secret is not None and not self.source.startswith("https://"),
            self.csv is not None and self.format not in (None, Format.CSV),
            self.source.startswith("sklearn://") and not (self.format is None and self.image is None and self.csv is None),
            self.types is not None and self.format is Format.IMAGE_FOLDER,
            self.target is not None and self.target in (self.features or ()),
        )
        raise_broken(self.rules, broken)
        return self

    @property
    def is_table(self) -> bool:
        """Whether the rows are known to be a table before anything is read: the offline mirror of `IS_TABLE`."""
        if self.format is not None:
            return self.format in _TABLES
        if self.source.startswith("sklearn://"):
            return self.source != "sklearn://digits"
        return re.match(_TABLE_FILE, self.source) is not None


_TABLES = (Format.CSV, Format.PARQUET, Format.JSON_LINES)
_ENDING = r"\.(csv|csv\.gz|parquet|jsonl|ndjson)"
_TABLE_FILE = rf"(?i)^(https://[^/?#]+/[^?#]*{_ENDING}([?#].*)?|(pvc|file)://.*/.*{_ENDING})$"
IS_TABLE = (
    f"(has(self.data.format) ? self.data.format in {cel_list(_TABLES)}"
    " : self.data.source.startsWith('sklearn://') ? self.data.source != 'sklearn://digits'"
    f" : self.data.source.matches(r'{_TABLE_FILE}'))"
)
"""CEL, where `self` has the data: whether the spec alone tells that the rows are a table."""
