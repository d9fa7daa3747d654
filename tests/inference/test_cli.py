import csv
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from inference import Recommender
from inference.cli import main
from tests.support.tiny_models import TERMS, random_weights, save_model

N = len(TERMS)
TABLE = "SessionId\tItemId\tTime\ns1\t007\t1\ns1\t7\t2\ns2\ta b\t1\ns3\t??\t1\n"
SESSIONS = {"s1": ["007", "7"], "s2": ["a b"], "s3": ["??"]}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "model.onnx", metrics={"recall@20": 0.25})


@pytest.fixture
def sessions(tmp_path):
    path = tmp_path / "sessions.tsv"
    path.write_text(TABLE)
    return path


@pytest.fixture
def infer(model, sessions, capsys):
    """Run the program in this process; gives its exit code, its output and its messages."""

    def run(*arguments, session=sessions, model=model):
        code = main(["--model", str(model), "--session", str(session), *map(str, arguments)])
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


def process(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "inference.cli", *map(str, arguments)], capture_output=True, check=False, **options
    )


def test_json_lines_hold_the_recommendations_of_the_library_in_the_order_of_the_input(infer, model):
    code, out, _ = infer("--format", "jsonl", "--top-k", 3)
    assert code == 0
    expected = Recommender.load(model).recommend(SESSIONS.values(), k=3)
    for line, name, recommendation in zip(out.splitlines(), SESSIONS, expected, strict=True):
        value = json.loads(line)
        assert value["session"] == name
        assert [entry["item"] for entry in value["recommendations"]] == list(recommendation.items)
        scores = np.array([entry["score"] for entry in value["recommendations"]], np.float32)
        np.testing.assert_array_equal(scores, np.array(recommendation.scores, np.float32))
        assert value["unknown"] == list(recommendation.unknown)


def test_a_catalogue_smaller_than_the_usual_answer_is_answered_whole(infer, capsys, model):
    assert N < 20
    code, out, _ = infer("--format", "jsonl")
    assert code == 0
    assert {len(json.loads(line)["recommendations"]) for line in out.splitlines()} == {N}
    assert main(["--model", str(model), "--similar", "007", "--format", "csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + N - 1  # a header, and all but the item itself
    assert infer("--top-k", N + 1)[0] == 2


def test_only_a_session_ranked_from_the_zero_state_is_flagged_as_such(infer):
    _, out, _ = infer("--format", "jsonl", "--top-k", 3)
    first, second, third = map(json.loads, out.splitlines())
    assert set(first) == set(second) == {"session", "recommendations", "unknown"}
    assert third["from_zero_state"] is True
    assert third["unknown"] == ["??"]


def test_csv_has_a_row_for_each_recommendation(infer):
    code, out, _ = infer("--format", "csv", "--top-k", 2)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    assert [(row["session"], row["rank"], row["known_clicks"]) for row in rows] == [
        ("s1", "1", "2"),
        ("s1", "2", "2"),
        ("s2", "1", "1"),
        ("s2", "2", "1"),
        ("s3", "1", "0"),
        ("s3", "2", "0"),
    ]


def test_csv_and_json_lines_agree(infer):
    _, as_csv, _ = infer("--format", "csv", "--top-k", N)
    _, as_json, _ = infer("--format", "jsonl", "--top-k", N)
    from_csv = [(row["session"], row["item"], float(row["score"])) for row in csv.DictReader(io.StringIO(as_csv))]
    from_json = [
        (value["session"], entry["item"], entry["score"])
        for value in map(json.loads, as_json.splitlines())
        for entry in value["recommendations"]
    ]
    assert from_csv == from_json
    assert {item for _, item, _ in from_csv} == set(TERMS)


def test_a_session_for_which_nothing_is_left_is_in_every_format(infer, tmp_path):
    path = tmp_path / "allow.txt"
    path.write_text("7\n007\n")
    options = ("--top-k", 1, "--allow", path, "--exclude-seen", "--format")
    rows = list(csv.DictReader(io.StringIO(infer(*options, "csv")[1])))
    assert [row["session"] for row in rows] == list(SESSIONS)
    assert rows[0] == {"session": "s1", "rank": "", "item": "", "score": "", "known_clicks": "2"}
    values = [json.loads(line) for line in infer(*options, "jsonl")[1].splitlines()]
    assert [len(value["recommendations"]) for value in values] == [0, 1, 1]
    assert "nothing left to recommend" in infer(*options, "table")[1]


def test_the_table_shows_each_session_with_its_clicks_and_items(infer, model):
    code, out, _ = infer("--top-k", 2)
    assert code == 0
    (best, *_) = Recommender.load(model).recommend([SESSIONS["s2"]], k=2)
    lines = out.splitlines()
    start = next(place for place, line in enumerate(lines) if "Session s2" in line)
    assert "1 click: a b" in lines[start]
    for rank, item in enumerate(best.items, start=1):
        assert str(rank) in lines[start + 1 + rank]
        assert item.replace("\t", "\\t") in lines[start + 1 + rank]
    assert "not known to the model: ??" in out


def test_ids_cannot_steer_the_terminal(infer, tmp_path):
    path = tmp_path / "evil.txt"
    path.write_text("\x1b[2J[red]7 7\n")
    _, out, _ = infer("--top-k", 1, session=path)
    assert "\x1b" not in out
    assert "\\x1b[2J[red]7" in out


def test_unknown_clicks_are_counted_at_the_end(infer):
    _, _, err = infer("--format", "jsonl", "--top-k", 1)
    assert "1 of 4 clicks" in err
    assert "1 of 3 sessions" in err


def test_nothing_is_said_where_everything_is_known(infer, tmp_path):
    path = tmp_path / "known.txt"
    path.write_text("7 007\n")
    assert infer("--format", "jsonl", "--top-k", 1, session=path)[::2] == (0, "")


def test_unknown_items_are_an_error_where_asked_for(infer, tmp_path):
    output = tmp_path / "out.jsonl"
    code, _, err = infer("--unknown", "error", "--top-k", 1, "--output", output)
    assert code == 2
    assert "'s3' (line 5): item '??'" in err
    assert not output.exists()


def test_seen_and_excluded_items_do_not_appear(infer, tmp_path):
    path = tmp_path / "exclude.txt"
    path.write_text("🛒\n\n日本\n")
    _, out, _ = infer("--format", "jsonl", "--top-k", N, "--exclude-seen", "--exclude", path)
    for value in map(json.loads, out.splitlines()):
        found = {entry["item"] for entry in value["recommendations"]}
        assert found == set(TERMS) - {"🛒", "日本"} - set(SESSIONS[value["session"]])


def test_only_allowed_items_appear(infer, tmp_path):
    path = tmp_path / "allow.txt"
    path.write_text("🛒\n日本\n7\n??\n")
    _, out, _ = infer("--format", "jsonl", "--top-k", N, "--allow", path)
    for value in map(json.loads, out.splitlines()):
        assert {entry["item"] for entry in value["recommendations"]} == {"🛒", "日本", "7"}


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("out.jsonl", '{"session"'),
        ("out.JSON", '{"session"'),
        ("out.csv", "session,rank"),
        ("out", "Session"),
        ("out.txt", "Session"),
    ],
)
def test_the_output_file_is_written_in_the_format_of_its_suffix(infer, tmp_path, name, first):
    code, out, _ = infer("--top-k", 2, "--output", tmp_path / name)
    assert (code, out) == (0, "")
    assert (tmp_path / name).read_text(encoding="utf-8").startswith(first)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("name", ["out.tsv", "out.parquet", "out.jsonl.gz", "out.xlsx"])
def test_an_output_file_of_an_unknown_suffix_needs_a_format(infer, tmp_path, name):
    output = tmp_path / name
    code, out, err = infer("--top-k", 2, "--output", output)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"{name}'; name the format with --format" in err
    assert not output.exists()
    assert infer("--top-k", 2, "--output", output, "--format", "csv")[0] == 0
    assert output.read_text(encoding="utf-8").startswith("session,rank")


def test_the_batch_size_changes_nothing(infer):
    assert infer("--format", "csv", "--top-k", 3, "--batch-size", 1) == infer("--format", "csv", "--top-k", 3)


def test_chunks_keep_the_order_of_the_input(infer, tmp_path, monkeypatch):
    path = tmp_path / "many.txt"
    path.write_text("".join("7 " * (place % 5) + "007\n" for place in range(23)))
    whole = infer("--format", "csv", "--top-k", 3, session=path)
    monkeypatch.setattr("inference.cli.SESSIONS_PER_CHUNK", 4)
    assert infer("--format", "csv", "--top-k", 3, session=path) == whole
    assert [row["session"] for row in csv.DictReader(io.StringIO(whole[1]))][::3] == [str(i + 1) for i in range(23)]


def test_columns_may_be_renamed_and_rows_grouped(infer, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("visit,product,at\na,7,2\nb,007,1\na,a b,1\n")
    renamed = ("--session-column", "visit", "--item-column", "product", "--time-column", "at", "--format", "jsonl")
    code, _, err = infer(*renamed, "--top-k", 1, session=path)
    assert code == 2
    assert "line 4" in err
    code, out, _ = infer(*renamed, "--top-k", 1, "--group", session=path)
    assert code == 0
    assert [json.loads(line)["session"] for line in out.splitlines()] == ["a", "b"]


def test_a_column_that_may_hold_the_times_is_remarked_on_once(infer, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("SessionId,ItemId,timestamp\na,7,2\nb,7,1\n")
    code, out, err = infer("--format", "csv", "--top-k", 1, "--group", session=path)
    assert (code, out.count("\n"), err.count("\n")) == (0, 3, 1)
    assert "has no column 'Time'" in err
    assert infer("--top-k", 1, "--time-column", "timestamp", session=path)[::2] == (0, "")


def test_information_names_items_widths_metrics_and_digests(model, capsys):
    assert main(["--model", str(model), "--info", "--format", "jsonl"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["items"], values["layer_widths"], values["metrics"]) == (N, [8], {"recall@20": 0.25})
    assert len(values["weights_sha256"]) == 64
    assert main(["--model", str(model), "--info"]) == 0
    assert values["weights_sha256"] in capsys.readouterr().out


def test_information_tells_what_would_run_the_model(model, capsys):
    assert main(["--model", str(model), "--info", "--format", "jsonl"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["provider_cpu"] == "runs"
    assert values["provider_cuda"] == "runs" or "CUDA cannot run here" in values["provider_cuda"]
    assert values["cores"] >= 1
    assert {"cpu_features", "onnxruntime", "onnxruntime-gpu", "python", "exporter", "config"} <= set(values)


def test_similar_items_are_those_of_the_largest_cosine(model, capsys):
    table = random_weights().output_table.astype(float)
    number = sorted(TERMS).index("日本")
    cosines = table @ table[number] / np.linalg.norm(table, axis=1) / np.linalg.norm(table[number])
    expected = [place for place in np.argsort(-cosines) if place != number][:4]
    assert main(["--model", str(model), "--similar", "日本", "--top-k", "4", "--format", "jsonl"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["item"] == "日本"
    assert [entry["item"] for entry in value["similar"]] == [sorted(TERMS)[place] for place in expected]
    np.testing.assert_allclose([entry["score"] for entry in value["similar"]], cosines[expected], atol=1e-6)
    assert main(["--model", str(model), "--similar", "日本", "--top-k", "4", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["similar"] for row in rows] == [entry["item"] for entry in value["similar"]]
    assert main(["--model", str(model), "--similar", "日本", "--top-k", "4"]) == 0
    assert "Items like 日本" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--similar", "??"], "'??' is not known"),
        (["--similar", "7", "--top-k", "10"], "between 1 and the 9 other items"),
        (["--similar", "7", "--top-k", "0"], "between 1 and the 9 other items"),
        (["--similar", ""], "'' is not known"),
        (["--similar", "7", "--session", "-"], "--session does nothing with --similar"),
        (["--similar", "7", "--info"], "got --info and --similar"),
        (["--similar", "7", "--stream"], "got --similar and --stream"),
        (["--similar", "7", "--exclude", "sold-out.txt"], "--exclude does nothing with --similar"),
    ],
)
def test_impossible_questions_for_similar_items_are_errors(model, capsys, arguments, message):
    assert main(["--model", str(model), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_similar_items_of_damaged_weights_are_an_error(model, tmp_path, capsys, value):
    table = random_weights().output_table
    damaged = table.copy()
    damaged[3, 1] = value
    path = tmp_path / "damaged.onnx"
    path.write_bytes(model.read_bytes().replace(table.tobytes(), damaged.tobytes()))
    assert main(["--model", str(path), "--similar", "7", "--top-k", "9", "--format", "jsonl"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "NaN or infinite weights in 'output_weight'" in said.err


def test_verify_accepts_a_sound_model_and_refuses_a_changed_one(model, infer, tmp_path, capsys):
    assert main(["--model", str(model), "--verify"]) == 0
    assert "match their digests" in capsys.readouterr().out
    content = bytearray(model.read_bytes())
    content[content.index(random_weights().output_table.tobytes()) + 2] ^= 1
    changed = tmp_path / "changed.onnx"
    changed.write_bytes(content)
    code, out, err = infer("--verify", "--top-k", 2, model=changed)
    assert (code, out) == (2, "")
    assert "damaged" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--top-k", "0"], "between 1 and the 10 items"),
        (["--top-k", "11"], "between 1 and the 10 items"),
        (["--top-k", "many"], "--top-k"),
        (["--batch-size", "0", "--top-k", "1"], "batch size"),
        (["--threads", "0"], "thread"),
        (["--format", "xml"], "--format"),
        (["--input-format", "xml"], "--input-format"),
        (["--unknown", "maybe"], "--unknown"),
        (["--frobnicate"], "--frobnicate"),
        (["--exclude", "/nowhere/at/all"], "does not exist"),
        (["--top-k", "2", "--allow", "/dev/null"], "allowed items"),
        (["--top-k", "2", "--output", "/nowhere/at/all"], "does not exist"),
        (["--top-k", "2", "--output", "/"], "names a file"),
        (["--item-column", "Product"], "no column 'Product'"),
        (["--exclude", ""], "expected --exclude FILE, got an empty name"),
        (["--allow", ""], "expected --allow FILE, got an empty name"),
        (["--output", ""], "expected --output FILE, got an empty name"),
        (["--stream", "--state", ""], "expected --state FILE, got an empty name"),
        (["--stream", "--threads", "99999999999"], "expected between 1 and 4,096 threads, got 99999999999"),
    ],
)
def test_a_mistake_in_the_arguments_is_one_line_and_exit_code_2(infer, arguments, message):
    code, out, err = infer(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x7fELF\x00\x01\xff", "line 1"),
        (b"SessionId,ItemId,Time\ns,7,1\ns,7,x\n", "line 3"),
        (b'{"items": ["7"]}\n{"items": 7}\n', "line 2"),
        (gzip.compress(b"7 007\n" * 1000, mtime=0)[:40], "gzip"),
    ],
)
def test_a_mistake_in_the_input_is_one_line_and_no_output_file(infer, tmp_path, content, message):
    path, output = tmp_path / "input", tmp_path / "output.csv"
    path.write_bytes(content)
    output.write_text("earlier results")
    code, out, err = infer("--top-k", 2, "--output", output, session=path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert output.read_text() == "earlier results"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["input", "output.csv", "sessions.tsv"]


@pytest.mark.parametrize("option", ["--model", "--session", "--exclude", "--allow"])
def test_what_a_run_reads_is_not_written_over(model, sessions, tmp_path, capsys, option):
    files = {"--model": tmp_path / "model.onnx", "--session": sessions}
    files |= {name: tmp_path / f"{name}.txt" for name in ("--exclude", "--allow")}
    files["--model"].write_bytes(model.read_bytes())
    for name in ("--exclude", "--allow"):
        files[name].write_text("7\n")
    before = files[option].read_bytes()
    arguments = [str(word) for pair in files.items() for word in pair]
    assert main([*arguments, "--top-k", "1", "--format", "csv", "--output", str(files[option])]) == 2
    said = capsys.readouterr()
    assert f"expected --output to name another file than {option}, got" in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert files[option].read_bytes() == before


@pytest.mark.skipif(os.name == "nt", reason="hands a file over as standard input")
def test_the_file_behind_standard_input_is_not_written_over(model, tmp_path):
    path = tmp_path / "sessions.csv"
    path.write_text(TABLE)
    with open(path, "rb") as file:
        result = process("--model", model, "--session", "-", "--top-k", 1, "--output", path, stdin=file)
    assert result.returncode == 2
    assert b"another file than --session" in result.stderr
    assert path.read_text() == TABLE


def test_a_model_of_an_impossible_name_cannot_be_read_and_is_not_written(infer):
    code, _, err = infer(model="x" * 300)
    assert (code, err.count("\n")) == (2, 1)
    assert "cannot read the model file xxx" in err


def test_a_list_of_excluded_items_of_which_the_model_knows_none_is_remarked_on(infer, tmp_path):
    path = tmp_path / "sold-out.txt"
    path.write_text("7 \n0007\n")
    code, _, err = infer("--top-k", 1, "--format", "csv", "--exclude", path)
    assert code == 0
    assert "sold-out.txt excludes nothing: the model knows none of its lines as an item" in err
    path.write_text("7\n0007\n")
    assert "excludes nothing" not in infer("--top-k", 1, "--format", "csv", "--exclude", path)[2]


def test_the_provider_is_named_and_none_is_replaced_silently(infer, model):
    from inference import UserError

    try:
        Recommender.load(model, provider="cuda")
    except UserError as error:
        expected = (2, "", f"gru4rec-infer: {error}\n")
        assert infer("--provider", "cuda", "--top-k", 1) == expected
    code, _, err = infer("--provider", "cpu", "--top-k", 1)
    assert code == 0
    assert "computing on cpu" in err


def test_a_message_stays_one_line_whatever_the_id_holds(infer, tmp_path):
    path = tmp_path / "input.csv"
    path.write_text('SessionId,ItemId\n"a\nb","x\ny"\n')
    code, _, err = infer("--unknown", "error", "--top-k", 1, session=path)
    assert (code, err.count("\n")) == (2, 1)


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\x08\x0a\x12"])
def test_a_model_that_is_none_is_one_line_and_exit_code_2(infer, tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    code, out, err = infer(model=path)
    assert (code, out, err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("arguments", [[], ["--session", ""], ["--top-k", "3"]])
def test_nothing_to_do_is_an_error(model, capsys, arguments):
    assert main(["--model", str(model), *arguments]) == 2
    assert "expected --session FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stream", "--batch-size", "4"], "--batch-size does nothing with --stream; leave out one of them"),
        (["--stream", "--item-column", "Product"], "--item-column does nothing with --stream"),
        (
            ["--stream", "--output", "answers.CSV"],
            "--stream writes JSON lines, got --output answers.CSV; choose a name",
        ),
        (["--stream", "--output", "answers.txt"], "that ends in .jsonl, or give --format jsonl as well"),
        (["--stream", "--info"], "got --info and --stream; choose one"),
        (["--session", "-", "--max-sessions", "4"], "--max-sessions does nothing without --stream; add --stream"),
        (["--session", "-", "--info"], "--session does nothing with --info"),
        (["--info", "--format", "csv"], "written as text or JSON, got csv"),
        (["--info", "--output", "info.csv"], "written as text or JSON, got csv"),
        (["--info", "--threads", "0"], "expected at least one thread, got '0'"),
        (["--verify", "--format", "jsonl"], "--format does nothing with --verify"),
    ],
)
def test_an_option_without_effect_is_refused(model, capsys, arguments, message):
    assert main(["--model", str(model), *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_information_and_verification_are_written_to_the_output_file(model, tmp_path, capsys):
    output = tmp_path / "info.jsonl"
    assert main(["--model", str(model), "--info", "--verify", "--output", str(output)]) == 0
    assert json.loads(output.read_text())["verified"] == "the vocabulary, the graph and the weights match their digests"
    assert main(["--model", str(model), "--verify", "--output", str(output)]) == 0
    assert output.read_text() == f"{model}: the vocabulary, the graph and the weights match their digests\n"
    assert capsys.readouterr() == ("", "")
    assert main(["--model", str(model), "--info", "--format", "jsonl"]) == 0
    assert "verified" not in json.loads(capsys.readouterr().out)


def test_a_sessions_file_from_standard_input_is_scored_in_a_process_of_its_own(model):
    result = process("--model", model, "--session", "-", "--top-k", 2, "--format", "jsonl", input=TABLE.encode())
    assert result.returncode == 0
    assert [json.loads(line)["session"] for line in result.stdout.splitlines()] == ["s1", "s2", "s3"]


def test_output_is_utf8_whatever_the_locale_says(model):
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    result = process("--model", model, "--session", "-", "--top-k", N, input="日本 🛒".encode(), env=environment)
    assert result.returncode == 0
    assert "日本 → 🛒" in result.stdout.decode()


def test_a_reader_that_leaves_early_is_no_error(model, tmp_path):
    path = tmp_path / "many.txt"
    path.write_text("7 007\n" * 20_000)
    command = [sys.executable, "-m", "inference.cli", "--model", str(model), "--session", str(path)]
    with subprocess.Popen(
        [*command, "--format", "jsonl", "--top-k", "10"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(timeout=60) == 0


@pytest.mark.parametrize("output_format", ["csv", "jsonl"])
def test_odd_names_come_out_as_they_went_in(infer, tmp_path, output_format):
    names = [
        "tab\there",
        'quo"te',
        "two\nlines",
        "carriage\rreturn",
        "comma,",
        "🛒",
        " blank ",
        "\u2028",
        "=1+1",
        "\x1b[0m",
    ]
    path = tmp_path / "odd.jsonl"
    path.write_text("".join(json.dumps({"session": name, "items": ["7"]}) + "\n" for name in names))
    output = tmp_path / "output"
    assert infer("--format", output_format, "--top-k", N, "--output", output, session=path)[0] == 0
    with open(output, encoding="utf-8", newline="") as file:
        if output_format == "csv":
            found = [(row["session"], row["item"]) for row in csv.DictReader(file)]
        else:
            values = map(json.loads, file.read().removesuffix("\n").split("\n"))
            found = [(value["session"], entry["item"]) for value in values for entry in value["recommendations"]]
    assert list(dict.fromkeys(name for name, _ in found)) == names
    assert {item for _, item in found} == set(TERMS)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_input(model, tmp_path):
    program = "import resource, sys; from inference.cli import main; main(sys.argv[1:]); "
    program += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    peaks = []
    for count in (10_000, 100_000):
        path = tmp_path / f"{count}.csv"
        path.write_text(
            "SessionId,ItemId,Time\n" + "".join(f"session {n},7,1\nsession {n},??,2\n" for n in range(count))
        )
        options = ["--model", model, "--session", path, "--top-k", 2, "--output", tmp_path / "out.csv"]
        command = [sys.executable, "-c", program, *map(str, options)]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] - peaks[0] < 20_000  # kilobytes; the longer input has 2.6 MB more


@pytest.mark.slow
def test_a_session_of_a_million_clicks_is_scored(infer, tmp_path):
    path = tmp_path / "bot.txt"
    path.write_text("7 007 " * 500_000)
    code, out, _ = infer("--format", "csv", "--top-k", 1, session=path)
    assert code == 0
    assert out.splitlines()[1].endswith(",1000000")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_folder_that_is_read_only_is_one_line(infer, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o555)
    code, out, err = infer("--top-k", 1, "--output", folder / "out.csv")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "cannot write" in err


def test_a_long_run_tells_how_far_it_has_come(infer, tmp_path, monkeypatch):
    monkeypatch.setattr("inference.cli.SESSIONS_PER_CHUNK", 4)
    monkeypatch.setattr("inference.command.progress.SECONDS_BETWEEN_LINES", 0.0)
    path = tmp_path / "many.txt"
    path.write_text("7 007\n" * 10)
    code, out, err = infer("--format", "jsonl", "--top-k", 1, session=path)
    assert (code, out.count("\n")) == (0, 10)
    assert [line.split()[1] for line in err.splitlines()] == ["4", "8", "10"]
    assert "100% of the input" in err


def test_a_bar_is_drawn_on_a_terminal_and_taken_away(monkeypatch, capsys):
    from inference.command.progress import report_progress

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("inference.command.progress.SECONDS_BEFORE_BAR", 0.0)
    with report_progress(print, has_terminal=True) as report:
        report(5, 0.5)
        report(10, None)
    assert "━" in terminal.getvalue()
    assert "10 sessions" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[2K")  # the line is erased
    assert capsys.readouterr().out == ""


def test_an_interrupt_is_exit_code_130_and_leaves_no_file(model, tmp_path):
    output = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "inference.cli", "--model", model, "--session", "-", "--output", output]
    with subprocess.Popen(
        list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        for _ in range(600):
            if list(tmp_path.glob("*.partial")):
                break
            time.sleep(0.05)
        time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=60) == 130
        assert b"Traceback" not in running.stderr.read()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line_and_exit_code_2(model, sessions):
    arguments = ("--model", model, "--session", sessions, "--top-k", 2)
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "inference.cli", *map(str, arguments)],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    to_file = process(*arguments, "--output", "/dev/full")
    for code, err in ((result.returncode, result.stderr), (to_file.returncode, to_file.stderr)):
        assert code == 2
        assert b"No space left" in err
        assert err.count(b"\n") == 1


@pytest.mark.skipif(not os.path.exists("/proc/self/fd/1"), reason="this system does not name open files")
def test_standard_output_by_another_name_is_written_to_and_left_where_it_is(model, sessions, tmp_path):
    link, output = tmp_path / "link.csv", tmp_path / "output"
    link.symlink_to("/proc/self/fd/1")
    with open(output, "wb") as file:
        file.write(b"before\n")
        file.flush()
        command = [sys.executable, "-m", "inference.cli", "--model", model, "--session", sessions, "--output", link]
        result = subprocess.run([*map(str, command), "--top-k", "1"], stdout=file, stderr=subprocess.PIPE, check=False)
    assert result.returncode == 0
    assert link.is_symlink()
    assert output.read_text().splitlines()[:2] == ["before", "session,rank,item,score,known_clicks"]


def closed(descriptor, *arguments):
    program = f"import os, sys; os.close({descriptor}); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    command = [sys.executable, "-c", program, "-m", "inference.cli", *map(str, arguments)]
    return subprocess.run(command, input=b"", capture_output=True, check=False)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="closes descriptors as POSIX has them")
def test_a_closed_standard_stream_is_one_line_where_it_is_needed(model, sessions, tmp_path):
    scored = ("--model", model, "--top-k", 1, "--session")
    result = closed(0, *scored, "-")
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr == b"gru4rec-infer: cannot read standard input, it is closed; name a file\n"
    result = closed(1, *scored, sessions)
    assert result.returncode == 2
    assert b"standard output, it is closed; name a file with --output" in result.stderr
    assert result.stderr.count(b"\n") == 1
    result = closed(1, *scored, sessions, "--output", tmp_path / "out.csv")
    assert (result.returncode, result.stderr.count(b"\n")) == (0, 1)
    result = closed(2, *scored, sessions, "--format", "csv")
    assert (result.returncode, result.stdout) == (0, (tmp_path / "out.csv").read_bytes())


def test_help_has_examples_and_version_a_number(capsys):
    for argument, expected in (("--help", "examples:"), ("--version", "gru4rec-infer 0.")):
        with pytest.raises(SystemExit) as left:
            main([argument])
        assert left.value.code == 0
        assert expected in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_loads_nothing_of_training_and_nothing_built_with_rust(model, sessions):
    program = """
import importlib.metadata, sys
from inference.cli import main
assert main(sys.argv[1:]) == 0
loaded = {name.split(".")[0] for name in sys.modules}
assert not {"torch", "polars", "ray", "onnx", "gru4rec", "tune"} & loaded, loaded
for module, distributions in importlib.metadata.packages_distributions().items():
    for distribution in distributions if module in loaded else ():
        wheel = importlib.metadata.distribution(distribution).read_text("WHEEL") or ""
        assert "maturin" not in wheel and "setuptools-rust" not in wheel, distribution
"""
    for output_format in ("table", "jsonl", "csv"):
        arguments = ["--model", model, "--session", sessions, "--top-k", 2, "--format", output_format]
        command = [sys.executable, "-c", program, *map(str, arguments)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
