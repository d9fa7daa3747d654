"""The README keeps its promises: its code runs, and its map of the project is that of the disk."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gru4rec.cli import main

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON_BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def log_folder(tmp_path):
    """A folder with a small clicks.tsv."""
    assert main(["synth", "--out", str(tmp_path / "clicks.tsv"), "--events", "12000", "--items", "2000"]) == 0
    return tmp_path


def test_python_quickstart_runs(log_folder):
    (quickstart,) = (block for block in PYTHON_BLOCKS if "Recommender" in block)
    ended = subprocess.run([sys.executable, "-c", quickstart], cwd=log_folder, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    metrics, recommendations = ended.stdout.strip().splitlines()
    assert "'mrr@20'" in metrics
    log = (log_folder / "clicks.tsv").read_text()
    assert all(item in log for item in re.findall(r"item-\d+", quickstart))
    assert recommendations.count("item-") == 5


def test_loss_of_the_readme_trains(log_folder):
    (loss,) = (block for block in PYTHON_BLOCKS if "register_loss" in block)
    (log_folder / "my_losses.py").write_text(loss)
    (command,) = re.findall(r"^    (gru4rec train .*my_losses.*)$", TEXT, re.MULTILINE)
    small = ["--layers", "8", "--n-sample", "16", "--n-epochs", "1"]
    run = [str(Path(sys.executable).with_name("gru4rec")), *command.split()[1:], *small]
    ended = subprocess.run(run, cwd=log_folder, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert 'loss = "hinge"' in (log_folder / "model" / "config.toml").read_text()


def test_file_tree_is_that_of_the_disk():
    (tree,) = re.findall(r"^```text\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    listed: dict[str, set[str]] = {}
    folder = ""
    for line in tree.splitlines():
        name = line.split()[0] if line.strip() else ""
        if line.startswith("  ") and name.endswith((".py", ".md", ".sh")):
            listed[folder].add(name)
        elif name.endswith("/"):
            folder = name.rstrip("/")
            listed[folder] = set()
    for folder, names in listed.items():
        on_disk = {path.name for path in (ROOT / folder).iterdir() if path.suffix in (".py", ".md", ".sh")}
        assert names == on_disk - {"__init__.py", "__main__.py"}, folder
    assert {"gru4rec", "tune", "inference", "examples"} <= set(listed)


def test_links_lead_to_files_that_exist():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target
