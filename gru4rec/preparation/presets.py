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

from dataclasses import dataclass, replace

from gru4rec.data.reading.columns import LogColumns
from gru4rec.data.reading.layouts import LAYOUTS, Layout
from gru4rec.preparation.pipeline import Rules


@dataclass(frozen=True)
class Preset:
    """The official preparation of a public log.

    Attributes:
        layout: of its files.
        rules: of its preparation, without the split.
        days: of the test, and of the validation before it, counted back from the last click ...
        test_at, valid_at: ... or where they begin, if the official boundary is a date.
        whole_seconds: truncate times to seconds.
    """

    layout: Layout
    rules: Rules
    days: float | None = None
    test_at: str | None = None
    valid_at: str | None = None
    whole_seconds: bool = False


_HOUR = 3600.0

PRESETS: dict[str, Preset] = {
    "rsc15": Preset(
        LAYOUTS["yoochoose"],
        Rules(keep_repeats=True, passes=1, length_first=True, filter_before_split=True, split_by="end"),
        days=1,
    ),
    "yoochoose": Preset(
        LAYOUTS["yoochoose"],
        Rules(filter_before_split=True, ties="number", split_by="cut"),
        days=1,
        whole_seconds=True,
    ),
    "diginetica": Preset(
        replace(
            LAYOUTS["diginetica"],
            columns=LogColumns(session="sessionId", item="itemId", time="timeframe", day="eventdate"),
        ),
        Rules(filter_before_split=True, ties="number", split_by="cut"),
        days=7,
    ),
    "retailrocket": Preset(
        LAYOUTS["retailrocket"],
        Rules(gap=_HOUR, gap_over_all=True, filter_before_split=True, ties="number", split_by="cut"),
        test_at="2015-09-11T03:00:00",
        valid_at="2015-09-04T03:00:00",
    ),
    "rees46": Preset(
        replace(
            LAYOUTS["rees46"],
            columns=LogColumns(user="user_id", item="product_id", time="event_time", event="event_type"),
        ),
        Rules(gap=_HOUR, filter_before_split=True, ties="appearance", split_by="cut"),
        test_at="2019-11-30",
        valid_at="2019-11-29",
    ),
    "coveo": Preset(
        LAYOUTS["coveo"],
        Rules(gap=_HOUR, gap_over_all=True, filter_before_split=True, ties="appearance", split_by="cut"),
        days=1,
    ),
}
