"""Image folders: `folder/<label>/<file>` to arrays."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelship_trainer.data.folders import IMAGE_ENDINGS, check_labels
from modelship_trainer.data.source import Source
from modelship_trainer.errors import UserError, is_store_error, listing
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import Data, ImageOptions

WHITE = (255, 255, 255, 255)
"""What shows through pixels that are transparent, as on paper; their own colours are whatever the drawing program left there."""
_UPRIGHT = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""By EXIF's orientation: how Pillow turns a camera's pixels upright."""
_ORIENTATION = 0x0112


def load_images(source: Source, data: Data) -> tuple[npt.NDArray[np.uint8], list[str], list[str]]:
    """Pixels `[N, C, size, size]`, 0 to 255; each image's label, the first folder below the source; and what is to be told of them.

    Raises:
        UserError: DataInvalid where there are no labelled images, a label would be lost, or a file is no image.
    """
    if not source.root.is_dir():
        raise UserError(
            FailureReason.DATA_INVALID, f"{source.uri} is a file; format imageFolder is a folder with a folder per label."
        )
    names = source.names
    if not names:
        raise UserError(
            FailureReason.DATA_INVALID,
            f"{source.uri} has no images in a folder per label, such as cat/1.png; endings: {listing(list(IMAGE_ENDINGS))}.",
        )
    labels = [name.split("/")[0] for name in names]
    check_labels(source, labels)
    options = data.image or ImageOptions()
    pixels = np.empty((len(names), options.channels, options.size, options.size), dtype=np.uint8)

    def read(index: int) -> bool:
        pixels[index], moves = read_image(source.root / names[index], options, f"{source.uri}/{names[index]}")
        return moves

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        moving = [name for name, moves in zip(names, pool.map(read, range(len(names))), strict=True) if moves]
    return pixels, [unicodedata.normalize("NFC", label) for label in labels], _told(source, moving)


def _told(source: Source, moving: Sequence[str]) -> list[str]:
    if not moving:
        return []
    which = "one image" if len(moving) == 1 else f"{len(moving):,} images"
    return [f"{which} of {source.uri} with several frames: the first one was read ({listing(list(moving), limit=3)})."]


def read_image(path: Path, options: ImageOptions, shown: str) -> tuple[npt.NDArray[np.uint8], bool]:
    """One image `[C, size, size]`, upright as its camera says, on white, resized bilinearly; and whether it has more frames.

    Raises:
        UserError: DataInvalid where it is none, is cut off, too large, or has no known brightest value.
        OSError: the store cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            # A photo's further frames (MPO) are a preview or another eye's.
            moves = image.format != "MPO" and getattr(image, "n_frames", 1) > 1
            flat = _on_white(_eight_bits(_upright(image), shown))
            resized = flat.convert("L" if options.channels == 1 else "RGB").resize(
                (options.size, options.size), Image.Resampling.BILINEAR
            )
    except Image.DecompressionBombError as error:
        raise UserError(
            FailureReason.DATA_INVALID,
            f"{shown} has more pixels than are read ({2 * (Image.MAX_IMAGE_PIXELS or 0):,}); shrink it, or remove it.",
        ) from error
    except (UserError, MemoryError):
        raise
    except Exception as error:  # Pillow raises what its decoders happen to: a dozen unrelated types
        if is_store_error(error):
            raise
        what = "is cut off" if "truncated" in str(error) else "is not a readable image"
        raise UserError(FailureReason.DATA_INVALID, f"{shown} {what}; replace or remove it.") from error
    array = np.asarray(resized, dtype=np.uint8)
    return (array[np.newaxis] if options.channels == 1 else array.transpose(2, 0, 1)), moves


def _upright(image: Any) -> Any:
    """Turned as its camera says. Of EXIF nothing else is looked at: one that is damaged, there or elsewhere, is no error."""
    from PIL import Image

    image.load()
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:
        return image
    method = _UPRIGHT[orientation] if orientation in range(len(_UPRIGHT)) else ""
    return image.transpose(Image.Transpose[method]) if method else image


def _on_white(image: Any) -> Any:
    """Without transparency, be it a channel, a colour of the palette, or one colour of all."""
    from PIL import Image

    if not image.has_transparency_data:
        return image
    seen = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, WHITE), seen)


def _eight_bits(image: Any, shown: str) -> Any:
    """Grey of 16 bits scaled to 8: Pillow itself makes white of all above 255."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        pixels = np.asarray(image).astype(np.uint16)
        scaled = np.round(pixels / 257).astype(np.uint8)
        if "transparency" in image.info:
            scaled[pixels == image.info["transparency"]] = WHITE[0]
        return Image.fromarray(scaled)
    if image.mode in ("I", "F"):
        raise UserError(
            FailureReason.DATA_INVALID,
            f"{shown} has pixels of 32 bits, whose brightest value is not known; convert it to 8 or 16 bits.",
        )
    return image
