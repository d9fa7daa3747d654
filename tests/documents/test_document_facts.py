"""What the documents say of parameters, messages and figures is what the code and the README say."""

import ast
import dataclasses
import re

import pytest

from gru4rec.config.train_config import (
    BATCHING_DEFAULTS,
    FIELD_NAMES,
    SESSION_PARALLEL,
    WHOLE_SESSION,
    TrainConfig,
)
from gru4rec.model.losses import LOSSES
from tests.support.document_blocks import DOCUMENTS
from tests.support.paths import ROOT

pytestmark = pytest.mark.documents

PARAMETERS = (ROOT / "gru4rec" / "config" / "README.md").read_text(encoding="utf-8")
TROUBLESHOOTING = (ROOT / "examples" / "TROUBLESHOOTING.md").read_text(encoding="utf-8")
ROWS = {row[0].strip("`"): row for row in (
    [cell.strip() for cell in line.strip("| ").split("|")] for line in re.findall(r"^\| `.*$", PARAMETERS, re.MULTILINE)
)}  # fmt: skip
"""Of the table of parameters: field, official name, the two defaults, what is accepted."""
MESSAGES = re.findall(r"^\*\*`(.+?)`\*\*", TROUBLESHOOTING, re.MULTILINE)


def default(name, batching):
    """The default of a field as the document writes it."""
    value = getattr(TrainConfig(batching=batching), name)
    if name == "batching":
        value = TrainConfig().batching
    if name == "logq":
        value = LOSSES["cross-entropy"].logq(TrainConfig(batching=batching))
    if value is None:
        loss = next((loss for loss in LOSSES.values() if name in loss.options), None)
        cosine = BATCHING_DEFAULTS[batching]["score"] == "cosine"
        given = {} if loss is None else {**loss.options, **(loss.cosine_defaults if cosine else {})}
        value = given.get(name, "–" if name == "temperature" else 0)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return "/".join(map(str, value)) or "none" if isinstance(value, (tuple, dict)) else str(value)


def test_the_table_of_parameters_has_every_field():
    assert sorted(ROWS) == sorted(FIELD_NAMES)


@pytest.mark.parametrize("name", FIELD_NAMES)
def test_defaults_of_a_parameter_are_those_of_the_code(name):
    assert ROWS[name][2:4] == [default(name, SESSION_PARALLEL), default(name, WHOLE_SESSION)]


@pytest.mark.parametrize("item", dataclasses.fields(TrainConfig), ids=lambda item: item.name)
def test_accepted_values_of_a_parameter_are_those_of_the_code(item):
    accepted = ROWS[item.name][4]
    if "choices" in item.metadata:
        assert set(accepted.split(", ")) == set(item.metadata["choices"])
    elif "low" in item.metadata:
        low, high = accepted.replace(",", "").split(" … ")
        bound = "below" if high.startswith("below ") else "high"
        assert float(low) == item.metadata["low"]
        assert float(high.removeprefix("below ")) == float(item.metadata[bound])


@pytest.mark.parametrize("name", FIELD_NAMES)
def test_every_parameter_is_explained_below_the_table(name):
    explained = PARAMETERS.partition("## What each does")[2]
    assert f"`{name}`" in explained


def test_fields_that_the_official_code_has_are_called_as_there():
    assert all(row[1] in (f"`{name}`", "–") for name, row in ROWS.items())


@pytest.fixture(scope="module")
def said():
    """All texts in our code but its documentation, with … in the place of values, and single spaces."""
    packages = [ROOT / name for name in ("gru4rec", "tune", "inference")]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for package in packages for file in package.rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    documentation = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = [as_text(node) for node in nodes if id(node) not in documentation]
    return [" ".join(text.split()) for text in texts if text is not None]


def as_text(node):
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return None


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_that_is_explained_can_really_be_met(message, said):
    pattern = re.compile(".*?".join(re.escape(part.strip("' ")) for part in message.split("…")))
    assert any(pattern.search(text) for text in said), message


def test_the_document_on_trouble_explains_a_dozen_messages():
    assert 10 <= len(MESSAGES) == len(set(MESSAGES))


MEASURED = ("README.md", "examples/benchmarks/RESULTS.md", "examples/benchmarks/ABLATIONS.md", "examples/README.md")
"""The documents in which a figure stands next to the command that measures it."""


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name not in MEASURED and "benchmarks" not in name])
def test_what_was_measured_stands_where_its_command_stands(name):
    measured = [(ROOT / path).read_text(encoding="utf-8") for path in MEASURED]
    figures = re.findall(r"(?<!\d)\.\d{4}\b", (ROOT / name).read_text(encoding="utf-8"))
    assert [figure for figure in figures if figure not in "".join(measured)] == []
