"""CSV files: hostile text is read the same by both readers, or refused by both; what is no table is told with its line."""

from __future__ import annotations

import gzip
import io
import math
import re

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelship_trainer.csv_rows import CsvError, Dialect, rows_of
from modelship_trainer.data import csv_table
from modelship_trainer.data.csv_table import header_of, read_columns
from modelship_trainer.values import number_of

pytestmark = pytest.mark.unit

MALFORMED = {
    b"": "it has no line; the first must name the columns",
    b"\n\r\n": "it has no line; the first must name the columns",
    b"a,b\n1,2\n3\n4,5\n": "line 3 has 1 cell, and the header has 2; quote cells .*",
    b"a,b\n1,2\n3,4,5\n": "line 3 has 3 cells, and the header has 2; quote cells .*",
    b'a,b\n"x\ny",2\n3\n': "line 4 has 1 cell, .*",
    b"a,b\n1,2\n\n\n3\n": "line 5 has 1 cell, .*",
    b"a,b\n1,2\n3": "line 3 has 1 cell, and .* 2; it is the last and has no line break: the file was cut, copy it again",
    b'a,b\n1,2\n3,"x\n4,5\n6,7\n': "line 3 opens a quote that is not closed; .*",
    b'a,b\n3,"x\n4,"y"\n6,7\n': "the row at line 2 has text after a closing quote; .*",
    b'a,b\n"x" ,2\n': "the row at line 2 has text after a closing quote; .*",
    b"a,b\n1,2\na,b\n3,4\n": "line 3 is the header again; remove it",
    b"a,b\n1,2\x00\n": "line 2 has a NUL character, .*",
    b"a,b\n\xe9t\xe9,2\n": "it is not UTF-8 text, and has the byte 0xe9; save it as UTF-8, or set data.csv.encoding, .*",
    b"a;b\n1;2\n1,5;2\n": 'line 3 .*; its header is the one column "a;b": cells must be separated by commas, .* data.csv.separator',
}


@pytest.mark.parametrize("content", MALFORMED, ids=repr)
def test_what_is_no_table_is_told(tmp_path, content):
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(CsvError, match=f"^{MALFORMED[content]}$"):
        list(rows_of(io.BytesIO(content)))
    with pytest.raises(CsvError, match=f"^{MALFORMED[content]}$"):  # both ways of reading
        read_columns(tmp_path / "x.csv", header_of(tmp_path / "x.csv", Dialect()), set(), Dialect())


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"a,b\r1,2\r3,4", [["1", "2"], ["3", "4"]]),
        (b"a,b\r\n1,2\n\n3,4\r\n\r\n", [["1", "2"], ["3", "4"]]),
        (b'a,b\n"was\ngood","x\r\ny"\n', [["was\ngood", "x\r\ny"]]),
        ("a,b\nx\u2028y,1\x85\x0c\x1c\n".encode(), [["x\u2028y", "1\x85\x0c\x1c"]]),
        (b'a,b\n5" pipe,"say ""hi"""\n', [['5" pipe', 'say "hi"']]),
        (b"\xef\xbb\xbfa,b\n1,2\n", [["1", "2"]]),
        (b'a,b\n"",\n', [["", ""]]),
        (b"a\na\n\nb\n", [["a"], ["b"]]),
        (b"a,b\n" + b"x" * 200_000 + b",1\n", [["x" * 200_000, "1"]]),
        (b"a,b\nNA, nan\n", [["NA", " nan"]]),
    ],
)
def test_cells_are_what_the_file_says(tmp_path, content, rows):
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    header, *found = rows_of(io.BytesIO(content))
    assert found == rows
    assert cells(read_columns(path, header, set(header), Dialect())) == rows


def cells(frame: pd.DataFrame) -> list[list[str]]:
    return [
        ["" if cell is None or cell is pd.NA or cell != cell else cell for cell in row] for row in frame.itertuples(index=False)
    ]


HOSTILE = st.lists(
    st.sampled_from(["a", "1", ".", "-", "e", '"', '""', ",", ";", "\n", "\r", "\r\n", " ", "\t", "é", "\u2028", "\x85", "'"]),
    max_size=60,
).map("".join)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("csv") / "x.csv"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(HOSTILE, st.sampled_from([Dialect(), Dialect(";"), Dialect(quote="'"), Dialect(quote=None)]))
def test_both_readers_read_the_same(path, monkeypatch, body, dialect):
    """Small parts, so that quotes and line breaks lie across their ends."""
    monkeypatch.setattr(csv_table, "_CHUNK", 7)
    content = f"x{dialect.separator}y\n{body}".encode()
    path.write_bytes(content)
    try:
        header, *rows = rows_of(io.BytesIO(content), dialect)
    except CsvError as error:
        with pytest.raises(CsvError, match=f"^{re.escape(str(error))}$"):
            read_columns(path, header_of(path, dialect), set(), dialect)
        return
    assert header_of(path, dialect) == header
    assert cells(read_columns(path, header, set(header), dialect)) == rows
    numbers = read_columns(path, header, set(), dialect)
    for place, name in enumerate(header):
        column = [row[place] for row in rows]
        try:
            wanted = [number_of(cell) if cell else math.nan for cell in column]
        except ValueError:
            assert cells(numbers[[name]]) == [[cell] for cell in column]
        else:
            assert numbers[name].tolist() == pytest.approx(wanted, nan_ok=True, rel=0, abs=0)


WELL_FORMED = st.lists(
    st.tuples(st.text(st.sampled_from('ab",\n\r é'), max_size=8), st.floats(allow_nan=False)), min_size=1, max_size=30
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(WELL_FORMED)
def test_what_pandas_writes_is_read_by_the_fast_reader(path, monkeypatch, rows):
    monkeypatch.setattr(csv_table, "_CHUNK", 96)
    monkeypatch.setattr(csv_table, "_slow", lambda *_: pytest.fail("the slow reader was needed"))
    frame = pd.DataFrame({"text": [f'"{text}' for text, _ in rows], "number": [number for _, number in rows]})
    frame.to_csv(path, index=False)
    read = read_columns(path, ["text"], {"text"}, Dialect())
    assert read["text"].tolist() == frame["text"].tolist()


@pytest.mark.parametrize("first", [1, 20_000])
def test_a_column_is_text_wherever_its_first_word_is(tmp_path, first):
    """Cells that were taken for numbers are read again: they stay what the file says."""
    rows = ["007"] * first + ["x"]
    (tmp_path / "x.csv").write_text("a,b\n" + "".join(f"{cell},01\n" for cell in rows))
    read = read_columns(tmp_path / "x.csv", ["b", "a"], set(), Dialect())
    assert read["a"].tolist() == rows
    assert read["b"].tolist() == [1.0] * len(rows)


def test_long_whole_numbers_stay_apart(tmp_path):
    (tmp_path / "x.csv").write_text("a\n9007199254740992\n9007199254740993\n1\n")
    assert read_columns(tmp_path / "x.csv", ["a"], set(), Dialect())["a"].tolist() == [2**53, 2**53 + 1, 1]


def test_decimal_commas_and_other_encodings(tmp_path):
    content = "größe;n\nÄ;1,5\nö;-2\n"
    for encoding in ("latin-1", "utf-16", "utf-8"):
        (tmp_path / "x.csv").write_bytes(content.encode(encoding))
        dialect = Dialect(";", encoding=encoding)
        assert header_of(tmp_path / "x.csv", dialect) == ["größe", "n"]
        read = read_columns(tmp_path / "x.csv", ["größe", "n"], set(), dialect, ",")
        assert read["größe"].tolist() == ["Ä", "ö"]
        assert read["n"].tolist() == [1.5, -2]
        assert read_columns(tmp_path / "x.csv", ["n"], set(), dialect)["n"].tolist() == ["1,5", "-2"]


def test_compressed_files(tmp_path):
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(b'a,b\n"x, y",2\n'))
    assert read_columns(tmp_path / "x.csv.gz", ["a", "b"], set(), Dialect()).to_numpy().tolist() == [["x, y", 2]]
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n" * 99)[:30])
    with pytest.raises(EOFError):
        read_columns(tmp_path / "x.csv.gz", ["a"], set(), Dialect())
