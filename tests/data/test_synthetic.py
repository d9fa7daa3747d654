"""Synthetic logs look like real ones: Zipf-like items, order that matters, repeatable."""

import numpy as np
import polars as pl
import pytest

from gru4rec.data.synthetic import synthesize
from inference.shared.errors import UserError


def pairs_of(log: pl.DataFrame) -> pl.DataFrame:
    following = pl.col("ItemId").shift(-1).over("SessionId", order_by="Time")
    return log.select("ItemId", following.alias("next")).drop_nulls()


def test_size_and_columns_are_as_asked():
    log = synthesize(20_000, 500, seed=1)
    assert log.columns == ["SessionId", "ItemId", "Time"]
    assert 20_000 <= log.height < 20_200
    assert 400 < log["ItemId"].n_unique() <= 500
    assert log["Time"].is_sorted()
    assert log["Time"].dtype == pl.Int64


def test_same_seed_same_log_other_seed_another():
    assert synthesize(1000, 50, seed=1).equals(synthesize(1000, 50, seed=1))
    assert not synthesize(1000, 50, seed=1).equals(synthesize(1000, 50, seed=2))


def test_popularity_is_concentrated_and_hidden_from_the_ids():
    log = synthesize(50_000, 1000)
    counts = log["ItemId"].value_counts().sort("count", descending=True)
    assert 0.25 < counts["count"][:100].sum() / log.height < 0.8  # the most popular tenth
    number = counts["ItemId"].str.extract(r"(\d+)").cast(pl.Int64).to_numpy()
    assert abs(np.corrcoef(number, np.arange(len(number)))[0, 1]) < 0.15


def test_order_of_clicks_predicts_the_next_one_far_better_than_popularity():
    pairs = pairs_of(synthesize(100_000, 1000))
    train, test = pairs[: pairs.height * 9 // 10], pairs[pairs.height * 9 // 10 :]
    popular = train["next"].value_counts().sort("count", descending=True)["next"][:20]
    successors = train.group_by("ItemId", "next").len().sort("len", descending=True).group_by("ItemId").head(20)
    markov = test.join(successors, on=["ItemId", "next"], how="inner").height / test.height
    assert markov > 0.4 > 3 * test["next"].is_in(popular.implode()).mean()


def test_sessions_end_and_overlap_in_time():
    log = synthesize(20_000, 500)
    lengths = log.group_by("SessionId").len()["len"]
    assert lengths.min() >= 2
    assert 4 < lengths.mean() < 7
    assert lengths.max() > 20
    spans = log.group_by("SessionId").agg(pl.col("Time").min().alias("a"), pl.col("Time").max().alias("b")).sort("a")
    assert (spans["a"][1:] < spans["b"][:-1]).any()


def test_too_small_a_log_is_refused():
    with pytest.raises(UserError, match="at least 10 events and 10 items"):
        synthesize(5, 50)
