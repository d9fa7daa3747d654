"""One object from clicks of any kind to recommendations."""

import duckdb
import pandas as pd
import polars as pl
import pytest

from gru4rec import GRU4Rec, evaluate, load_model
from gru4rec.data.events import encode, read_events
from gru4rec.data.synthetic import synthesize
from inference import Recommender
from inference.shared.errors import UserError

QUICK = {"layers": (8,), "n_sample": 16, "batch_size": 16, "n_epochs": 1, "device": "cpu"}
FRAME = synthesize(600, 20, seed=1)


def lists_of(frame: pl.DataFrame) -> list[list[str]]:
    """The sessions as lists of item ids, in the order of time."""
    sessions = frame.sort("Time", maintain_order=True).group_by("SessionId", maintain_order=True).agg("ItemId")
    return sessions["ItemId"].to_list()


@pytest.fixture(scope="module")
def fitted():
    return GRU4Rec(**QUICK).fit(FRAME)


@pytest.mark.parametrize("kind", ["pandas", "polars", "lazy", "arrow", "duckdb", "path", "lists"])
def test_every_kind_of_clicks_gives_the_same_model(tmp_path, fitted, kind):
    frame = FRAME.rename({"ItemId": "sku", "SessionId": "visit"})
    columns = {}
    if kind == "duckdb":
        duckdb.register("clicks", frame.to_arrow())
        clicks = duckdb.sql("select * from clicks")
    elif kind == "path":
        clicks = tmp_path / "clicks.parquet"
        frame.write_parquet(clicks)
        columns = {"item": "sku", "session": "visit"}
    elif kind == "lists":
        clicks = lists_of(FRAME)
    else:
        clicks = {"pandas": frame.to_pandas, "polars": frame.clone, "lazy": frame.lazy, "arrow": frame.to_arrow}[kind]()
    model = GRU4Rec(**QUICK).fit(clicks, **columns)
    sessions = [["item-07", "item-11"], ["item-03"]]
    assert model.recommend(sessions, k=5) == fitted.recommend(sessions, k=5)


def test_integers_are_ids_as_text_is():
    numbers = FRAME.with_columns(pl.col("ItemId").str.slice(5).cast(pl.Int64))
    model = GRU4Rec(**QUICK).fit(numbers)
    assert model.recommend([[7, 11]], k=3) == model.recommend([["7", "11"]], k=3)


def test_it_does_what_the_functions_behind_it_do(tmp_path, fitted):
    test = synthesize(200, 20, seed=2)
    log = encode(read_events(test), fitted.model_.vocabulary).sessions
    assert fitted.evaluate(test) == evaluate(fitted.model_.network, log)
    fitted.export(tmp_path / "model.onnx")
    exported = Recommender.load(tmp_path / "model.onnx")
    assert exported.recommend([["item-03"]], k=4) == fitted.recommend([["item-03"]], k=4)


def test_a_model_directory_is_loaded(tmp_path):
    model = GRU4Rec(**QUICK).fit(FRAME, directory=tmp_path / "model", valid=0.2)
    assert load_model(tmp_path / "model").metrics == model.model_.metrics
    loaded = GRU4Rec.load(tmp_path / "model")
    assert loaded.recommend([["item-03"]], k=4) == model.recommend([["item-03"]], k=4)
    assert loaded.get_params()["layers"] == (8,)


def test_training_starts_from_another_model_and_is_validated(tmp_path):
    GRU4Rec(**QUICK).fit(FRAME, directory=tmp_path / "model")
    valid = synthesize(200, 20, seed=2)
    model = GRU4Rec(**QUICK).fit(FRAME, init=tmp_path / "model", valid=valid)
    assert model.model_.metrics["history"][0]["recall@20"] > 0


def test_the_habits_of_scikit_learn():
    model = GRU4Rec(loss="bpr-max", bpreg=0.5, **QUICK)
    copy = GRU4Rec(**model.get_params())  # as its clone() does
    assert copy.get_params() == model.get_params()
    assert copy.set_params(n_sample=0) is copy
    assert (copy.get_params()["n_sample"], model.get_params()["n_sample"]) == (0, 16)
    whole = GRU4Rec(batching="whole-session")
    assert GRU4Rec(**whole.get_params()).get_params() == whole.get_params()
    assert repr(GRU4Rec(loss="bpr")) == "GRU4Rec(loss='bpr')"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GRU4Rec(n_samples=5), "unknown parameter 'n_samples'; available: batch_size"),
        (lambda: GRU4Rec(n_sample=-1), "n_sample: expected"),
        (lambda: GRU4Rec().recommend([["a"]]), "expected a trained model; call fit first"),
        (lambda: GRU4Rec().fit(5), "expected clicks as a path, a data frame, or a list of sessions, got int"),
        (lambda: GRU4Rec().fit(["a", "b"]), "expected each session as a list of item ids, got 'a'"),
        (lambda: GRU4Rec().fit(pd.DataFrame({"x": [1]})), "the DataFrame: expected one session column"),
    ],
)
def test_wrong_use_is_one_line(call, message):
    with pytest.raises(UserError, match=message):
        call()
