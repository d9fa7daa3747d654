import contextlib
import gzip
import io
import itertools
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from inference import Recommender, UserError
from inference.cli import main
from inference.shared.atomic import output_lock
from inference.streaming.clicks import answer_clicks, read_clicks
from inference.streaming.states import SessionStates
from tests.support.tiny_models import TERMS, random_weights, save_model

N = len(TERMS)
ORDERED = sorted(TERMS)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "model.onnx", random_weights(widths=(8, 5)))


@pytest.fixture(scope="module")
def recommender(model):
    return Recommender.load(model)


def random_clicks(count, n_sessions, seed=0):
    generator = np.random.default_rng(seed)
    items = [*ORDERED, "??"]
    return [(f"s{generator.integers(n_sessions)}", items[generator.integers(len(items))]) for _ in range(count)]


def as_lines(clicks):
    return "".join(json.dumps({"session": session, "item": item}) + "\n" for session, item in clicks)


def stream(model, clicks, *arguments, monkeypatch, capsys):
    """Run the program on clicks; gives its exit code, the answers and its messages."""
    content = clicks if isinstance(clicks, bytes) else as_lines(clicks).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))
    code = main(["--model", str(model), "--stream", "--top-k", "3", *map(str, arguments)])
    output = capsys.readouterr()
    return code, [json.loads(line) for line in output.out.splitlines()], output.err


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_each_answer_equals_scoring_the_whole_session_bit_for_bit(
    model, recommender, monkeypatch, capsys, exclude_seen
):
    clicks = random_clicks(300, 7)
    options = ["--exclude-seen"] if exclude_seen else []
    code, got, err = stream(model, clicks, *options, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0
    assert f"{sum(item == '??' for _, item in clicks)} of 300 clicks" in err
    sessions: dict[str, list[str]] = {}
    for (session, item), answer in zip(clicks, got, strict=True):
        sessions.setdefault(session, []).append(item)
        (whole,) = recommender.recommend([sessions[session]], k=3, exclude_seen=exclude_seen)
        assert answer["session"] == session
        assert [entry["item"] for entry in answer["recommendations"]] == list(whole.items)
        scores = [entry["score"] for entry in answer["recommendations"]]
        assert np.array(scores, np.float32).tolist() == list(whole.scores)
        assert answer["unknown"] == (["??"] if item == "??" else [])
        assert ("from_zero_state" in answer) == (whole.n_known == 0)


def test_only_allowed_items_are_answered(model, tmp_path, monkeypatch, capsys):
    (tmp_path / "allow").write_text("7\n日本\n")
    _, got, _ = stream(
        model, random_clicks(20, 3), "--allow", tmp_path / "allow", monkeypatch=monkeypatch, capsys=capsys
    )
    assert all({entry["item"] for entry in answer["recommendations"]} == {"7", "日本"} for answer in got)


def test_a_stream_cut_in_two_and_gone_on_from_the_state_file_is_one_stream(model, tmp_path, monkeypatch, capsys):
    clicks = random_clicks(100, 5)
    arguments = {"monkeypatch": monkeypatch, "capsys": capsys}
    _, whole, _ = stream(model, clicks, "--exclude-seen", **arguments)
    state = tmp_path / "states.bin"
    _, first, _ = stream(model, clicks[:37], "--exclude-seen", "--state", state, **arguments)
    _, second, _ = stream(model, clicks[37:], "--exclude-seen", "--state", state, **arguments)
    assert first + second == whole


def test_clicks_of_a_run_without_exclude_seen_are_seen_in_the_next(model, tmp_path, monkeypatch, capsys):
    clicks = [("a", "7"), ("a", "007")]
    arguments = {"monkeypatch": monkeypatch, "capsys": capsys}
    _, whole, _ = stream(model, clicks, "--exclude-seen", "--top-k", N, **arguments)
    state = tmp_path / "states.bin"
    assert stream(model, clicks[:1], "--state", state, **arguments)[0] == 0
    _, after, _ = stream(model, clicks[1:], "--exclude-seen", "--top-k", N, "--state", state, **arguments)
    assert after == whole[1:]
    assert {entry["item"] for entry in after[0]["recommendations"]} == set(TERMS) - {"7", "007"}


def test_the_session_clicked_longest_ago_is_forgotten_first(model, recommender, monkeypatch, capsys):
    clicks = [("a", "7"), ("b", "7"), ("a", "007"), ("c", "7"), ("a", "日本"), ("b", "日本")]
    _, got, err = stream(model, clicks, "--max-sessions", 2, monkeypatch=monkeypatch, capsys=capsys)
    kept, forgotten = recommender.recommend([["7", "007", "日本"], ["日本"]], k=3)
    assert [entry["item"] for entry in got[4]["recommendations"]] == list(kept.items)
    assert [entry["item"] for entry in got[5]["recommendations"]] == list(forgotten.items)
    assert "2 times the session clicked longest ago was forgotten" in err


@given(
    clicks=st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([*ORDERED, "??"])), max_size=12),
    capacity=st.integers(1, 4),
    at_once=st.integers(1, 12),
    breaks_at=st.integers(0, 6),
)
@example(clicks=[("a", ORDERED[0]), ("a", ORDERED[1]), ("b", ORDERED[0])], capacity=1, at_once=3, breaks_at=1)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_answers_do_not_depend_on_how_many_clicks_arrive_together_or_on_interruptions(
    recommender, clicks, capacity, at_once, breaks_at
):
    from inference.streaming.clicks import Click

    def run(size, breaks_at=None):
        states, got = SessionStates(capacity), []
        calls = itertools.count()

        def steps(*both):
            if next(calls) == breaks_at:
                raise UserError("no more")
            return recommender.steps(*both, k=3)

        while len(got) < len(clicks):  # after a break, go on behind what is answered
            with contextlib.suppress(UserError):
                for start in range(len(got), len(clicks), size):
                    together = [Click(*click) for click in clicks[start : start + size]]
                    for batch in answer_clicks(together, states, steps, recommender.new_state()):
                        got += batch
        return got, [(name, state.n_known) for name, state in states._states.items()], states.n_forgotten

    assert run(at_once) == run(1)
    assert run(at_once, breaks_at)[:2] == run(1)[:2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"session": "a", "item": "7"}\n{"session": "a"}\n', 'line 2.*got no "item"'),
        (b'{"session": "a", "item": "7"}\n{"item": "a"}\n', 'line 2.*got no "session"'),
        (b'{"session": "a", "item": "7"}\n{"item": 1.5, "session": "a"}\n', "line 2.*expected the item id"),
        (b'{"session": "a", "item": "7"}\n7\n', 'line 2: expected a JSON object such as {.*"item": .*}, got 7'),
        (b'{"session": "a", "item": "7"}\na\t7\n', 'line 2: expected a JSON object such as {.*"item": .*}'),
        (b'{"session": "a", "item": "7"}\n\xff\xfe\n', "line 2: expected UTF-8"),
        (b'{"session": "a", "item": "7"}\n{"session', "line 2: expected a JSON object"),
        (b'{"session": "a", "item": "7"}\n' + b"x" * (1 << 21), "line 2: expected a click, got a line of more"),
    ],
)
def test_a_mistake_ends_the_stream_after_the_clicks_before_it_are_answered_and_saved(
    model, tmp_path, monkeypatch, capsys, content, message
):
    state = tmp_path / "states.bin"
    code, got, err = stream(model, content, "--state", state, monkeypatch=monkeypatch, capsys=capsys)
    assert (code, len(got), err.count("\n")) == (2, 1, 1)
    with pytest.raises(UserError, match=message):
        raise UserError(err)
    assert len(SessionStates.load(state, Recommender.load(model).artifact, 10)) == 1


def test_unknown_items_end_the_stream_where_asked_for(model, monkeypatch, capsys):
    clicks = [("a", "7"), ("a", "??"), ("a", "7")]
    code, got, err = stream(model, clicks, "--unknown", "error", monkeypatch=monkeypatch, capsys=capsys)
    assert (code, len(got)) == (2, 1)
    assert "standard input, line 2: item '??' is not known to the model; use --unknown skip to skip such items" in err


def test_blank_lines_are_no_clicks_and_gzip_is_unpacked(model, monkeypatch, capsys):
    content = gzip.compress(b'\xef\xbb\xbf{"session": 1, "item": 7}\r\n\n{"session": "1", "item": "7"}')
    code, got, _ = stream(model, content, monkeypatch=monkeypatch, capsys=capsys)
    assert (code, [answer["session"] for answer in got]) == (0, ["1", "1"])


def test_an_empty_stream_is_no_error(model, tmp_path, monkeypatch, capsys):
    state = tmp_path / "states.bin"
    arguments = {"monkeypatch": monkeypatch, "capsys": capsys}
    assert stream(model, b"", "--state", state, **arguments) == (0, [], "")
    assert stream(model, b"", "--state", state, **arguments) == (0, [], "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stream", "--format", "csv"], "JSON lines"),
        (["--stream", "--group"], "JSON lines"),
        (["--stream", "--top-k", "11"], "between 1 and the 10"),
        (["--stream", "--max-sessions", "0"], "at least one session"),
        (["--stream", "--session", "/nowhere/at/all"], "does not exist"),
        (["--stream", "--session", "/dev/null", "--state", "/nowhere/at/all"], "does not exist"),
        (["--stream", "--session", "/dev/null", "--state", "/"], "names a file"),
        (["--stream", "--session", "/dev/null", "--state", "/tmp"], "cannot read the states"),
        (["--session", "x", "--state", "y"], "add --stream"),
    ],
)
def test_a_mistake_in_the_arguments_is_one_line_and_exit_code_2(model, capsys, arguments, message):
    assert main(["--model", str(model), "--top-k", "3", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def saved(path, recommender):
    states = SessionStates(10)
    for session, item in [("a", "7"), ("b\n", "日本"), ("a", "007")]:
        state = states.take(session, recommender.new_state())
        states.put(session, recommender.step(state, item, k=1, exclude_seen=True)[0])
    states.save(path, recommender.artifact)
    return path


def test_states_are_read_back_as_they_were_saved(recommender, tmp_path):
    path = saved(tmp_path / "states.bin", recommender)
    states = SessionStates.load(path, recommender.artifact, 10)
    fresh = recommender.new_state()
    for session, items in (("a", ["7", "007"]), ("b\n", ["日本"])):
        expected = fresh
        for item in items:
            expected, _ = recommender.step(expected, item, k=1, exclude_seen=True)
        got = states.take(session, fresh)
        np.testing.assert_array_equal(got.hidden, expected.hidden)
        assert (got.n_known, got.seen) == (expected.n_known, expected.seen)


def test_only_the_latest_sessions_are_kept_where_there_is_less_room(recommender, tmp_path):
    states = SessionStates.load(saved(tmp_path / "states.bin", recommender), recommender.artifact, 1)
    assert states.take("a", recommender.new_state()).n_known == 2


def test_states_of_another_model_are_refused(recommender, tmp_path):
    path = saved(tmp_path / "states.bin", recommender)
    other = Recommender.load(save_model(tmp_path / "other.onnx", random_weights(widths=(8, 5), seed=1)))
    with pytest.raises(UserError, match="another model"):
        SessionStates.load(path, other.artifact, 10)


def test_a_damaged_file_of_states_is_refused_wherever_the_damage_is(recommender, tmp_path):
    path = saved(tmp_path / "states.bin", recommender)
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        for changed in (content[:place], content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]):
            path.write_bytes(changed)
            try:
                states = SessionStates.load(path, recommender.artifact, 10)
            except UserError:
                continue
            assert len(states) == 2  # a name was changed, and JSON does not mind


@pytest.mark.parametrize("version", [0, 1, 3, "2", None])
def test_states_of_another_version_are_refused(recommender, tmp_path, version):
    path = saved(tmp_path / "states.bin", recommender)
    line, _, content = path.read_bytes().partition(b"\n")
    header = json.loads(line) | {"version": version}
    path.write_bytes(json.dumps(header).encode() + b"\n" + content)
    with pytest.raises(UserError, match="version"):
        SessionStates.load(path, recommender.artifact, 10)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.text(alphabet='{"sesionitm:a1} ,\n[]\\u', max_size=80).map(str.encode))
def test_any_bytes_are_clicks_or_one_error(tmp_path, content):
    path = tmp_path / "clicks"
    path.write_bytes(content)
    try:
        for clicks in read_clicks(str(path)):
            assert all(isinstance(click.item, str) for click in clicks)
    except UserError:
        pass


def running(model, *arguments):
    command = [sys.executable, "-m", "inference.cli", "--model", model, "--stream", "--top-k", "1", *arguments]
    return subprocess.Popen(
        list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP"])
def test_a_click_is_answered_before_the_next_one_comes_and_termination_saves_the_states(model, tmp_path, number):
    state = tmp_path / "states.bin"
    number = getattr(signal, number)
    before = signal.signal(number, signal.SIG_DFL)  # processes inherit what nohup ignores
    try:
        process = running(model, "--state", state)
    finally:
        signal.signal(number, before)
    with process:
        for session in ("a", "b", "a"):
            process.stdin.write(as_lines([(session, "7")]).encode())
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["session"] == session
        process.send_signal(number)
        assert process.wait(timeout=60) == 128 + number
        assert process.stderr.read() == b""
    assert len(SessionStates.load(state, Recommender.load(model).artifact, 10)) == 2
    assert list(tmp_path.iterdir()) == [state]


def test_a_second_stream_on_the_same_states_is_refused_before_it_reads_a_click(model, tmp_path, monkeypatch, capsys):
    state = tmp_path / "states.bin"
    with output_lock(state):
        code, got, err = stream(model, [("a", "7")], "--state", state, monkeypatch=monkeypatch, capsys=capsys)
    assert (code, got, err.count("\n")) == (2, [], 1)
    assert "states.bin is in use by another process" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_output_file_holds_every_click_that_the_saved_states_hold(
    model, tmp_path, monkeypatch, capsys, interrupted
):
    clicks = random_clicks(20, 3)
    arguments = {"monkeypatch": monkeypatch, "capsys": capsys}
    _, expected, _ = stream(model, clicks, **arguments)
    state, output = tmp_path / "states.bin", tmp_path / "answers.jsonl"
    output.write_text("of an earlier run\n")
    if interrupted:
        computed, calls = Recommender.steps, itertools.count()

        def steps(*both, **options):
            if next(calls) == 4:
                raise KeyboardInterrupt
            return computed(*both, **options)

        monkeypatch.setattr(Recommender, "steps", steps)
    content = as_lines(clicks).encode() + b'{"session": "a"}\n'
    code, got, _ = stream(model, content, "--state", state, "--output", output, **arguments)
    assert (code, got) == (130 if interrupted else 2, [])
    answered = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert len(answered) in (range(1, 20) if interrupted else [20])
    assert answered == expected[: len(answered)]
    states = SessionStates.load(state, Recommender.load(model).artifact, 10)
    n_known = sum(states.take(f"s{number}", None).n_known for number in range(3))
    assert n_known == sum(item != "??" for _, item in clicks[: len(answered)])
    assert sorted(tmp_path.iterdir()) == [output, state]


def test_answers_are_in_the_output_file_before_the_next_click_comes(model, tmp_path):
    output = tmp_path / "answers.jsonl"
    with running(model, "--output", output) as process:
        for count in (1, 2):
            process.stdin.write(as_lines([("a", "7")]).encode())
            process.stdin.flush()
            for _ in range(600):
                if output.exists() and output.read_bytes().count(b"\n") == count:
                    break
                time.sleep(0.05)
            assert output.read_bytes().count(b"\n") == count
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    assert output.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("option", ["--session", "--state"])
def test_a_stream_does_not_write_over_what_it_reads(model, tmp_path, capsys, option):
    path, link = tmp_path / "read", tmp_path / "link.jsonl"
    path.write_text(as_lines([("a", "7"), ("a", "007")]))
    link.symlink_to(path)
    arguments = ["--model", str(model), "--stream", "--top-k", "3", option, str(path), "--output", str(link)]
    assert main(arguments) == 2
    assert f"expected --output to name another file than {option}, got" in capsys.readouterr().err
    assert path.read_text() == as_lines([("a", "7"), ("a", "007")])


def test_a_stream_that_is_not_there_leaves_the_answers_of_the_last_one(model, tmp_path, capsys):
    output = tmp_path / "answers.jsonl"
    output.write_text("of an earlier run\n")
    arguments = ["--stream", "--top-k", "3", "--session", tmp_path / "nowhere", "--output", output]
    assert main(["--model", str(model), *map(str, arguments)]) == 2
    assert output.read_text() == "of an earlier run\n"
