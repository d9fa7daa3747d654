"""Encoded logs: the same training from mapped arrays, which are refused if the parquet next to them has changed."""

import json

import numpy as np
import polars as pl
import pytest

from gru4rec.cli import main
from gru4rec.data.encoded_log import read_training_log
from gru4rec.data.events import encode, read_events
from gru4rec.data.synthetic import synthesize
from inference.shared.columns import Columns
from inference.shared.errors import UserError
from tune.trials.data import read_search_data

TRAINING = ("--layers", "8", "--n-sample", "16", "--batch-size", "8", "--n-epochs", "1")


@pytest.fixture
def folder(tmp_path):
    """A prepared folder whose log has interleaved sessions, in another order than that of their first clicks."""
    log = synthesize(3000, 60, seed=3).sample(fraction=1.0, shuffle=True, seed=1)
    log.write_parquet(tmp_path / "log.parquet")
    assert main(["prepare", str(tmp_path / "log.parquet"), "--out", str(tmp_path / "out"), "--keep-repeats"]) == 0
    return tmp_path / "out"


def test_encoded_log_is_that_of_the_parquet_beside_it(folder):
    mapped, read = read_training_log(folder), encode(read_events(folder))
    assert isinstance(mapped.sessions.items, np.memmap)
    assert mapped.vocabulary == read.vocabulary
    np.testing.assert_array_equal(mapped.sessions.items, read.sessions.items)
    np.testing.assert_array_equal(mapped.sessions.offsets, read.sessions.offsets)
    assert (mapped.sessions.items.dtype, mapped.sessions.offsets.dtype) == (np.int32, np.int64)


@pytest.mark.slow
def test_training_on_the_folder_and_on_its_parquet_file_gives_the_same_model(folder, tmp_path):
    for train, out in ((folder, "of-folder"), (folder / "train.parquet", "of-file")):
        assert (
            main(["train", "--train", str(train), "--valid", str(folder), "--out", str(tmp_path / out), *TRAINING]) == 0
        )
    metrics = [json.loads((tmp_path / out / "metrics.json").read_text()) for out in ("of-folder", "of-file")]
    assert metrics[0]["data_sha256"] == metrics[1]["data_sha256"]
    for file in (tmp_path / "of-folder").glob("epoch-*/*.npy"):
        assert file.read_bytes() == (tmp_path / "of-file" / file.parent.name / file.name).read_bytes()


def test_search_reads_the_folder_as_it_reads_its_parquet_file(folder):
    columns = Columns()
    of_folder, of_file = (read_search_data(path, None, None, columns) for path in (folder, folder / "train.parquet"))
    assert of_folder.sha256 == of_file.sha256
    assert isinstance(of_folder.everything.sessions.items, np.memmap)


def test_changed_parquet_is_noticed_before_training(folder, tmp_path, capsys):
    pl.read_parquet(folder / "train.parquet").head(100).write_parquet(folder / "train.parquet")
    assert main(["train", "--train", str(folder), "--out", str(tmp_path / "model"), *TRAINING]) == 2
    error = capsys.readouterr().err
    assert "expected the encoded form of the train.parquet next to it, which has changed; remove" in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("name", ["items.npy", "offsets.npy", "vocabulary.txt", "encoded.json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "foreign"])
def test_damaged_encoded_log_is_one_line(folder, name, damage):
    file = folder / "encoded" / name
    content = file.read_bytes()
    if damage == "gone" and name == "encoded.json":
        file.unlink()
        assert read_training_log(folder).sessions.n_clicks  # then it is none, and the parquet is read
        return
    file.unlink() if damage == "gone" else file.write_bytes(content[:-9] if damage == "cut" else b"foreign\n" * 9)
    with pytest.raises(UserError, match="expected an encoded log, got an error") as error:
        read_training_log(folder)
    assert "\n" not in str(error.value)


def test_other_column_names_are_looked_for_in_the_parquet(folder):
    with pytest.raises(UserError, match="expected one item column 'Thing'"):
        read_training_log(folder, Columns(item="Thing"))
