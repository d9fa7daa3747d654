"""Whatever bytes a reader is given, it makes something valid of them or says in one line why it cannot.

Files are damaged rather than invented: a valid one with bits turned, pieces removed, doubled, and replaced by what
readers tend to stumble over. Examples of defects that were found in this way are kept with each test.
"""

import gzip
import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gru4rec.cli import main
from gru4rec.config.files import parse_config, read_config, to_toml
from gru4rec.config.train_config import TrainConfig, from_mapping, to_mapping
from gru4rec.data.encoded_log import read_training_log
from gru4rec.data.events import encode, read_events
from gru4rec.data.sessions import EncodedLog
from gru4rec.data.synthetic import synthesize
from gru4rec.training.run import train
from inference.files.sessions import FORMATS, read_sessions
from inference.files.table import group_rows
from inference.files.text import read_ids
from inference.model.artifact import Artifact
from inference.model.candidates import Candidates
from inference.model.recommender import Recommender
from inference.shared.errors import UserError
from inference.streaming.states import SessionStates
from tests.support.tiny_models import random_weights, save_model
from tune.outcome.folder import Identity, Round, SearchState, read_state, write_state
from tune.space.builder import build_space
from tune.space.dimensions import choice, read_dimension, span

pytestmark = pytest.mark.fuzz

TRAPS = [
    *(
        b'"',
        b",",
        b"\t",
        b"\n",
        b"\r",
        b"\0",
        b"{",
        b"}",
        b"[",
        b"]",
        b"(",
        b"'",
        b"=",
        b"#",
        b"..",
        b":log",
        b"\\ud800",
    ),
    *(b"-1", b"0", b"1e400", b"nan", b"inf", b"true", b"null", b"9" * 25, b"9" * 5000),
    *(b"\xff", b"\xef\xbb\xbf", b"\x1f\x8b", b"PAR1", b"\xff" * 8, b"\x7f\xff\xff\xff", b"\x80\xff\xff\xff\xff\x7f"),
    *(b"[" * 3000, b'{"a":' * 3000, b"-" * 3000, b"2024-01-01", b"25126-03-10T02:58:58", b"SessionId", b"Time"),
]
DAMAGE = st.lists(
    st.tuples(
        st.sampled_from(["turn", "remove", "insert", "replace", "double", "end"]),
        st.floats(0, 1, allow_nan=False),
        st.integers(1, 40),
        st.sampled_from(TRAPS) | st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=4,
)
"""What is done to a file, one thing after the other: how, where (a share of its length), how far, and with what."""


def damaged(content: bytes, damage: list[tuple[str, float, int, bytes]]) -> bytes:
    for how, share, length, trap in damage:
        place = int(share * len(content))
        before, piece, after = content[:place], content[place : place + length], content[place + length :]
        if how == "turn" and piece:
            piece = bytes([piece[0] ^ (1 << length % 8)]) + piece[1:]
        content = {
            "turn": before + piece + after,
            "remove": before + after,
            "insert": before + trap + piece + after,
            "replace": before + trap + after,
            "double": before + piece + piece + after,
            "end": before,
        }[how]
    return content


def fuzzed(max_examples):
    return settings(
        deadline=None,
        derandomize=True,
        max_examples=max_examples,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def valid_or_one_line(read, *arguments):
    """What was read, None where the user is told what is wrong; anything else escapes and fails the test."""
    try:
        return read(*arguments)
    except UserError as error:
        message = str(error)
    assert message.strip()
    assert len(message.splitlines()) == 1
    return None


CSV = b"SessionId,ItemId,Time\n" + b"".join(
    b"s%d,i%d,%d\n" % (row // 4, row % 7, 1_700_000_000 + row) for row in range(40)
)
TSV = b'SessionId\tItemId\tTime\ns1\ta\t2024-01-01 10:00:00\ns1\tb\t2024-01-01 10:00:05\ns2\t"q""x"\t2024-01-02 10:00\n'
JSON = b"".join(b'{"SessionId": "s%d", "ItemId": %d, "Time": %d.5}\n' % (row // 4, row % 5, row) for row in range(12))


def parquet_of(frame, compression):
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression=compression)
    return buffer.getvalue()


NUMBERS = pl.read_csv(CSV)
PARQUET = [
    parquet_of(NUMBERS, "uncompressed"),
    parquet_of(NUMBERS.with_columns(pl.from_epoch("Time")), "uncompressed"),
    parquet_of(NUMBERS.with_columns(pl.col("ItemId").cast(pl.Categorical), pl.col("Time").cast(pl.Float64)), "zstd"),
]
LOGS = {".csv": CSV, ".tsv": TSV, ".jsonl": JSON, "": CSV, ".csv.gz": gzip.compress(CSV, mtime=0)}


@fuzzed(60)
@given(suffix=st.sampled_from(list(LOGS)), damage=DAMAGE)
def test_a_damaged_log_is_events_or_one_line(tmp_path, suffix, damage):
    path = tmp_path / f"log{suffix}"
    path.write_bytes(damaged(LOGS[suffix], damage))
    valid_or_one_line(lambda: encode(read_events(path)))


@fuzzed(60)
@given(content=st.sampled_from(PARQUET), damage=DAMAGE)
@example(content=PARQUET[0].replace(b"s0", b"s0\xff\xff"), damage=[])
def test_a_damaged_parquet_log_is_events_or_one_line(tmp_path, content, damage):
    path = tmp_path / "log.parquet"
    path.write_bytes(damaged(content, damage))
    valid_or_one_line(lambda: encode(read_events(path)))


def prepared(path, out, *flags):
    """Prepare a log; a mistake has to end in one line and to leave nothing."""
    said = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(said):
        code = main(["prepare", str(path), "--out", str(out), *flags])
    lines = [line for line in said.getvalue().splitlines() if not line.startswith("warning: ")]
    if code == 0:
        read_training_log(out)
        for file in sorted(out.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
    else:
        assert code == 2
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
    assert not list(out.glob("*"))
    assert not list(out.parent.glob(".*"))


@fuzzed(40)
@given(
    log=st.sampled_from([*LOGS.items(), *((".parquet", content) for content in PARQUET)]),
    flags=st.sampled_from([(), ("--session-gap", "5"), ("--time-format", "s"), ("--min-item-support", "1")]),
    damage=DAMAGE,
)
def test_a_damaged_raw_log_is_prepared_or_one_line(tmp_path, log, flags, damage):
    suffix, content = log
    path = tmp_path / f"log{suffix}"
    path.write_bytes(damaged(content, damage))
    prepared(path, tmp_path / "out", *flags)


@pytest.mark.parametrize("moment", [10**18, 2**63 - 1, -(2**62)])
def test_a_moment_that_no_calendar_holds_is_one_line(tmp_path, moment):
    path = tmp_path / "log.parquet"
    moments = NUMBERS.with_columns(pl.Series("Time", [moment, *range(1, 40)]).cast(pl.Datetime("us")))
    moments.write_parquet(path)
    prepared(path, tmp_path / "out")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A prepared log in data/, a model of it in model/, and a search's state."""
    folder = tmp_path_factory.mktemp("folder")
    synthesize(400, 20, seed=1).write_parquet(folder / "log.parquet")
    with redirect_stdout(io.StringIO()):
        assert main(["prepare", str(folder / "log.parquet"), "--out", str(folder / "data")]) == 0
    train(read_training_log(folder / "data"), QUICK, directory=folder / "model")
    state = SearchState(Identity("abc", {"a": 1}, {"b": 2}, {"torch": "1"}), (Round(3, True),))
    write_state(folder, state)
    return folder


QUICK = TrainConfig(layers=(8,), n_sample=8, batch_size=16, n_epochs=1)


def read_damaged(file, damage, read):
    """What is read while a file is damaged."""
    whole = file.read_bytes()
    try:
        file.write_bytes(damaged(whole, damage))
        return valid_or_one_line(read)
    finally:
        file.write_bytes(whole)


@fuzzed(60)
@given(name=st.sampled_from(["items.npy", "offsets.npy", "vocabulary.txt", "encoded.json"]), damage=DAMAGE)
@example(name="items.npy", damage=[("replace", 0.5, 4, b"\x7f\xff\xff\xff")])  # an item that there is not
@example(name="items.npy", damage=[("insert", 0.02, 1, b"(")])  # a header that cannot be parsed
@example(name="items.npy", damage=[("insert", 0.035, 1, b"9" * 25)])  # more clicks than memory has addresses
@example(name="encoded.json", damage=[("insert", 0, 1, b"[" * 3000)])
def test_a_damaged_encoded_log_is_whole_or_one_line(folder, name, damage):
    log = read_damaged(folder / "data" / "encoded" / name, damage, lambda: read_training_log(folder / "data"))
    if log is not None:
        assert isinstance(log, EncodedLog)
        assert 0 <= log.sessions.items.min() <= log.sessions.items.max() < len(log.vocabulary)
        assert (np.diff(log.sessions.offsets) >= 0).all()


@fuzzed(60)
@given(name=st.sampled_from(["config.toml", "vocabulary.txt", "metrics.json", "epoch.json", "npy"]), damage=DAMAGE)
@example(name="metrics.json", damage=[("insert", 0, 1, b"[" * 3000)])
@example(name="npy", damage=[("insert", 0.02, 1, b"(")])
def test_a_damaged_model_goes_on_or_one_line(folder, name, damage):
    inside = {"epoch.json": "epoch-0001/epoch.json", "npy": "epoch-0001/output_table.npy"}
    log = read_training_log(folder / "data")

    def resumed():
        return train(log, QUICK, directory=folder / "model", resume=True)

    read_damaged(folder / "model" / inside.get(name, name), damage, resumed)


@fuzzed(60)
@given(damage=DAMAGE)
@example(damage=[("insert", 0, 1, b"[" * 3000)])
def test_a_damaged_state_of_a_search_is_read_or_one_line(folder, damage):
    read_damaged(folder / "search.json", damage, lambda: read_state(folder))


SESSIONS = [
    b'SessionId,ItemId,Time\ns1,a,1\ns1,"b,c",2.5\ns2,d,2024-01-01\n',
    b'{"session": "s1", "items": ["a", "b"]}\n{"items": [1, "\\u00e9"]}\n',
    b"a b c\n\nd e\n",
    *PARQUET,
]


@fuzzed(80)
@given(
    content=st.sampled_from(SESSIONS),
    damage=DAMAGE,
    input_format=st.sampled_from([None, None, *FORMATS]),
    packed=st.sampled_from(["", "before", "after"]),
)
def test_a_damaged_session_file_is_sessions_or_one_line(tmp_path, content, damage, input_format, packed):
    if packed == "before":  # damage to the packed bytes themselves
        content = gzip.compress(content, mtime=0)
    content = damaged(content, damage)
    path = tmp_path / "sessions"
    path.write_bytes(gzip.compress(content, 1) if packed == "after" else content)
    valid_or_one_line(lambda: list(read_sessions(str(path), input_format=input_format, join=group_rows)))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model file, and the states of two sessions of it beside it."""
    path = save_model(tmp_path_factory.mktemp("model") / "model.onnx", random_weights(widths=(8, 4), n_recent=2))
    recommender = Recommender.load(path)
    states, new = SessionStates(10), Recommender.load(path).new_state()
    for name, (state, _) in zip("ab", recommender.steps([new, new], ["a b", "7"], k=3), strict=True):
        states.take(name, new)
        states.put(name, state)
    states.save(path.with_name("states"), recommender.artifact)
    return path


@fuzzed(40)
@given(content=st.sampled_from([b"7\na b\n", gzip.compress(b"7\na b\n", mtime=0)]), damage=DAMAGE)
def test_a_damaged_list_of_items_is_candidates_or_one_line(model, tmp_path, content, damage):
    (tmp_path / "items").write_bytes(damaged(content, damage))
    valid_or_one_line(lambda: Candidates.of(Artifact(model), (), read_ids(str(tmp_path / "items"))))


@fuzzed(60)
@given(damage=DAMAGE)
def test_damaged_states_are_states_or_one_line(model, damage):
    artifact = Artifact(model)
    content = damaged(model.with_name("states").read_bytes(), damage)
    path = model.with_name("damaged-states")
    path.write_bytes(content)
    states = valid_or_one_line(lambda: SessionStates.load(path, artifact, 5))
    if states:
        recommender = Recommender.load(model)
        recommender.steps([states.take(name, recommender.new_state()) for name in "ab"], ["7", "7"], k=3)


@fuzzed(80)
@given(damage=DAMAGE)
def test_a_damaged_model_file_recommends_or_is_one_line(model, damage):
    path = model.with_name("damaged.onnx")
    path.write_bytes(damaged(model.read_bytes(), damage))
    valid_or_one_line(lambda: Recommender.load(path).recommend([["7", "a b"], []], k=3))


TOML = to_toml(TrainConfig(loss="bpr-max", bpreg=1.0, layers=(100, 50), plugins=("mine",), loss_options={"x": 1}))
PYTHON = (
    "from collections import OrderedDict\ngru4rec_params = OrderedDict([\n('loss', 'bpr-max'), ('layers', [224]),\n"
    "('constrained_embedding', False), ('embedding', 'layersize'), ('batch_size', 80), ('momentum', 0.4)\n])\n"
)


@fuzzed(120)
@given(suffix_and_text=st.sampled_from([(".toml", TOML), (".py", PYTHON)]), damage=DAMAGE)
@example(suffix_and_text=(".toml", "layers = " + "[" * 3000), damage=[])
@example(suffix_and_text=(".toml", "batch_size = " + "9" * 5000), damage=[])
@example(suffix_and_text=(".py", "x = f([('layers', '()'), ('embedding', 'layersize')])"), damage=[])
@example(suffix_and_text=(".py", "x = f(" + "-" * 100_000 + "1)"), damage=[])
def test_a_damaged_configuration_is_one_that_reads_back_or_one_line(tmp_path, suffix_and_text, damage):
    suffix, text = suffix_and_text
    path = tmp_path / f"run{suffix}"
    path.write_bytes(damaged(text.encode(), damage))
    config = valid_or_one_line(lambda: from_mapping(read_config(path)))
    if config is not None:
        (tmp_path / "again.toml").write_text(to_toml(config), encoding="utf-8")
        assert repr(from_mapping(read_config(tmp_path / "again.toml"))) == repr(config)
        assert repr(from_mapping(to_mapping(config))) == repr(config)


SPACE = b"""loss = ["bpr-max", "cross-entropy"]
layers = [64, 128]
learning_rate = {low = 0.01, high = 0.1, log = true}
n_sample = "0,512,2048"
dropout_p_embed = "0..0.5:0.1"
momentum = {low = 0, high = 0.5, step = 0.1}
"""


@fuzzed(80)
@given(damage=DAMAGE)
@example(damage=[("insert", 0, 1, b"x = " + b"[" * 3000)])
@example(damage=[("insert", 0, 1, b"bpreg = {low = nan, high = 1, step = 0.1}\n")])
def test_a_damaged_space_is_one_or_one_line(tmp_path, damage):
    path = tmp_path / "space.toml"
    path.write_bytes(damaged(SPACE, damage))
    valid_or_one_line(lambda: build_space(parse_config(path), n_epochs=1, seed=1))


PIECES = ["0", "1", "-1", "0.1", "..", "..", ",", ":", ":log", "nan", "inf", "1e400", "1e308", "1e-320", "9" * 400, "x"]


@fuzzed(150)
@given(st.lists(st.sampled_from(PIECES), max_size=6).map("".join))
@example("nan..1:0.1")
@example("-1e308..1e308:0.1")
@example("-" + "9" * 308 + ".." + "9" * 308 + ":0.1")
def test_any_expression_is_a_dimension_of_finite_numbers_or_one_line(text):
    dimension = valid_or_one_line(read_dimension, "x", text)
    if dimension is not None and not dimension.values:
        low, high = dimension.bounds
        assert np.isfinite([float(low), float(high)]).all()
        assert low < high


NUMBER = st.integers(-1000, 1000) | st.floats(-1e6, 1e6).map(lambda value: round(value, 6))


@fuzzed(80)
@given(low=NUMBER, high=NUMBER, log=st.booleans(), values=st.lists(NUMBER, min_size=1, max_size=4, unique=True))
def test_ranges_and_lists_are_read_back_as_written(low, high, log, values):
    if low < high and (low > 0 or not log):
        assert read_dimension("x", f"{low}..{high}{':log' if log else ''}") == span(low, high, log=log)
    assert read_dimension("x", ",".join(map(str, values))) == choice(values)


ID = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=4)


@fuzzed(40)
@given(
    sessions=st.dictionaries(ID, st.lists(ID, min_size=1, max_size=4), min_size=1, max_size=4),
    suffix=st.sampled_from([".tsv", ".csv", ".parquet", ".jsonl"]),
)
def test_sessions_written_to_a_log_are_read_back(tmp_path, sessions, suffix):
    rows = [(name, item, time) for time, (name, items) in enumerate(sessions.items()) for item in items]
    frame = pl.DataFrame(rows, schema=["SessionId", "ItemId", "Time"], orient="row")
    path = Path(tmp_path / f"log{suffix}")
    if suffix == ".parquet":
        frame.write_parquet(path)
    elif suffix == ".jsonl":
        frame.write_ndjson(path)
    else:
        frame.write_csv(path, separator="\t" if suffix == ".tsv" else ",")
    log = encode(read_events(path))
    read = [log.vocabulary.terms(part) for part in np.split(log.sessions.items, log.sessions.offsets[1:-1])]
    assert [list(items) for items in read] == list(sessions.values())
