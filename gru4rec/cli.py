"""The command line of the trainer: synth, prepare, audit, train, evaluate, export.

Only this module prints. Everything heavy (torch, polars) is imported inside the commands, so that help is there at
once.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from inference.errors import UserError

if TYPE_CHECKING:
    from gru4rec.events import Columns

TRAINING_PACKAGES = ("torch", "polars", "onnx", "tomli_w", "filelock")
TRAINING_PACKAGES_MISSING = "error: this command needs the training packages: pip install '.[train]' in its folder\n"

try:
    from cyclopts import App, Parameter
except ImportError:  # the base install only scores
    sys.stderr.write(TRAINING_PACKAGES_MISSING)
    raise SystemExit(2) from None

from gru4rec.command_line import ProgressLines, examples, our_version, run_app, use_threads  # noqa: E402
from gru4rec.flags import ConfigFlags, configuration  # noqa: E402

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

SessionColumn = Annotated[str, Parameter(help="name of the column with the session ids")]
ItemColumn = Annotated[str, Parameter(help="name of the column with the item ids")]
TimeColumn = Annotated[str, Parameter(help="name of the column with the times")]
Flags = Annotated[ConfigFlags, Parameter(name="*", group="Configuration")]  # type: ignore[valid-type]
NO_FLAGS = ConfigFlags()
Threads = Annotated[int | None, Parameter(help="CPU threads; results are repeatable for the same number")]


@app.command(
    sort_key=1,
    help_epilogue=examples(
        "gru4rec synth --out clicks.tsv",
        "gru4rec synth --out large.parquet --events 5000000 --items 50000 --seed 2",
    ),
)
def synth(*, out: Path, events: int = 100_000, items: int = 2_000, seed: int = 0) -> None:
    """Make a realistic click log, for trying things out.

    Args:
        out: the file to write; .parquet, .csv, or tab-separated otherwise
        events: clicks, about that many
        items: size of the catalogue
        seed: another seed, another log
    """
    from gru4rec.event_files import system_errors
    from gru4rec.synth import synthesize
    from inference.atomic import written_file

    log = synthesize(events, items, seed)
    with written_file(out) as file, system_errors():
        if out.suffix == ".parquet":
            log.write_parquet(file)
        else:
            log.write_csv(file, separator="," if out.suffix == ".csv" else "\t")
    print(f"{out}: {log.height:,} clicks, {log['SessionId'].n_unique():,} sessions, {log['ItemId'].n_unique():,} items")


app.command(
    "gru4rec.prepare_command:prepare",
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
    "gru4rec.audit_command:audit",
    name="audit",
    sort_key=3,
    help="Look for what is wrong with a click log, and with the evaluation on its test.",
    help_epilogue=examples(
        "gru4rec audit clicks.tsv",
        "gru4rec audit data/train.parquet --test data/test.parquet --strict",
    ),
)


@app.command(
    sort_key=4,
    help_epilogue=examples(
        "gru4rec train --train clicks.tsv --out model --loss bpr-max --layers 224",
        "gru4rec train --train data --valid data --out model --batching whole-session",
        "gru4rec train --train data --out model --config search/best.toml",
        "gru4rec train --train newer.tsv --out newer_model --init model",
    ),
)
def train(
    *,
    train: Path,
    out: Path,
    valid: Path | None = None,
    config: Path | None = None,
    resume: bool = False,
    init: Path | None = None,
    drop_gone_items: Annotated[bool, Parameter(negative=())] = False,
    session_column: SessionColumn = "SessionId",
    item_column: ItemColumn = "ItemId",
    time_column: TimeColumn = "Time",
    threads: Threads = None,
    flags: Flags = NO_FLAGS,
) -> None:
    """Train a model on a click log.

    Args:
        train: click log (TSV, CSV, JSON lines, parquet) or prepared folder
        out: folder for the model
        valid: click log, or prepared folder, on which every epoch is validated; the best epoch is kept. Without it, the
            last one is
        config: TOML file with configuration keys, or an official parameter file (.py); flags win over it
        resume: go on with the run in --out
        init: model directory to begin from: its items, weights, optimiser state and configuration; with another
            --batching, what was a default becomes that one's, the optimiser and its learning rate excepted
        drop_gone_items: with --init, forget the items that do not occur in --train
    """
    from gru4rec import memory, training
    from gru4rec.checkpoint import METRICS_FILE
    from gru4rec.encoded_log import read_training_log
    from gru4rec.events import encode, read_events
    from gru4rec.warm_start import WarmStart

    if drop_gone_items and init is None:
        raise UserError("drop_gone_items: expected --init with it: the items of which model?")
    start = WarmStart.read(init) if init else None
    settings = configuration(flags, config, start.config if start else None)
    use_threads(threads)
    columns = _columns(session_column, item_column, time_column)
    log = read_training_log(train, columns)
    sessions = log.sessions
    sys.stderr.write(
        f"{train}: {sessions.n_clicks:,} clicks, {sessions.n_sessions:,} sessions, {len(log.vocabulary):,} items\n"
    )
    if start is not None:
        log = start.extended(log, drop_gone=drop_gone_items)
        kept, new, gone = start.counts(log.vocabulary)
        sys.stderr.write(f"{init}: {kept:,} items kept, {new:,} new, {gone:,} dropped\n")
    valid_sessions = encode(read_events(valid, columns, part="valid"), log.vocabulary).sessions if valid else None
    expected = memory.forecast(log, settings, validates=valid is not None)
    if expected.is_large:
        sys.stderr.write(f"memory: {expected}\n")
    with ProgressLines(settings.n_epochs) as progress:
        model = training.train(
            log, settings, valid=valid_sessions, directory=out, resume=resume, watcher=progress, start=start
        )
    print(f"{out}: epoch {model.metrics['best_epoch']} of {settings.n_epochs} kept; see {out / METRICS_FILE}")


app.command(
    "gru4rec.evaluate_command:evaluate",
    name="evaluate",
    sort_key=5,
    help="Recall, MRR and more on a test log, every item ranked; beside simple baselines and another model.",
    help_epilogue=examples(
        "gru4rec evaluate model --test test.parquet",
        "gru4rec evaluate model.onnx --test test.parquet --json figures.json",
        "gru4rec evaluate model --test test.parquet --baselines train.parquet",
        "gru4rec evaluate model --test test.parquet --versus other_model",
    ),
)


app.command(
    "gru4rec.export_command:export",
    name="export",
    sort_key=6,
    help="Write a model as one self-contained ONNX file, checked against torch before it appears.",
    help_epilogue=examples(
        "gru4rec export model --out model.onnx",
        "gru4rec export model --out model.onnx --scan int8 --calibration sessions.tsv",
    ),
)


def _columns(session: str, item: str, time: str) -> "Columns":
    from gru4rec.events import Columns

    return Columns(session, item, time)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `gru4rec`; gives the exit code."""
    if "" not in sys.path:
        sys.path.insert(0, "")  # plug-ins of the present folder, as with `python -m gru4rec`
    try:
        return run_app(app, arguments)
    except ModuleNotFoundError as missing:
        if missing.name not in TRAINING_PACKAGES:
            raise
        sys.stderr.write(TRAINING_PACKAGES_MISSING)
        return 2
