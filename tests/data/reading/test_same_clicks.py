"""One log gives the same clicks in every layout, packing, notation of time and order of columns."""

import bz2
import gzip
import json
import lzma
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gru4rec.data.events import encode, read_events

START = 1_700_000_000
TIMES = {
    "seconds": str,
    "milliseconds": lambda time: str(1000 * time),
    "iso": lambda time: f"{datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H:%M:%SZ}",
    "sql": lambda time: f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S}",
    "digits": lambda time: f"{datetime.fromtimestamp(time, UTC):%Y%m%d%H%M%S}",
    "mail": lambda time: f"{datetime.fromtimestamp(time, UTC):%a, %d %b %Y %H:%M:%S} GMT",
}
PACKINGS = {"plain": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}
FORMS = ("\t", ",", ";", "|", "::", "json", "json array", "parquet")
IDS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters='",;|:[]{}#='), min_size=1)


@pytest.mark.fuzz
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    clicks=st.lists(st.tuples(st.integers(0, 4), IDS), min_size=2, max_size=12),
    form=st.sampled_from(FORMS),
    packing=st.sampled_from(list(PACKINGS)),
    notation=st.sampled_from(list(TIMES)),
    columns=st.permutations(["SessionId", "ItemId", "Time", "Price"]),
)
def test_layout_packing_and_column_order_do_not_matter(tmp_path, clicks, form, packing, notation, columns):
    times = [START + 61 * place for place in range(len(clicks))]
    rows = [
        {"SessionId": f"s{session}", "ItemId": f"i{item}", "Time": TIMES[notation](time), "Price": "9.5"}
        for (session, item), time in zip(clicks, times, strict=True)
    ]
    path = tmp_path / "log"
    if form == "parquet":
        pl.DataFrame(rows).select(columns).write_parquet(path)
    else:
        if form.startswith("json"):
            objects = [json.dumps({name: row[name] for name in columns}) for row in rows]
            text = "\n".join(objects) if form == "json" else f"[{','.join(objects)}]"
        else:
            lines = [[f'"{row[name]}"' if form in row[name] else row[name] for name in columns] for row in rows]
            text = "\n".join(form.join(cells) for cells in [columns, *lines])
        path.write_bytes(PACKINGS[packing](text.encode()))
    read = read_events(path)
    assert read.select("session", "item").rows() == [(row["SessionId"], row["ItemId"]) for row in rows]
    assert read["time"].is_sorted()
    assert encode(read).sessions.n_clicks == len(rows)
