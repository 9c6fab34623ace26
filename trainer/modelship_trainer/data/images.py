"""Image folders: `folder/<label>/<file>` to arrays."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from modelship_trainer.data.source import Source
from modelship_trainer.errors import UserError, listing
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import Data, ImageOptions

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


def load_images(source: Source, data: Data) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """Pixels `[N, C, size, size]`, 0 to 255, and each image's label: the first folder below the source.

    Raises:
        UserError: DataInvalid where there are no labelled images, or a file is none.
    """
    if not source.root.is_dir():
        raise UserError(
            FailureReason.DATA_INVALID, f"{source.uri} is a file; format imageFolder is a folder with a folder per label."
        )
    names = [name for name in source.names if "/" in name and name.lower().endswith(ENDINGS)]
    if not names:
        raise UserError(
            FailureReason.DATA_INVALID,
            f"{source.uri} has no images in a folder per label, such as cat/1.png; endings: {listing(list(ENDINGS))}.",
        )
    options = data.image or ImageOptions()
    pixels = np.empty((len(names), options.channels, options.size, options.size), dtype=np.uint8)

    def read(index: int) -> None:
        pixels[index] = read_image(source.root / names[index], options, f"{source.uri}/{names[index]}")

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        list(pool.map(read, range(len(names))))
    return pixels, [name.split("/")[0] for name in names]


def read_image(path: Path, options: ImageOptions, shown: str) -> npt.NDArray[np.uint8]:
    """One image `[C, size, size]`, resized bilinearly."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            resized = image.convert("L" if options.channels == 1 else "RGB").resize(
                (options.size, options.size), Image.Resampling.BILINEAR
            )
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(FailureReason.DATA_INVALID, f"{shown} is not a readable image; replace or remove it.") from error
    array = np.asarray(resized, dtype=np.uint8)
    return array[np.newaxis] if options.channels == 1 else array.transpose(2, 0, 1)
