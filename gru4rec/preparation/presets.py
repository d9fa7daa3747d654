"""The public click logs as downloaded, and the official preprocessing of each.

| preset       | files                                    | sessions                       | test                     |
|--------------|------------------------------------------|--------------------------------|--------------------------|
| rsc15        | yoochoose-clicks.dat                     | given                          | that end in the last day |
| yoochoose    | yoochoose-clicks.dat, yoochoose-test.dat | given                          | the last day             |
| diginetica   | train-item-views.csv                     | given                          | the last 7 days          |
| retailrocket | events.csv                               | visitors, cut at pauses of 1 h | 7 days to 2015-09-18 3 h |
| rees46       | 2019-Oct.csv, 2019-Nov.csv               | users, cut at pauses of 1 h    | 2019-11-30               |
| coveo        | the one file of browsing events          | given, cut at pauses of 1 h    | the last day             |

All filter the whole log before the split. rsc15 keeps repeats and filters in one pass. The others drop consecutive
repeats, filter until nothing changes, cut sessions at the boundary, and order clicks of the same time by item.
`--no-valid` gives the official full training part; otherwise a validation part as long as the test is split off it. The
official test and validation files also hold items that training lacks; evaluation ignores them, so they are dropped.
"""

from dataclasses import dataclass

from gru4rec.preparation.columns import RawColumns
from gru4rec.preparation.pipeline import Rules


@dataclass(frozen=True)
class Preset:
    """A public log.

    Attributes:
        columns: which of its columns is which.
        rules: of its preparation, without the split.
        days: of the test, and of the validation before it, counted back from the last click ...
        test_at, valid_at: ... or where they begin, if the official boundary is a date.
        names: of the first columns of files without a header.
        delimiter: of its files.
        event_kinds: to keep.
        time_format: of its times.
        whole_seconds: truncate times to seconds.
    """

    columns: RawColumns
    rules: Rules
    days: float | None = None
    test_at: str | None = None
    valid_at: str | None = None
    names: tuple[str, ...] = ()
    delimiter: str | None = ","
    event_kinds: tuple[str, ...] = ()
    time_format: str = "auto"
    whole_seconds: bool = False


_HOUR = 3600.0
_YOOCHOOSE = RawColumns(session="SessionId", item="ItemId", time="Time")
_YOOCHOOSE_NAMES = ("SessionId", "Time", "ItemId")

PRESETS: dict[str, Preset] = {
    "rsc15": Preset(
        _YOOCHOOSE,
        Rules(keep_repeats=True, passes=1, length_first=True, filter_before_split=True, split_by="end"),
        days=1,
        names=_YOOCHOOSE_NAMES,
        time_format="iso",
    ),
    "yoochoose": Preset(
        _YOOCHOOSE,
        Rules(filter_before_split=True, ties="number", split_by="cut"),
        days=1,
        names=_YOOCHOOSE_NAMES,
        time_format="iso",
        whole_seconds=True,
    ),
    "diginetica": Preset(
        RawColumns(session="sessionId", item="itemId", time="timeframe", day="eventdate"),
        Rules(filter_before_split=True, ties="number", split_by="cut"),
        days=7,
        delimiter=";",
    ),
    "retailrocket": Preset(
        RawColumns(user="visitorid", item="itemid", time="timestamp", event="event"),
        Rules(gap=_HOUR, gap_over_all=True, filter_before_split=True, ties="number", split_by="cut"),
        test_at="2015-09-11T03:00:00",
        valid_at="2015-09-04T03:00:00",
        event_kinds=("view",),
        time_format="ms",
    ),
    "rees46": Preset(
        RawColumns(user="user_id", item="product_id", time="event_time", event="event_type"),
        Rules(gap=_HOUR, filter_before_split=True, ties="appearance", split_by="cut"),
        test_at="2019-11-30",
        valid_at="2019-11-29",
        event_kinds=("view",),
        time_format="iso",
    ),
    "coveo": Preset(
        RawColumns(
            session="session_id_hash",
            item="product_skus_hash",
            time="server_timestamp_epoch_ms",
            event="product_action",
        ),
        Rules(gap=_HOUR, gap_over_all=True, filter_before_split=True, ties="appearance", split_by="cut"),
        days=1,
        event_kinds=("detail",),
        time_format="ms",
    ),
}
