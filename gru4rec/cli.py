"""The command line of the trainer: which subcommands there are. Each is a module of `gru4rec.commands`.

Everything heavy (torch, polars) is imported inside the commands, so that help is there at
once.
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

from gru4rec.commands.terminal import examples, our_version, run_app  # noqa: E402

app = App(
    name="gru4rec",
    help="Session-based recommendations with GRU4Rec: from a click log to a model for gru4rec-infer.",
    help_epilogue=examples(
        "gru4rec synth --out clicks.tsv",
        "gru4rec prepare clicks.tsv --out data",
        "gru4rec train --train data --valid data --out model --loss bpr-max --n-epochs 5",
        "gru4rec evaluate model --test data",
        "gru4rec export model --out model.onnx",
        "gru4rec-infer --model model.onnx --session clicks.tsv --group",
    ),
    help_format="plaintext",
    version=our_version,
)
app.command(
    "gru4rec.commands.synth:synth",
    name="synth",
    sort_key=1,
    help="Make a realistic click log, for trying things out.",
    help_epilogue=examples(
        "gru4rec synth --out clicks.tsv",
        "gru4rec synth --out large.parquet --events 5000000 --items 50000 --seed 2",
    ),
)
app.command(
    "gru4rec.commands.prepare:prepare",
    name="prepare",
    sort_key=2,
    help="Turn a raw event log into training, validation and test files.",
    help_epilogue=examples(
        "gru4rec prepare raw.csv.gz --out data",
        "gru4rec prepare 'logs/*.parquet' --out data --user-column user",
        "gru4rec prepare yoochoose-clicks.dat --out data --preset rsc15",
    ),
)
app.command(
    "gru4rec.commands.audit:audit",
    name="audit",
    sort_key=3,
    help="Look for what is wrong with a click log, and with the evaluation on its test.",
    help_epilogue=examples(
        "gru4rec audit clicks.tsv",
        "gru4rec audit data/train.parquet --test data/test.parquet --strict",
    ),
)
app.command(
    "gru4rec.commands.train:train",
    name="train",
    sort_key=4,
    help="Train a model on a click log.",
    help_epilogue=examples(
        "gru4rec train --train clicks.tsv --out model --loss bpr-max --layers 224",
        "gru4rec train --train data --valid data --out model --batching whole-session",
        "gru4rec train --train data --out model --config search/best.toml",
        "gru4rec train --train newer.tsv --out newer_model --init model",
    ),
)
app.command(
    "tune.search:run",
    name="search",
    sort_key=5,
    help="Search for the best model with Ray Tune, train it on all of the log and export it.",
    help_epilogue=examples(
        "gru4rec search --train data --out search",
        "gru4rec search --train clicks.tsv --out search --loss bpr-max --layers 100,200 --epochs 5",
    ),
)
app.command(
    "gru4rec.commands.evaluate:evaluate",
    name="evaluate",
    sort_key=6,
    help="Recall, MRR and more on a test log, every item ranked; beside simple baselines and another model.",
    help_epilogue=examples(
        "gru4rec evaluate model --test test.parquet",
        "gru4rec evaluate model.onnx --test test.parquet --json figures.json",
        "gru4rec evaluate model --test test.parquet --baselines train.parquet",
        "gru4rec evaluate model --test test.parquet --versus other_model",
    ),
)
app.command(
    "gru4rec.commands.export:export",
    name="export",
    sort_key=7,
    help="Write a model as one self-contained ONNX file, checked against torch before it appears.",
    help_epilogue=examples(
        "gru4rec export model --out model.onnx",
        "gru4rec export model --out model.onnx --scan int8 --calibration sessions.tsv",
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `gru4rec`; gives the exit code."""
    if "" not in sys.path:
        sys.path.insert(0, "")  # plug-ins of the present folder, as with `python -m gru4rec.cli`
    try:
        return run_app(app, arguments)
    except ModuleNotFoundError as missing:
        if missing.name not in TRAINING_PACKAGES:
            raise
        sys.stderr.write(TRAINING_PACKAGES_MISSING)
        return 2


if __name__ == "__main__":
    sys.exit(main())
