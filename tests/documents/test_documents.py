"""The documents keep their promises: every block in them runs, or is held against the parser that would read it.

A document's blocks are gone through in their order, in a copy of one folder with small logs and models. What a block is
follows from its form (`document_blocks`):

* commands are run, with small overrides (SMALL); where they take hours, machines or data of others, the parser of
  the program reads their flags (the search, the scripts in examples/), or they stand in ELSEWHERE with the reason;
  of the searches one of each kind (SEARCHES) is run as well, by a test of its own;
* other indented lines are what the commands before them show, and have to be found there, numbers aside (or a PICTURE);
* ```python is run, ```toml is read by what the commands after it do; a first line `# name` names a file to be kept;
* ```text is for the eye: formulas and maps.
"""

import argparse
import gzip
import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import polars as pl
import pytest

from gru4rec.cli import app as trainer
from gru4rec.cli import main as gru4rec
from gru4rec.commands.config_flags import read_flags
from gru4rec.config.files import parse_config
from gru4rec.config.train_config import merge
from gru4rec.model.losses import LOSSES
from gru4rec.training.samplers import SAMPLERS
from inference.cli import main as infer
from tests.support.document_blocks import DOCUMENTS, prose_and_blocks, without_assignments
from tests.support.paths import ROOT
from tune.search import app as search_app
from tune.search import main as search_main
from tune.space.builder import build_space
from tune.space.flags import SpaceFlags

pytestmark = pytest.mark.documents

SMALL = {
    "synth": {"--events": "3000", "--items": "300"},
    "train": {"--layers": "8", "--n-sample": "16", "--n-epochs": "1"},
}
"""Flags that are set, or set otherwise, so that a command of `gru4rec` takes a moment."""
LOG = "--train data --valid data"
SEARCHES = {
    "README.md": [f"{LOG} --out search"],
    "tune/README.md": [
        f"{LOG} --out search --space space.toml --learning-rate 0.02..0.1",
        f"{LOG} --out search --batching whole-session --trials 40 --time-budget 2h",
        f"{LOG} --out study --grid loss n_sample --n-sample 0,512,2048 --repeats 3",
    ],
}
"""Searches that are run, a small one of each kind, by the document in which they are."""
SMALL_SEARCH = {"--trials": "2", "--epochs": "1"}
SMALL_GRID = {"--loss": "cross-entropy,bpr-max", "--n-sample": "0,16", "--repeats": "1", "--epochs": "1"}
SMALL_MODELS = {"--layers": "8", "--n-sample": "16", "--batch-size": "64", "--threads": "1", "--cpus-per-trial": "2"}
"""Flags for a search that does not set them itself; of two processors a trial leaves none for a second process."""
ELSEWHERE = {
    "bash examples/quickstart.sh": "installs; run by test_quickstart.py",
    "bash tests/run.sh": "is what runs this",
    "bash tests/run.sh fast": "is what runs this",
    "bash tests/run.sh tests/training": "is what runs this",
    "bash tests/run.sh tests/test_fidelity.py": "is what runs this; other recorded runs are the reader's",
    "git clone …": "needs a network",
    "cd gru4rec": "goes with the clone",
    "python3 -m venv .venv": "makes an environment",
    ".venv/bin/pip install torch --index-url https://download.pytorch.org/whl/cpu": "needs a network",
    ".venv/bin/ruff format .": "changes the project; tests/run.sh checks the format",
}
"""Commands that are not run here, and why; the files that they name have to exist."""
PICTURE = re.compile(r"─+►")
FLAGS_OF_OTHERS = {
    *("--index-url", "--logdir", "--follow"),  # pip, tensorboard, ray
    *("--parameter_file", "--parameter_string", "--save_model", "--load_model", "--measure", "--eval_type"),
    *("--sample_store_size", "--gru4rec_model", "--fixed_parameters", "--optuna_parameter_file"),
    *("--ntrials", "--final_measure"),  # of the authors' code
}
OFFICIAL_FILE = """from collections import OrderedDict
gru4rec_params = OrderedDict([
('loss', 'bpr-max'), ('constrained_embedding', True), ('embedding', 0), ('elu_param', 0.5), ('layers', [224]),
('n_epochs', 10), ('batch_size', 80), ('momentum', 0.4), ('n_sample', 2048), ('bpreg', 1.95), ('logq', 0.0)])
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with all that the documents' commands read."""
    folder = tmp_path_factory.mktemp("documents")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert gru4rec(["synth", "--out", "clicks.tsv", "--events", "12000", "--items", "2000"]) == 0
        log = pl.read_csv("clicks.tsv", separator="\t", infer_schema=False)
        with gzip.open("raw.tsv.gz", "wb") as file:
            log.write_csv(file, separator="\t")
        with gzip.open("raw.csv.gz", "wb") as file:
            log.write_csv(file)
        assert gru4rec(["prepare", "raw.tsv.gz", "--out", "data", "--test-days", "3"]) == 0
        for part in ("train", "valid", "test"):
            shutil.copy(f"data/{part}.parquet", ".")
            pl.read_parquet(f"{part}.parquet").write_csv(f"{part}.tsv", separator="\t")
        shutil.copy("test.parquet", "recent.parquet")
        (folder / "retailrocket_bprmax_shared_best.py").write_text(OFFICIAL_FILE)
        for model, seed in (("model", "1"), ("other_model", "2")):
            run = ["train", "--train", "train.parquet", "--out", model, "--seed", seed]
            assert gru4rec([*run, "--layers", "8", "--n-sample", "16", "--n-epochs", "1"]) == 0
        assert gru4rec(["export", "model", "--out", "model.onnx"]) == 0
        (folder / "search").mkdir()
        shutil.copy("model.onnx", "search/model.onnx")
        one, two = log["ItemId"].unique(maintain_order=True)[:2]
        (folder / "sessions.jsonl").write_text(json.dumps({"session": "a", "items": [one, two]}))
        (folder / "clicks.jsonl").write_text(json.dumps({"session": "a", "item": one}))
        for name in ("sold-out.txt", "in-this-shop.txt"):
            (folder / name).write_text(f"{two}\n")
        (folder / "examples").symlink_to(ROOT / "examples")
    return folder


@pytest.fixture
def folder(inputs, tmp_path, monkeypatch):
    """A copy of it to work in; what a plug-in in it registers is forgotten afterwards."""
    copy = shutil.copytree(inputs, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(copy)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    registered, modules = (set(LOSSES), set(SAMPLERS)), set(sys.modules)
    yield copy
    for registry, names in zip((LOSSES, SAMPLERS), registered, strict=True):
        for name in set(registry) - names:
            del registry[name]
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith((str(copy), str(ROOT / "examples"))):
            del sys.modules[name]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_block_of_a_document_does_what_it_says(name, folder, capsys, monkeypatch):
    shown, was_run = "", []
    for block in prose_and_blocks(name)[1]:
        if block.kind == "commands":
            was_run = [run(without_assignments(command), block.place, monkeypatch) for command in block.commands()]
        elif block.kind == "python":
            file = folder / (name_of_file(block.text) or "block.py")
            file.write_text(block.text)
            runpy.run_path(str(file))
        elif block.kind == "toml":
            assert name_of_file(block.text), f"{block.place}: expected a first line with the file's name"
            (folder / name_of_file(block.text)).write_text(block.text)
            parse_config(folder / name_of_file(block.text))
        elif block.kind == "shown":
            if any(was_run) and not PICTURE.search(block.text):
                assert_shown(block.text, shown, block.place)
        else:
            assert block.kind == "text", f"{block.place}: nothing here knows a block of the kind {block.kind!r}"
        said = capsys.readouterr()
        shown += said.out + said.err


def name_of_file(text):
    found = re.match(r"# (\S+\.(?:py|toml))\n", text)
    return found and found[1]


def run(command, place, monkeypatch):
    """Do what a command says, or read it with the program's own parser. Returns whether it was run."""
    match command:
        case ["gru4rec", *words]:
            out = words[words.index("--out") + 1] if "--out" in words else None
            if out and "--resume" not in words:
                remove(out)  # sections stand for themselves and call their results alike
            assert gru4rec(with_flags(words, SMALL.get(words[0], {}))) == 0, place
            return True
        case ["gru4rec-infer", *words]:
            assert infer(words) == 0, place
            return True
        case ["python", "-m", "tune.search", *words]:
            parse_search(words)
        case ["python", script, *words] if script.startswith("examples/"):
            assert parse_script(script, words, monkeypatch), place
        case _:
            assert " ".join(command) in ELSEWHERE, f"{place}: nothing here knows how to try {command}"
            files = [word for word in command if word.startswith(("tests/", "examples/"))]
            assert all((ROOT / file).exists() for file in files), place
    return False


def remove(path):
    if Path(path).is_dir():
        shutil.rmtree(path)
    Path(path).unlink(missing_ok=True)


def with_flags(words, flags):
    """A command line with these flags, in the place of its own of the same names."""
    kept = [
        word
        for number, word in enumerate(words)
        if word not in flags and (number == 0 or words[number - 1] not in flags)
    ]
    return kept + [word for pair in flags.items() for word in pair]


def parse_search(words):
    """Read the flags of a search as it would, its files and its space included."""
    _, bound, _ = search_app.parse_args(words, exit_on_error=False, print_error=False)
    settings = bound.arguments["settings"]
    for file in (settings.train, settings.valid, settings.test, settings.space):
        assert file is None or file.exists(), file
    for plugin in settings.plugins:
        __import__(plugin)
    flags = read_flags(bound.arguments.get("space_flags", SpaceFlags()))
    values = merge(parse_config(settings.space) if settings.space else {}, flags)
    build_space(values, n_epochs=settings.epochs, seed=1, plugins=settings.plugins, grid=settings.grid_keys)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "search"), [(name, search) for name in SEARCHES for search in SEARCHES[name]])
def test_a_search_of_a_document_finds_a_model_to_recommend_with(name, search, ray_here, folder):
    blocks = prose_and_blocks(name)[1]
    commands = [command for block in blocks if block.kind == "commands" for command in block.commands()]
    words = search.split()
    assert ["python", "-m", "tune.search", *words] in commands, "it is no longer in the document"
    for block in blocks:
        if block.kind == "toml":
            (folder / name_of_file(block.text)).write_text(block.text)
    flags = {flag: value for flag, value in SMALL_MODELS.items() if flag not in words}
    flags |= SMALL_GRID if "--grid" in words else SMALL_SEARCH
    out = words[words.index("--out") + 1]
    remove(out)
    assert search_main(with_flags(words, flags)) == 0
    model = folder / out / "model.onnx"
    assert infer(["--model", str(model), "--session", "sessions.jsonl", "--top-k", "1"]) == 0


class Parsed(BaseException):
    """A script has read its arguments, which is all that is asked of it."""


def parse_script(script, words, monkeypatch):
    """Whether a script takes these arguments."""
    ours, _, of_search = " ".join(words).partition(" -- ")
    if of_search:
        parse_search(["--train=train.parquet", "--out=search", *of_search.split()])
    original = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser, *arguments):
        raise Parsed(original(parser, *arguments))

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
        patch.setattr(sys, "argv", [script, *ours.split()])
        patch.setattr(sys, "path", [str((ROOT / script).parent), *sys.path])
        try:
            runpy.run_path(script)["main"]()
        except Parsed:
            return True
    return False


def assert_shown(text, shown, place):
    """Hold lines of a document against what commands showed: all but numbers alike, and anything where it has `…`."""
    rest = without_numbers(shown)
    for part in filter(None, map(str.strip, without_numbers(text).split("…"))):
        _, found, rest = rest.partition(part)
        assert found, f"{place}: no command before shows {part!r}, or only before what is above it"


def without_numbers(text):
    return re.sub(r"[-+]?\d+(?:[.,:-]\d+)*", "#", " ".join(text.split()))


def test_the_quickstart_in_python_recommends_items_of_the_log(folder, capsys):
    (quickstart,) = (block.text for block in prose_and_blocks("README.md")[1] if "GRU4Rec(" in block.text)
    (folder / "quickstart.py").write_text(quickstart)
    runpy.run_path("quickstart.py")
    recommended, metrics = capsys.readouterr().out.strip().splitlines()
    assert "'mrr@20'" in metrics
    assert recommended.count("item-") == 5
    log = Path("clicks.tsv").read_text()
    assert all(item in log for item in re.findall(r"item-\d+", quickstart + recommended))


def test_commands_that_are_not_run_here_are_still_in_a_document():
    blocks = [block for name in DOCUMENTS for block in prose_and_blocks(name)[1] if block.kind == "commands"]
    commands = {" ".join(without_assignments(command)) for block in blocks for command in block.commands()}
    assert set(ELSEWHERE) <= commands


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_flag_that_a_document_mentions_exists(name):
    parsers = [
        *(trainer[command] for command in ("synth", "prepare", "audit", "train", "evaluate", "export")),
        search_app,
    ]
    known = {flag for parser in parsers for item in parser.assemble_argument_collection() for flag in item.names}
    scripts = [ROOT / "inference" / "command" / "arguments.py", *(ROOT / "examples").rglob("*.py")]
    known |= {flag for script in scripts for flag in re.findall(r'"(--[a-z-]+)"', script.read_text())}
    known |= {"--help", "--version"}
    spans = " ".join(re.findall(r"`([^`]+)`", prose_and_blocks(name)[0]))
    mentioned = set(re.findall(r"(?<!\S)(--[a-z][a-z0-9_-]*)", spans))
    assert mentioned - known - FLAGS_OF_OTHERS == set()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_to_files_and_sections_that_exist(name):
    folder = (ROOT / name).parent
    for target, _, section in re.findall(r"\]\((?!https?:)([^)#]*)(#([^)]+))?\)", prose_and_blocks(name)[0]):
        file = folder / target if target else ROOT / name
        assert file.exists(), target
        if section:
            titles = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert section in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles], section


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_document_names_a_place_on_a_machine_of_ours(name):
    text = (ROOT / name).read_text()
    assert not re.search(r"(?<![\w.:/])/(?:home|root|tmp|work|usr|mnt)/", text)
