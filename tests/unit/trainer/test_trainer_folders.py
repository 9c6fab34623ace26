"""Folders: what is read, what is left out and said, what folders' names give; image files of every kind."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from modelship_trainer.data.images import read_image
from modelship_trainer.data.load import Dataset, load
from modelship_trainer.errors import UserError
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import Data, ImageOptions, Task

pytestmark = pytest.mark.unit

Put = Callable[[Path], object]
CSV = "age,churned\n1,0\n2,1\n"
ONE = ImageOptions(size=8)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`pvc://data/in`: a folder of a mounted claim."""
    monkeypatch.setenv("MODELSHIP_PVC_ROOT", str(tmp_path))
    (tmp_path / "data" / "in").mkdir(parents=True)
    return tmp_path / "data" / "in"


def read(task: Task = Task.CLASSIFICATION, **fields: Any) -> Dataset:
    return load(Data.model_validate({"source": "pvc://data/in"} | fields), task=task)


def put(path: Path, content: str | bytes | Image.Image | pd.DataFrame, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Image.Image):
        content.save(path, **options)
    elif isinstance(content, pd.DataFrame):
        content.to_parquet(path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def picture(colour: Any = 0, mode: str = "L", size: tuple[int, int] = (9, 9)) -> Image.Image:
    return Image.new(mode, size, colour)


def pets(folder: Path, *names: str) -> None:
    for name in names or ("cat/1.png", "dog/1.png"):
        put(folder / name, picture())


# --- labels -------------------------------------------------------------------------------------------------------------------

LOST: dict[str, tuple[Put, str]] = {
    "parts": (
        lambda at: pets(at, "train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "val/dog/1.png"),
        '"train", "val" of pvc://data/in would be the labels; put the images of all parts into one folder per label '
        "(data.split divides them), or set data.source to pvc://data/in/train.",
    ),
    "parts, as others call them": (
        lambda at: pets(at, "Training/cat/1.png", "Testing/cat/1.png"),
        '"Training", "Testing" of pvc://data/in would be the labels; ',
    ),
    "one part": (lambda at: pets(at, "train/cat/1.png", "train/dog/1.png"), '"train" of pvc://data/in would be the labels; '),
    "a folder around all": (
        lambda at: pets(at, "animals/cat/1.png", "animals/dog/1.png"),
        'all images of pvc://data/in have the one label "animals", the folder at the top; set data.source to pvc://data/in/animals.',
    ),
    "an empty label": (
        lambda at: (pets(at), (at / "cow").mkdir()),
        'folder "cow" of pvc://data/in is empty, and would be no label; add its images, or remove it.',
    ),
    "a label that is a link": (
        lambda at: (pets(at), (at / "cow").symlink_to(at / "cat")),
        'folder "cow" of pvc://data/in is a link, and links to folders are not followed; copy the folder itself there.',
    ),
    "a label with a dot": (
        lambda at: pets(at, "cat/1.png", "dog/1.png", ".cow/1.png"),
        'folder ".cow" of pvc://data/in begins with a dot, and hidden folders are not read; rename it, or remove it.',
    ),
    "a label of hidden files": (
        lambda at: pets(at, "cat/1.png", "dog/1.png", "cow/.1.png"),
        'folder "cow" of pvc://data/in has no image that is read, only files such as "cow/.1.png" (hidden); convert them',
    ),
    "a label of links": (
        lambda at: (
            pets(at),
            put(at.parent / "1.png", picture()),
            (at / "cow").mkdir(),
            (at / "cow/1.png").symlink_to("../../1.png"),
        ),
        'folder "cow" of pvc://data/in has no image that is read, only files such as "cow/1.png" (a link out of the folder); ',
    ),
    "a label that is no text": (
        lambda at: pets(at, "cat/1.png", os.fsdecode(b"caf\xe9/1.png")),
        r'folder "caf\udce9" of pvc://data/in has a name that is not UTF-8; rename it.',
    ),
}


@pytest.mark.parametrize(("make", "message"), LOST.values(), ids=LOST)
def test_what_changes_the_labels_is_an_error(folder: Path, make: Put, message: str) -> None:
    make(folder)
    with pytest.raises(UserError) as caught:
        read(format="imageFolder")
    assert caught.value.reason is FailureReason.DATA_INVALID
    assert caught.value.message.startswith(message)


def test_what_is_left_out_beside_images_is_counted_and_named(folder: Path) -> None:
    pets(folder, "cat/1.png", "cat/.2.png", "dog/1.png", "dog/part/2.png", "flat.png", ".ipynb_checkpoints/1.png")
    put(folder / "README.md", "pets")
    put(folder / "cat/boxes.json", "{}")
    (folder / "dog/gone.png").symlink_to("nowhere.png")
    dataset = read()
    assert dataset.target.tolist() == ["cat", "dog", "dog"]
    assert dataset.notes == (
        "left out 2 files of pvc://data/in, hidden: .ipynb_checkpoints/, cat/.2.png.",
        "left out one file of pvc://data/in, a link to nothing: dog/gone.png.",
        "left out 2 files of pvc://data/in, not of the data's format: README.md, cat/boxes.json.",
        "left out one file of pvc://data/in, image outside a label's folder: flat.png.",
    )
    put(folder / "README.md", "pets, told anew")
    assert read().digest == dataset.digest  # of what is read


def test_a_name_that_is_not_utf_8(folder: Path) -> None:
    pets(folder, "cat/1.png", "dog/1.png", os.fsdecode(b"dog/\xe9.png"))
    assert read().rows == 3
    put(folder / os.fsdecode(b"dog/\xe9.png"), "no image")
    with pytest.raises(UserError, match=r"pvc://data/in/dog/\\udce9.png is not a readable image"):
        read()


def test_labels_are_text_in_one_spelling(folder: Path) -> None:
    pets(folder, "cafe\u0301/1.png", "dog/1.png")
    assert read().target.tolist() == ["caf\u00e9", "dog"]


def test_a_folder_that_only_root_may_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder / "a.csv", CSV)
    (folder / "lost+found").mkdir()
    scan = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("lost+found"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    dataset = read(target="churned")
    assert (dataset.rows, dataset.notes) == (2, ())


# --- tables -------------------------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Put, dict[str, Any], str]] = {
    "other columns": (
        lambda at: (put(at / "a.csv", CSV), put(at / "b.csv", "age,plan,churned\n1,gold,0\n")),
        {},
        'a.csv of pvc://data/in has no column "plan", and b.csv has one; give all files of a folder the same columns, ',
    ),
    "fewer columns": (
        lambda at: (put(at / "a.csv", "age,plan,churned\n1,gold,0\n"), put(at / "b.csv", CSV)),
        {},
        'b.csv of pvc://data/in has no column "plan", and a.csv has one; ',
    ),
    "two formats": (
        lambda at: (put(at / "a.csv", CSV), put(at / "b.parquet", pd.DataFrame({"age": [1], "churned": [0]}))),
        {},
        "pvc://data/in has files of several formats: csv (a.csv), parquet (b.parquet); set data.format, or move the others away.",
    ),
    "a Delta table": (
        lambda at: (put(at / "a.parquet", b""), put(at / "_delta_log/0.json", "{}")),
        {},
        "pvc://data/in is a folder of Delta Lake, whose files hold rows that are not of the table; write the table to a folder",
    ),
    "partitions of other names": (
        lambda at: (put(at / "year=2024/a.csv", CSV), put(at / "jahr=2025/a.csv", CSV)),
        {},
        'year=2024/a.csv of pvc://data/in lies in a folder "year=...", which makes a column, and jahr=2025/a.csv lies in none such',
    ),
    "a partition and a column": (
        lambda at: put(at / "age=2024/a.csv", CSV),
        {},
        'pvc://data/in has a column "age" and lies in a folder "age=..."; rename the folder or the column.',
    ),
    "no data": (
        lambda at: put(at / ".hidden.csv", CSV),
        {},
        "pvc://data/in is a folder without files; left out: .hidden.csv (hidden).",
    ),
}


@pytest.mark.parametrize(("make", "fields", "message"), REFUSED.values(), ids=REFUSED)
def test_folders_that_are_no_table(folder: Path, make: Put, fields: dict[str, Any], message: str) -> None:
    make(folder)
    with pytest.raises(UserError) as caught:
        read(target="churned", **fields)
    assert caught.value.message.startswith(message)


def test_what_lies_beside_a_tables_files(folder: Path) -> None:
    put(folder / "part-0.parquet", pd.DataFrame({"age": [1.0, 2.0], "churned": [0, 1]}))
    for name in ("_SUCCESS", "_metadata", "_common_metadata", "README.md", ".part-0.parquet.crc"):
        put(folder / name, b"")
    dataset = read(target="churned")
    assert dataset.rows == 2
    assert dataset.notes == (
        "left out one file of pvc://data/in, hidden: .part-0.parquet.crc.",
        "left out 4 files of pvc://data/in, not of the data's format: README.md, _SUCCESS, _common_metadata, _metadata.",
    )


def test_a_declared_format_chooses_the_files(folder: Path) -> None:
    put(folder / "a.csv", CSV)
    put(folder / "b.parquet", b"")
    assert read(target="churned", format="csv").rows == 2
    (folder / "a.csv").rename(folder / "part-00000")
    (folder / "b.parquet").rename(folder / "part-00001")
    put(folder / "part-00001", CSV)
    assert read(target="churned", format="csv").rows == 4


def test_named_columns_may_be_of_files_that_differ(folder: Path) -> None:
    put(folder / "a.csv", CSV)
    put(folder / "b.csv", "churned,note,age\n1,x,3\n")
    dataset = read(target="churned", features=["age"])
    assert dataset.features["age"].tolist() == [1, 2, 3]  # type: ignore[union-attr, call-overload]


def test_parts_are_joined_and_it_is_said(folder: Path) -> None:
    put(folder / "train.csv", CSV)
    put(folder / "test.csv", CSV)
    assert read(target="churned").notes == (
        "pvc://data/in is read as one table, train.csv, test.csv together, and divided by data.split; name one of them in "
        "data.source to leave the others out.",
    )


@pytest.mark.parametrize("format_", ["csv", "parquet", "jsonl"])
def test_partitions_are_columns(folder: Path, format_: str) -> None:
    table = pd.DataFrame({"age": [1.0, 2.0], "churned": [0, 1]})
    for name in ("year=2024/month=01/plan=a%2Fb", "year=2025/month=10/plan=__HIVE_DEFAULT_PARTITION__"):
        path = folder / name / f"x.{format_}"
        put(path, table if format_ == "parquet" else CSV if format_ == "csv" else table.to_json(orient="records", lines=True))
    features = read(target="churned").features
    assert isinstance(features, pd.DataFrame)
    assert features["year"].tolist() == [2024, 2024, 2025, 2025]
    assert features["month"].tolist() == ["01", "01", "10", "10"]
    assert features["plan"].tolist() == ["a/b", "a/b", "", ""]
    assert features["age"].tolist() == [1, 2, 1, 2]
    labels = read(target="plan", features=["month"], preprocessing=[{"dropMissing": {}}])
    assert labels.target.tolist() == ["a/b", "a/b"]


# --- images -------------------------------------------------------------------------------------------------------------------


def pixel(path: Path, x: int = 4, y: int = 4) -> list[int]:
    pixels, _ = read_image(path, ONE, "it")
    return [int(value) for value in pixels[:, y, x]]


def test_transparent_pixels_are_white_whatever_colour_they_hide(tmp_path: Path) -> None:
    hidden = picture((255, 0, 0, 0), "RGBA")
    palette = picture((255, 0, 0), "RGB").quantize(4)
    for number, (image, options) in enumerate(
        [
            (hidden, {}),
            (picture((90, 0), "LA"), {}),
            (palette, {"transparency": palette.getpixel((0, 0))}),
            (picture((255, 0, 0), "RGB"), {"transparency": (255, 0, 0)}),
            (Image.fromarray(np.full((9, 9), 1000, np.uint16)), {"transparency": 1000}),
        ]
    ):
        assert pixel(put(tmp_path / f"{number}.png", image, **options)) == [255, 255, 255], (image.mode, options)
    half = put(tmp_path / "half.webp", picture((0, 0, 0, 128), "RGBA"), lossless=True)
    assert pixel(half) == [127, 127, 127]
    assert read_image(half, ImageOptions(size=8, channels=1), "it")[0].shape == (1, 8, 8)


def test_colours_of_printers_are_colours(tmp_path: Path) -> None:
    assert pixel(put(tmp_path / "1.tif", picture((0, 255, 255, 0), "CMYK"))) == [255, 0, 0]
    assert pixel(put(tmp_path / "2.png", picture(1, "1"))) == [255, 255, 255]


def test_exif_is_asked_for_nothing_but_the_orientation(tmp_path: Path) -> None:
    turned = picture(mode="RGB", size=(8, 8))
    turned.paste((255, 255, 255), (0, 0, 4, 8))
    orientation, resolution = (0x0112, 3, 1, 6), (0x011A, 2, 7, 38)  # XResolution as text
    directory = struct.pack("<HHHIIHHIII", 2, *orientation, *resolution, 0)
    path = put(tmp_path / "1.jpg", turned, exif=b"Exif\0\0II*\0" + struct.pack("<I", 8) + directory + b"72 dpi\0")
    assert pixel(path, 1, 1)[0] > 200
    assert pixel(path, 1, 6)[0] < 50
    assert pixel(put(tmp_path / "2.jpg", picture(255, size=(8, 8)), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")) == [255, 255, 255]


def test_the_first_frame_is_read_and_it_is_said(folder: Path) -> None:
    pets(folder)
    frames = [picture((255, 0, 0), "RGB"), picture((0, 255, 0), "RGB")]
    put(folder / "cat/2.gif", frames[0], save_all=True, append_images=frames[1:])
    dataset = read(image={"size": 8})
    assert dataset.features[1, :, 0, 0].tolist() == [255, 0, 0]  # type: ignore[index]
    assert dataset.notes == ("one image of pvc://data/in with several frames: the first one was read (cat/2.gif).",)


def broken(image: Image.Image, cut: int) -> bytes:
    image.save(stream := BytesIO(), "JPEG")
    return stream.getvalue()[:-cut]


def of_size(side: int) -> bytes:
    """The beginning of a PNG."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    chunks = (struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in (header, data))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


BROKEN: dict[str, tuple[bytes, str]] = {
    "cut off": (broken(Image.effect_noise((64, 64), 90), 900), "in/cat/2.png is cut off; replace or remove it."),
    "empty": (b"", "in/cat/2.png is not a readable image; replace or remove it."),
    "a bomb": (of_size(65536), "in/cat/2.png has more pixels than are read (178,956,970); shrink it, or remove it."),
    "of no size": (of_size(0), "in/cat/2.png is not a readable image; replace or remove it."),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_an_image_that_cannot_be_read_is_named(folder: Path, content: bytes, message: str) -> None:
    pets(folder)
    put(folder / "cat/2.png", content)
    with pytest.raises(UserError) as caught:
        read()
    assert caught.value.message == f"pvc://data/{message}"


@pytest.mark.parametrize(("shape", "refused"), [((6, 16, 12, 3), True), ((6, 3, 16, 16), False), ((6, 3, 16, 3), False)])
def test_arrays_with_channels_last(folder: Path, shape: tuple[int, ...], refused: bool) -> None:
    np.savez(folder / "a.npz", x=np.zeros(shape, np.float32), y=np.arange(6) % 2)
    if not refused:
        assert read().features.shape == shape
        return
    with pytest.raises(
        UserError, match=r'^array "x" of .* has shape \[6, 16, 12, 3\], as \[rows, height, .* save x.transpose\(0, 3, 1, 2'
    ):
        read()
