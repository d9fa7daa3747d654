"""Files in any packing, with any delimiter, header and quotes hold the same clicks, or are refused in one line."""

import bz2
import gzip
import io
import json
import lzma
import subprocess
import sys
import zipfile
from datetime import datetime
from decimal import Decimal

import polars as pl
import pyarrow
import pytest

from gru4rec.data.events import read_events
from gru4rec.data.reading.log_file import open_log_file
from gru4rec.data.reading.sources import find_sources
from inference.shared.errors import UserError

START = 1_700_000_000
ROWS = [(f"s{number // 2}", f"i{number % 3}", START + number) for number in range(8)]
NAMES = ("SessionId", "ItemId", "Time")
CSV = "\n".join([",".join(NAMES), *(",".join(map(str, row)) for row in ROWS)]) + "\n"
FRAME = pl.DataFrame(ROWS, schema=list(NAMES), orient="row")


def clicks(path) -> list[tuple]:
    """The clicks of a file, as training reads them."""
    return read_events(path).rows()


def write(folder, content: str | bytes, name: str = "log.csv"):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def zipped(**members: bytes) -> bytes:
    """A zip archive."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return archive.getvalue()


@pytest.mark.parametrize("name", ["log.csv", "log"])
@pytest.mark.parametrize(
    "pack",
    [
        gzip.compress,
        bz2.compress,
        lzma.compress,
        lambda data: zipped(log=data),
        lambda data: pyarrow.compress(data, codec="zstd", asbytes=True),
        lambda data: data.decode().encode("utf-16"),
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b"\n", b"\r\n"),
    ],
    ids=["gzip", "bzip2", "xz", "zip", "zstd", "utf-16", "byte-order mark", "Windows"],
)
def test_the_content_tells_how_a_file_is_packed(tmp_path, pack, name):
    assert clicks(write(tmp_path, pack(CSV.encode()), name)) == ROWS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped(a=b"x", b=b"y"), r"expected a zip archive of one file, found 2 \(a, b\); unpack it"),
        (zipped(**{"[Content_Types].xml": b"x", "xl/workbook.xml": b"y"}), "got a spreadsheet; save it as CSV"),
        (bz2.compress(CSV.encode() * 999)[:200], "expected a whole packed file, got an error: .* is it cut off?"),
        (lzma.compress(CSV.encode() * 999)[:200], "expected a whole packed file, got an error: .* is it cut off?"),
        (zipped(a=CSV.encode())[:100], "expected a whole packed file, got an error: .* is it cut off?"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "expected a click log .*, got a picture"),
        (b"SQLite format 3\0" + bytes(99), "expected a click log .*, got an SQLite database"),
        (gzip.compress(bytes(257) + b"ustar" + bytes(250)), "got a tar archive; unpack it and name its files"),
        (bytes(range(1, 9)) * 9 + bytes(9), "got binary data"),
    ],
    ids=["two files", "spreadsheet", "cut bzip2", "cut xz", "cut zip", "picture", "database", "tar", "bytes"],
)
def test_what_holds_no_log_is_one_line(tmp_path, content, message):
    with pytest.raises(UserError, match=message) as error:
        clicks(write(tmp_path, content))
    assert "\n" not in str(error.value)


def test_an_encrypted_archive_is_one_line(tmp_path):
    content = bytearray(zipped(log=CSV.encode()))
    for signature, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + at] |= 1  # the flag of encryption
    with pytest.raises(UserError, match="expected an archive without a password, found an encrypted one"):
        clicks(write(tmp_path, bytes(content)))


def test_standard_input_is_a_log(tmp_path):
    program = "from gru4rec.data.events import read_events; print(read_events('-').height)"
    read = subprocess.run([sys.executable, "-c", program], input=CSV.encode(), capture_output=True, check=True)
    assert read.stdout.split() == [b"8"]


def test_temporary_files_go_with_their_log(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    file = open_log_file(write(tmp_path, bz2.compress(CSV.encode())))
    assert len(list((tmp_path / "temporary").iterdir())) == 1
    assert file.frame.collect().height == 8
    del file
    assert not list((tmp_path / "temporary").iterdir())


def test_a_folder_is_read_with_its_folders_but_not_what_is_hidden(tmp_path):
    for country, rows in (("DE", FRAME[:4]), ("FR", FRAME[4:])):
        folder = tmp_path / "log" / f"country={country}"
        folder.mkdir(parents=True)
        rows.write_parquet(folder / "part-0000.parquet")
    write(tmp_path / "log", "", "_SUCCESS")
    write(tmp_path / "log", b"crc", ".part-0000.crc")
    assert clicks(tmp_path / "log") == ROWS
    files = [open_log_file(source) for source in find_sources([str(tmp_path / "log")])]
    assert [file.frame.collect()["country"].unique().to_list() for file in files] == [["DE"], ["FR"]]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"expected event files in the folder .*empty, found none"):
        find_sources([str(tmp_path / "empty")])


def test_files_may_differ_in_their_columns_and_forms(tmp_path):
    (tmp_path / "log").mkdir()
    write(tmp_path / "log", CSV[: CSV.index("s2")], "a.csv")
    FRAME[4:6].select("Time", "ItemId", pl.lit(9).alias("Price"), "SessionId").write_csv(tmp_path / "log" / "b.csv")
    FRAME[6:].write_parquet(tmp_path / "log" / "c.parquet")
    assert clicks(tmp_path / "log") == ROWS


# Delimiters, headers and quotes.


@pytest.mark.parametrize("separator", ["\t", ",", ";", "|", "::", " ", "   ", ", ", " ; "])
def test_the_delimiter_is_recognised(tmp_path, separator):
    assert clicks(write(tmp_path, CSV.replace(",", separator))) == ROWS


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\n" + CSV.replace(",", ";"),
        "# exported in 2024\n" + CSV,
        CSV.replace("SessionId,ItemId,Time", "SessionId:token,ItemId:token,Time:float"),
        CSV.replace("SessionId,ItemId,Time", " SessionId , ItemId , Time "),
        CSV.replace("Time\n", "Time,\n").replace("\ns", ",\ns").replace(",,", ",", 1),
        "".join(f"{number},{line}\n" for number, line in zip(["", *range(8)], CSV.splitlines(), strict=True)),
        CSV.replace("\n", "\n\n"),
        CSV.replace("s1", '"s1"').replace("i2", '"i2"'),
    ],
    ids=["sep=", "comment", "name:type", "blanks", "trailing", "index", "blank lines", "quoted"],
)
def test_what_is_around_the_clicks_does_not_matter(tmp_path, text):
    assert clicks(write(tmp_path, text)) == ROWS


def test_data_is_never_taken_for_a_header_and_the_named_flag_mends_it(tmp_path, capsys):
    from gru4rec.cli import main

    path = write(tmp_path, CSV.partition("\n")[2])
    with pytest.raises(
        UserError, match="the first line looks like data, not like a header: 's0,i0,1700000000'"
    ) as error:
        clicks(path)
    flag = str(error.value).rpartition("such as ")[2].split()
    assert flag == ["--columns", "session,item,time"]
    command = ["prepare", str(path), "--out", str(tmp_path / "out"), "--min-item-support", "1", "--no-valid"]
    assert main([*command, *flag]) == 0
    assert "rows: 8 read, 0 dropped, 0 blank" in capsys.readouterr().out


def test_columns_without_a_role_are_left_out(tmp_path):
    text = "".join(f"{session},x,{time},{item}\n" for session, item, time in ROWS)
    file = open_log_file(write(tmp_path, text), names=("session", "_", "time", "item"))
    assert file.frame.select("session", "item").collect().rows() == [row[:2] for row in ROWS]


@pytest.mark.parametrize("title", ['"Heroes', '12" mix', '"Weird Al" Yankovic', '"a", "b"'])
def test_a_lone_quote_swallows_no_rows(tmp_path, title):
    """In tab-separated text quotes are mostly part of the text, and need not be closed."""
    rows = [
        (session, title if number == 2 else "x", item, str(time)) for number, (session, item, time) in enumerate(ROWS)
    ]
    text = "\n".join("\t".join(row) for row in [("SessionId", "Title", "ItemId", "Time"), *rows])
    assert clicks(write(tmp_path, text)) == ROWS


def test_a_quoted_value_may_hold_delimiters_and_line_breaks_if_the_file_proves_it(tmp_path):
    titles = ["a, b", 'a "b" c', "two\nlines, and\nmore", *"abcde"]
    table = pl.DataFrame(FRAME).with_columns(Title=pl.Series(titles))
    table.select("SessionId", "Title", "ItemId", "Time").write_csv(tmp_path / "log.csv")
    assert clicks(tmp_path / "log.csv") == ROWS


def test_quotes_that_fit_neither_reading_are_refused_with_the_flag_that_reads_them(tmp_path):
    rows = [
        (session, '"x, y"' if number < 2 else "z", item, str(time)) for number, (session, item, time) in enumerate(ROWS)
    ]
    rows[4] = (rows[4][0], '"open', *rows[4][2:])
    text = "\n".join(",".join(row) for row in [("SessionId", "Title", "ItemId", "Time"), *rows])
    with pytest.raises(UserError, match=r"line 6: expected every quote \(\"\) to be closed, .*; --no-quotes reads"):
        clicks(write(tmp_path, text))


# Nested values.


@pytest.mark.parametrize(
    "nest",
    [
        lambda session, events: {
            "SessionId": session,
            "events": [{"ItemId": item, "Time": time} for item, time in events],
        },
        lambda session, events: {
            "SessionId": session,
            "ItemId": [item for item, _ in events],
            "Time": [time for _, time in events],
        },
        lambda session, events: {
            "visit": {"session": session, "clicks": [{"product": {"sku": i}, "ts": t} for i, t in events]}
        },
    ],
    ids=["objects", "lists", "deep"],
)
@pytest.mark.parametrize("form", ["lines", "array", "pretty", "parquet"])
def test_a_session_per_line_becomes_a_row_per_click(tmp_path, nest, form):
    sessions = {session: [row[1:] for row in ROWS if row[0] == session] for session, *_ in ROWS}
    objects = [nest(session, events) for session, events in sessions.items()]
    path = tmp_path / "log"
    if form == "parquet":
        pl.DataFrame(objects).write_parquet(path)
    else:
        lines = [json.dumps(value, indent=1 if form == "pretty" else None) for value in objects]
        path.write_text(f"[{','.join(lines)}]" if form == "array" else "\n".join(lines))
    assert clicks(path) == ROWS


def test_empty_sessions_have_no_rows(tmp_path):
    lines = [{"session": "a", "events": []}, {"session": "b", "events": [{"aid": 1, "ts": START}]}]
    path = write(tmp_path, "\n".join(map(json.dumps, lines)))
    assert clicks(path) == [("b", "1", START)]


def test_a_path_that_leads_nowhere_is_one_line(tmp_path):
    from inference.shared.columns import Columns

    path = write(tmp_path, json.dumps({"SessionId": 1, "Time": START, "product": {"sku": "x"}}) + "\n")
    with pytest.raises(UserError, match=r"expected one nested column 'product\.ean'"):
        read_events(path, Columns(item="product.ean"))


@pytest.mark.parametrize(
    ("role", "values", "expected"),
    [
        ("ItemId", [Decimal(7), Decimal(8)], ["7", "8"]),
        ("ItemId", [b"a", b"b"], ["a", "b"]),
        ("ItemId", [7.0, 8.0], ["7", "8"]),
        ("ItemId", pl.Series(["a", "b"], dtype=pl.Categorical), ["a", "b"]),
        ("ItemId", pl.Series([2**63, 2**63 + 1], dtype=pl.UInt64), ["9223372036854775808", "9223372036854775809"]),
        ("Time", [Decimal("1700000000.5"), Decimal("1700000001.5")], [1700000000.5, 1700000001.5]),
        ("Time", [datetime(2024, 1, 1), datetime(2024, 1, 2)], [1704067200000000, 1704153600000000]),
    ],
    ids=["decimal", "binary", "float", "dictionary", "large", "decimal time", "datetime"],
)
def test_types_that_databases_write_are_read(tmp_path, role, values, expected):
    frame = pl.DataFrame({"SessionId": ["s", "s"], "ItemId": ["a", "b"], "Time": [START, START + 1]})
    frame = frame.with_columns(pl.Series(role, values))
    for name, write_frame in (("log.parquet", frame.write_parquet), ("log.arrow", frame.write_ipc)):
        write_frame(tmp_path / name)
        read = read_events(tmp_path / name)
        assert read["item" if role == "ItemId" else "time"].to_list() == expected
