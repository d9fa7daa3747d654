"""`gru4rec train`: from a click log to a model directory."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gru4rec.commands.column_flags import ColumnFlags
from gru4rec.commands.config_flags import ConfigFlags, configuration
from gru4rec.commands.terminal import ProgressLines, use_threads
from inference.shared.errors import UserError

Flags = Annotated[ConfigFlags, Parameter(name="*", group="Configuration")]  # type: ignore[valid-type]


NO_FLAGS = ConfigFlags()


Threads = Annotated[int | None, Parameter(help="CPU threads; results are repeatable for the same number")]


def train(
    *,
    train: Path,
    out: Path,
    valid: Path | None = None,
    config: Path | None = None,
    resume: bool = False,
    init: Path | None = None,
    drop_gone_items: Annotated[bool, Parameter(negative=())] = False,
    columns: ColumnFlags = ColumnFlags(),
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
    from gru4rec.data.encoded_log import read_training_log
    from gru4rec.data.events import encode, read_events
    from gru4rec.training import memory
    from gru4rec.training import run as training
    from gru4rec.training.checkpoint import METRICS_FILE
    from gru4rec.training.warm_start import WarmStart

    if drop_gone_items and init is None:
        raise UserError("drop_gone_items: expected --init with it: the items of which model?")
    start = WarmStart.read(init) if init else None
    settings = configuration(flags, config, start.config if start else None)
    use_threads(threads)
    names = columns.columns()
    log = read_training_log(train, names)
    sessions = log.sessions
    sys.stderr.write(
        f"{train}: {sessions.n_clicks:,} clicks, {sessions.n_sessions:,} sessions, {len(log.vocabulary):,} items\n"
    )
    if start is not None:
        log = start.extended(log, drop_gone=drop_gone_items)
        kept, new, gone = start.counts(log.vocabulary)
        sys.stderr.write(f"{init}: {kept:,} items kept, {new:,} new, {gone:,} dropped\n")
    valid_sessions = encode(read_events(valid, names, part="valid"), log.vocabulary).sessions if valid else None
    expected = memory.forecast(log, settings, validates=valid is not None)
    if expected.is_large:
        sys.stderr.write(f"memory: {expected}\n")
    with ProgressLines(settings.n_epochs) as progress:
        model = training.train(
            log, settings, valid=valid_sessions, directory=out, resume=resume, watcher=progress, start=start
        )
    print(f"{out}: epoch {model.metrics['best_epoch']} of {settings.n_epochs} kept; see {out / METRICS_FILE}")
