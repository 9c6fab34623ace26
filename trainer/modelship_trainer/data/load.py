"""Load `recipe.data`: fetch the source, read its format, check columns and target.

load(data, task) -> Dataset
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from modelship_trainer.data import bundled
from modelship_trainer.data.columns import Reading, Use, Where, check_array, features_of, readings
from modelship_trainer.data.dataset import Array, Dataset, Kind
from modelship_trainer.data.folders import choose, told
from modelship_trainer.data.images import load_images
from modelship_trainer.data.labels import canonical_target, missing_labels
from modelship_trainer.data.preprocessing import Fitted
from modelship_trainer.data.source import Source, fetch
from modelship_trainer.data.table import read_table
from modelship_trainer.errors import UserError, is_store_error, listing, printable, quote
from modelship_trainer.locations import scheme_of, shown
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import Data, Format, Step, Task

__all__ = ["Dataset", "Kind", "load"]


def load(data: Data, *, task: Task, fitted: Fitted | None = None) -> Dataset:
    """Read the source that `data` names; where it is for the model of `fitted`, in the types that this model was trained on.

    Raises:
        UserError: DataNotFound, DataInvalid, RecipeInvalid or StoreUnavailable, each with one sentence that says what to change.
    """
    if scheme_of(data.source) == "sklearn":
        dataset = bundled.load(data, task)
    else:
        try:
            dataset = _read(data, task, fitted)
        except OSError as error:
            if not is_store_error(error):
                raise
            why = f"{shown(data.source)}{_which(error)} cannot be read: {os.strerror(error.errno or 0)}"
            raise UserError(FailureReason.STORE_UNAVAILABLE, f"{why}{_owner(error)}; trying again.") from error
    if dataset.rows == 0:
        raise UserError(FailureReason.DATA_INVALID, f"{dataset.source} has no rows.")
    return dataset


def _owner(error: OSError) -> str:
    """What root owns is closed to a pod: say to whom it must be open."""
    if error.errno not in (errno.EACCES, errno.EPERM):
        return ""
    return f" for uid {os.getuid()}, gid {os.getgid()} (the pods' fsGroup); give it to that group, or make it readable"


def _which(error: OSError) -> str:
    """The file or folder within the source, where the error names one."""
    return f" ({quote(os.path.basename(os.fsdecode(error.filename)))} of it)" if isinstance(error.filename, str | bytes) else ""


def _read(data: Data, task: Task, fitted: Fitted | None) -> Dataset:
    with TemporaryDirectory(prefix="modelship-data-") as work:
        source, format_ = choose(fetch(data.source, Path(work)), data.format)
        before = source.stamp()
        if data.image is not None and format_ is not Format.IMAGE_FOLDER:
            raise UserError(FailureReason.RECIPE_INVALID, f"data.image is for image folders, and {source.uri} is {format_}.")
        dataset = _READERS[format_](source, data, task, fitted)
        if source.stamp() != before:  # else the digest might be of other bytes than those that were read
            raise UserError(
                FailureReason.DATA_INVALID, f"{source.uri} changed while it was read; start again when nothing writes to it."
            )
    return replace(dataset, notes=tuple(printable(note) for note in (*told(source), *dataset.notes)))


Reader = Callable[[Source, Data, Task, Fitted | None], Dataset]


def _load_table(format_: Format) -> Reader:
    def read(source: Source, data: Data, task: Task, fitted: Fitted | None) -> Dataset:
        found = readings(data, fitted)
        text = {name for name, reading in found.items() if reading.use not in (Use.ANY, Use.NUMBER)}
        labels = {data.target} if data.target is not None and task is Task.CLASSIFICATION else set()
        if fitted is not None and fitted.columns is not None:  # whatever else there is does not matter to the model
            data = data.model_copy(update={"features": [column.name for column in fitted.columns]})
        frame, name = read_table(source, format_, data, text | labels)
        return tabular(source.uri, frame, name, source.digest, data, task, fitted, written=format_ is Format.CSV)

    return read


def tabular(
    uri: str,
    frame: pd.DataFrame,
    target: str,
    digest: str,
    data: Data,
    task: Task,
    fitted: Fitted | None = None,
    *,
    written: bool = False,
) -> Dataset:
    """A dataset of a raw table whose columns are checked to exist; `written`: its format has no types.

    `frame` is taken apart, so that the table is in memory once.
    """
    where = Where(uri, for_training=fitted is None, written=written)
    unknown = [name for name in data.types or {} if name not in frame] if fitted is None else []
    if unknown:
        raise UserError(
            FailureReason.RECIPE_INVALID,
            f"data.types names {quote(unknown[0])}, which is no column of {uri} that is read; columns: "
            f"{listing(list(frame.columns))}.",
        )
    frame = _with_labels(frame, target, data.preprocessing, where)
    found = readings(data, fitted)
    labels = canonical_target(frame.pop(target), task, found.get(target, Reading()), where, _classes(fitted))
    compared = fitted is None and any(step.drop_duplicates for step in data.preprocessing)
    raw = frame if compared else None
    features, kinds = features_of(frame, where, found, keep=compared)
    return Dataset(
        source=uri,
        kind=Kind.TABULAR,
        features=features,
        target=labels,
        target_name=target,
        digest=digest,
        kinds=kinds,
        raw=raw,
    )


def _with_labels(frame: pd.DataFrame, target: str, steps: Sequence[Step], where: Where) -> pd.DataFrame:
    """The rows that have a target: without it they can be neither learned from nor scored."""
    missing = missing_labels(frame[target])
    if not missing.any():
        return frame
    if _drops_missing(steps, target):
        return frame[~missing]
    raise UserError(FailureReason.DATA_INVALID, _missing_target(target, missing, where))


def _missing_target(target: str, missing: pd.Series, where: Where) -> str:
    count, first = int(missing.sum()), int(missing.to_numpy().argmax()) + 1
    rows = f"{count:,} of {len(missing):,} rows of {where.uri}, " + (f"row {first}" if count == 1 else f"the first row {first}")
    drop = f", or drop these rows with the preprocessing step dropMissing: {{columns: [{target}]}}" if where.for_training else ""
    last = " (the last: was the file cut?)" if count == 1 and first == len(missing) else ""
    return f"target {quote(target)} is missing in {rows}{last}; fill it in{drop}."


def _classes(fitted: Fitted | None) -> list[int | str] | None:
    return fitted.target.classes if fitted is not None and fitted.target is not None else None


def _drops_missing(steps: Sequence[Step], target: str) -> bool:
    drops = [step.drop_missing for step in steps if step.drop_missing]
    return any(drop.columns is None or target in drop.columns for drop in drops)


def _load_npz(source: Source, data: Data, task: Task, fitted: Fitted | None) -> Dataset:
    """Arrays `x` and `y` of an .npz file (or those that data.features and data.target name)."""
    arrays = _read_npz(source)
    target = data.target or "y"
    others = [name for name in arrays if name != target]
    wanted = data.features or (["x"] if "x" in arrays else others)
    for name in [target, *wanted]:
        if name not in arrays:
            raise UserError(
                FailureReason.DATA_INVALID, f"array {quote(name)} is not in {source.uri}; arrays: {listing(sorted(arrays))}."
            )
    if len(wanted) != 1 or wanted[0] == target:
        raise UserError(
            FailureReason.RECIPE_INVALID,
            f"data.features must name the one array of {source.uri} to learn from; arrays: {listing(sorted(arrays))}.",
        )
    x, y = arrays[wanted[0]], arrays[target]
    if x.ndim < 2 or 0 in x.shape[1:] or not (np.issubdtype(x.dtype, np.number) or x.dtype == bool) or np.iscomplexobj(x):
        raise UserError(
            FailureReason.DATA_INVALID,
            f"array {quote(wanted[0])} of {source.uri} has shape {list(x.shape)} and type {x.dtype}; it must be numbers, "
            "[rows, ...].",
        )
    if _channels_last(x.shape):
        raise UserError(
            FailureReason.DATA_INVALID,
            f"array {quote(wanted[0])} of {source.uri} has shape {list(x.shape)}, as [rows, height, width, channels]; "
            "images are [rows, channels, height, width]: save x.transpose(0, 3, 1, 2) (no image: x.reshape(len(x), -1)).",
        )
    if y.ndim != 1 or len(y) != len(x):
        raise UserError(
            FailureReason.DATA_INVALID,
            f"array {quote(target)} of {source.uri} has shape {list(y.shape)}; it must be [{len(x)}], a value per row.",
        )
    where = Where(source.uri, for_training=fitted is None)
    missing = missing_labels(pd.Series(y))
    if missing.any():
        raise UserError(
            FailureReason.DATA_INVALID,
            f"target {quote(target)} is missing in {int(missing.sum()):,} of {len(y):,} rows of {source.uri}.",
        )
    check_array(x, wanted[0], where)
    reading = readings(data, None).get(target, Reading())
    y = canonical_target(pd.Series(y, name=target), task, reading, where, _classes(fitted))
    return Dataset(source=source.uri, kind=Kind.ARRAY, features=x, target=y, target_name=target, digest=source.digest)


def _channels_last(shape: tuple[int, ...]) -> bool:
    """Whether rows of this shape are images as TensorFlow and Pillow have them: grey, RGB or RGBA in the last place."""
    return len(shape) == 4 and shape[3] in (1, 3, 4) and min(shape[1:3]) > 4


def _read_npz(source: Source) -> dict[str, Array]:
    path = source.single_file("npz")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile, zlib, numpy: each raises its own
        if is_store_error(error):
            raise
        raise UserError(FailureReason.DATA_INVALID, f"{source.uri} is not readable as npz: {error}.") from error


def _load_image_folder(source: Source, data: Data, task: Task, fitted: Fitted | None) -> Dataset:
    if data.target is not None or data.features is not None:
        raise UserError(
            FailureReason.RECIPE_INVALID,
            "data.target and data.features do not apply to imageFolder: a file's folder is its label; leave them out.",
        )
    images, labels, notes = load_images(source, data)
    where = Where(source.uri, for_training=fitted is None)
    target = canonical_target(pd.Series(labels, dtype=object, name="label"), task, Reading(), where, _classes(fitted))
    return Dataset(source.uri, Kind.IMAGE, images, target, "label", source.digest, notes=tuple(notes))


_READERS: dict[Format, Reader] = {
    Format.CSV: _load_table(Format.CSV),
    Format.PARQUET: _load_table(Format.PARQUET),
    Format.JSON_LINES: _load_table(Format.JSON_LINES),
    Format.NPZ: _load_npz,
    Format.IMAGE_FOLDER: _load_image_folder,
}
