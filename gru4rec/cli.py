"""The command line `gru4rec`: its subcommands, each a function of `gru4rec.commands` or `tune.search`.

Their modules, and torch and polars with them, are imported when the command runs, so that help appears at once.
"""

import sys
from collections.abc import Sequence

TRAINING_PACKAGES = ("torch", "polars", "onnx", "tomli_w")
TRAINING_PACKAGES_MISSING = "error: this command needs the training packages: pip install '.[train]' in its folder\n"

try:
    from cyclopts import App
except ImportError:  # the base install only scores
    sys.stderr.write(TRAINING_PACKAGES_MISSING)
    raise SystemExit(2) from None

from gru4rec.commands.terminal import format_examples, installed_version, run_app  # noqa: E402

COMMANDS = (
    (
        "gru4rec.commands.synth:synth",
        "Write a realistic synthetic click log.",
        "gru4rec synth --out clicks.tsv",
        "gru4rec synth --out large.parquet --events 5000000 --items 50000 --seed 2",
    ),
    (
        "gru4rec.commands.prepare:prepare",
        "Turn a raw event log into training, validation and test files.",
        "gru4rec prepare raw.csv.gz --out data",
        "gru4rec prepare 'logs/*.parquet' --out data --user-column user",
        "gru4rec prepare yoochoose-clicks.dat --out data --preset rsc15",
    ),
    (
        "gru4rec.commands.audit:audit",
        "Check a click log, and the evaluation on its test log, for faults.",
        "gru4rec audit clicks.tsv",
        "gru4rec audit data/train.parquet --test data/test.parquet --strict",
    ),
    (
        "gru4rec.commands.train:train",
        "Train a model on a click log.",
        "gru4rec train --train clicks.tsv --out model --loss bpr-max --layers 224",
        "gru4rec train --train data --valid data --out model --batching whole-session",
        "gru4rec train --train data --out model --config search/best.toml",
        "gru4rec train --train newer.tsv --out newer_model --init model",
    ),
    (
        "tune.search:run",
        "Search for the best model with Ray Tune, train it on the whole log and export it.",
        "gru4rec search --train data --out search",
        "gru4rec search --train clicks.tsv --out search --loss bpr-max --layers 100,200 --epochs 5",
    ),
    (
        "gru4rec.commands.evaluate:evaluate",
        "Recall, MRR and more on a test log, with every item ranked; simple baselines and another model to compare.",
        "gru4rec evaluate model --test test.parquet",
        "gru4rec evaluate model.onnx --test test.parquet --json figures.json",
        "gru4rec evaluate model --test test.parquet --baselines train.parquet",
        "gru4rec evaluate model --test test.parquet --versus other_model",
    ),
    (
        "gru4rec.commands.export:export",
        "Write a model as one self-contained ONNX file, checked against torch first.",
        "gru4rec export model --out model.onnx",
        "gru4rec export model --out model.onnx --scan int8 --calibration sessions.tsv",
    ),
)
"""In the order of the help: the function, its help and examples."""

app = App(
    name="gru4rec",
    help="Session-based recommendations with GRU4Rec: from a click log to a model for gru4rec-infer.",
    help_epilogue=format_examples(
        "gru4rec synth --out clicks.tsv",
        "gru4rec prepare clicks.tsv --out data",
        "gru4rec train --train data --valid data --out model --loss bpr-max --n-epochs 5",
        "gru4rec evaluate model --test data",
        "gru4rec export model --out model.onnx",
        "gru4rec-infer --model model.onnx --session clicks.tsv --group",
    ),
    help_format="plaintext",
    version=installed_version,
)
for number, (function, about, *examples) in enumerate(COMMANDS):
    name = "search" if function.startswith("tune") else function.partition(":")[2]
    app.command(function, name=name, sort_key=number, help=about, help_epilogue=format_examples(*examples))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `gru4rec`; returns the exit code."""
    if "" not in sys.path:
        sys.path.insert(0, "")  # plug-ins in the current folder, as with `python -m gru4rec.cli`
    try:
        return run_app(app, arguments)
    except ModuleNotFoundError as missing:
        if missing.name not in TRAINING_PACKAGES:
            raise
        sys.stderr.write(TRAINING_PACKAGES_MISSING)
        return 2


if __name__ == "__main__":
    sys.exit(main())
