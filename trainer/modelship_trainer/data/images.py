"""Image folders: `folder/<label>/<file>` to arrays."""

from __future__ import annotations

import os
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelship_trainer.data.source import Source
from modelship_trainer.errors import UserError, is_store_error, listing, quote
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import Data, ImageOptions

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def load_images(source: Source, data: Data) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """Pixels `[N, C, size, size]`, 0 to 255, and each image's label: the first folder below the source.

    Raises:
        UserError: DataInvalid where there are no labelled images, or a file is none.
    """
    if not source.root.is_dir():
        raise UserError(
            FailureReason.DATA_INVALID, f"{source.uri} is a file; format imageFolder is a folder with a folder per label."
        )
    labelled = [name for name in source.names if "/" in name]
    names = [name for name in labelled if name.lower().endswith(ENDINGS)]
    if not names:
        raise UserError(
            FailureReason.DATA_INVALID,
            f"{source.uri} has no images in a folder per label, such as cat/1.png; endings: {listing(list(ENDINGS))}.",
        )
    read_labels = {_label(name) for name in names}
    skipped = next((name for name in labelled if _label(name) not in read_labels), None)
    if skipped is not None:
        raise UserError(
            FailureReason.DATA_INVALID,
            f"folder {quote(_label(skipped))} of {source.uri} has no image that is read, only files such as {quote(skipped)}; "
            f"convert them ({listing(list(ENDINGS))} are read), or remove the folder.",
        )
    options = data.image or ImageOptions()
    pixels = np.empty((len(names), options.channels, options.size, options.size), dtype=np.uint8)

    def read(index: int) -> None:
        pixels[index] = read_image(source.root / names[index], options, f"{source.uri}/{names[index]}")

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        list(pool.map(read, range(len(names))))
    return pixels, [_label(name) for name in names]


def _label(name: str) -> str:
    return name.split("/")[0]


def read_image(path: Path, options: ImageOptions, shown: str) -> npt.NDArray[np.uint8]:
    """One image `[C, size, size]`, upright as its camera says, resized bilinearly.

    Raises:
        UserError: DataInvalid where it is none, or has no known brightest value.
        OSError: the store cannot be read.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            upright = _eight_bits(ImageOps.exif_transpose(image), shown)
            resized = upright.convert("L" if options.channels == 1 else "RGB").resize(
                (options.size, options.size), Image.Resampling.BILINEAR
            )
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        if is_store_error(error):
            raise
        raise UserError(FailureReason.DATA_INVALID, f"{shown} is not a readable image; replace or remove it.") from error
    array = np.asarray(resized, dtype=np.uint8)
    return array[np.newaxis] if options.channels == 1 else array.transpose(2, 0, 1)


def _eight_bits(image: Any, shown: str) -> Any:
    """Grey of 16 bits scaled to 8: Pillow itself makes white of all above 255."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        return Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise UserError(
            FailureReason.DATA_INVALID,
            f"{shown} has pixels of 32 bits, whose brightest value is not known; convert it to 8 or 16 bits.",
        )
    return image
