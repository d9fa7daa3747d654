"""Columns are recognised by the names that people use."""

import pytest

from gru4rec.data.reading.columns import KNOWN_NAMES, LogColumns, recognise
from gru4rec.data.reading.log_file import open_log_file
from gru4rec.data.reading.roles import choose_columns
from inference.shared.errors import UserError


@pytest.mark.parametrize("role", KNOWN_NAMES)
@pytest.mark.parametrize("write", [str, str.upper, lambda name: f" {name}_", lambda name: f"event.context.{name}"])
def test_known_names_are_recognised_however_they_are_written(role, write):
    for name in KNOWN_NAMES[role]:
        assert recognise([write("colour"), write(name)], role) == write(name)


def test_at_least_forty_spellings_are_known():
    assert len({name for names in KNOWN_NAMES.values() for name in names}) >= 40


def test_a_name_is_of_one_role_only():
    names = [name for names in KNOWN_NAMES.values() for name in names]
    assert len(names) == len(set(names))


def test_the_likeliest_name_wins_and_a_plain_one_before_a_nested_one():
    assert recognise(["ts", "timestamp", "time"], "time") == "time"
    assert recognise(["event.item_id", "sku"], "item") == "sku"


def test_sessions_are_taken_before_users_unless_users_are_asked_for(tmp_path):
    (tmp_path / "log.csv").write_text("user_id,session_id,item_id,time\nu,s,i,1700000000\n")
    file = open_log_file(tmp_path / "log.csv")
    assert choose_columns(file, LogColumns()).group_role == "session"
    assert choose_columns(file, LogColumns(), by_user=True).group_role == "user"
    with pytest.raises(UserError, match="got both the session column 'session_id' and the user column 'user_id'"):
        choose_columns(file, LogColumns(session="session_id", user="user_id"))


def test_rows_in_order_need_no_time(tmp_path):
    (tmp_path / "log.csv").write_text("session_id,item_id\ns,i\n")
    file = open_log_file(tmp_path / "log.csv")
    with pytest.raises(
        UserError, match=r"expected one time column, .* \(or --time-column none if the rows are in order\)"
    ):
        choose_columns(file, LogColumns())
    assert choose_columns(file, LogColumns(time="none")).time is None
