"""What a user installs: the base is for scoring alone, and small."""

import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, version

import pytest
import yaml
from packaging.requirements import Requirement

from tests.support.paths import ROOT


def base_distributions() -> dict[str, str]:
    """Every distribution that a base install brings, with the text of its WHEEL file."""
    found: dict[str, str] = {}
    waiting = [Requirement(text) for text in distribution("gru4rec").requires or []]
    while waiting:
        requirement = waiting.pop()
        if requirement.name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        installed = distribution(requirement.name)
        found[requirement.name] = installed.read_text("WHEEL") or ""
        waiting += [Requirement(text) for text in installed.requires or []]
    return found


def test_base_install_is_small_and_holds_nothing_built_in_rust():
    found = base_distributions()
    assert {"numpy", "rich", "filelock"} < set(found)
    assert {"onnxruntime", "onnxruntime-gpu"} & set(found)
    assert not {"torch", "polars", "ray", "onnx", "cyclopts"} & set(found)
    for name, wheel in found.items():
        assert wheel, name
        assert "maturin" not in wheel.lower(), name
        assert "setuptools-rust" not in wheel.lower(), name


def test_exactly_one_onnxruntime_is_asked_for_on_every_platform():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    runtimes = [Requirement(text) for text in declared if text.startswith("onnxruntime")]
    for system, machine, gpu in [
        ("linux", "x86_64", True),
        ("linux", "aarch64", False),
        ("win32", "AMD64", True),
        ("win32", "ARM64", False),
        ("darwin", "arm64", False),
        ("darwin", "x86_64", False),
    ]:
        where = {"sys_platform": system, "platform_machine": machine}
        chosen = [requirement.name for requirement in runtimes if requirement.marker.evaluate(where)]
        assert chosen == (["onnxruntime-gpu"] if gpu else ["onnxruntime"]), (system, machine)


@pytest.mark.parametrize("missing", ["cyclopts", "torch", "polars"])
def test_training_command_without_its_extra_says_which_one_to_install(missing, tmp_path):
    code = f"import sys; sys.modules[{missing!r}] = None\nfrom gru4rec.cli import main; sys.exit(main())"
    (tmp_path / "log.tsv").write_text("SessionId\tItemId\tTime\n1\ta\t1\n1\tb\t2\n")
    command = [sys.executable, "-c", code, "train", "--train", str(tmp_path / "log.tsv"), "--out", str(tmp_path / "m")]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr == "error: this command needs the training packages: pip install '.[train]' in its folder\n"


def test_commands_and_types_are_installed():
    scripts = {point.name: point.value for point in distribution("gru4rec").entry_points}
    assert scripts == {"gru4rec": "gru4rec.cli:main", "gru4rec-infer": "inference.cli:main"}
    for package in ("gru4rec", "tune", "inference"):
        assert (ROOT / package / "py.typed").exists()


def test_constraints_pin_the_packages_that_results_depend_on():
    pins = dict(
        line.split("==")
        for line in (ROOT / "tests" / "constraints.txt").read_text().splitlines()
        if "==" in line and line[0] != "#"
    )
    assert pins["torch"] == "2.13.0"
    for name in ("numpy", "onnx", "ray", "optuna", "polars", "ruff", "mypy", "pytest"):
        try:
            assert version(name) == pins[name], name
        except PackageNotFoundError:
            pytest.fail(f"{name} is pinned but not installed")


def test_commit_hooks_are_checks_of_the_test_script():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    script = (ROOT / "tests" / "run.sh").read_text()
    assert {hook["id"] for hook in hooks} == {"ruff-check", "ruff-format", "mypy"}
    for hook in hooks:
        assert hook["language"] == "system"  # the pinned tools, and no environment of the hook's own
        assert hook["entry"].replace(" --force-exclude", "") in script
