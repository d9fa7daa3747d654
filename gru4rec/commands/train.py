"""`gru4rec train`: from a click log to a model directory."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gru4rec.commands.column_flags import ColumnFlags
from gru4rec.commands.config_flags import ConfigFlags, resolve_config
from gru4rec.commands.terminal import print_status, progress_bar, use_threads
from inference.shared.errors import UserError


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
    threads: int | None = None,
    config_flags: ConfigFlags = ConfigFlags(),  # type: ignore[valid-type]
) -> None:
    """Train a model on a click log.

    Args:
        train: click log (text, JSON, parquet) or prepared folder
        out: folder for the model
        valid: click log or prepared folder to validate every epoch on; the best epoch is kept instead of the last one
        config: TOML file with configuration keys, or an official parameter file (.py); flags override it
        resume: resume the run in --out
        init: model directory to start from: its items, weights, optimiser state and configuration. With another
            --batching, defaults become those of that batching, except for the optimiser and its learning rate
        drop_gone_items: with --init, forget the items that do not occur in --train
        threads: CPU threads; results are repeatable for the same number
    """
    from gru4rec.commands.training_progress import TrainingProgress
    from gru4rec.data.encoded_log import read_training_log
    from gru4rec.data.events import encode, read_events
    from gru4rec.training import run
    from gru4rec.training.checkpoint import METRICS_FILE
    from gru4rec.training.warm_start import WarmStart

    if drop_gone_items and init is None:
        raise UserError("drop_gone_items: expected --init with it, the model whose items are dropped")
    start = WarmStart.read(init) if init else None
    settings = resolve_config(config_flags, config, start.config if start else None)
    use_threads(threads)
    names = columns.as_columns()
    log = read_training_log(train, names)
    sessions = log.sessions
    print_status(
        f"{train}: {sessions.n_clicks:,} clicks, {sessions.n_sessions:,} sessions, {len(log.vocabulary):,} items"
    )
    if start is not None:
        log = start.extend_vocabulary(log, drop_gone=drop_gone_items)
        kept, new, gone = start.count_items(log.vocabulary)
        print_status(f"{init}: {kept:,} items kept, {new:,} new, {gone:,} dropped")
    valid_sessions = encode(read_events(valid, names, part="valid"), log.vocabulary).sessions if valid else None
    with progress_bar() as bar:
        progress = TrainingProgress(bar, settings.n_epochs)
        model = run.train(
            log, settings, valid=valid_sessions, directory=out, resume=resume, callback=progress, init=start
        )
    print(f"{out}: epoch {model.metrics['best_epoch']} of {settings.n_epochs} kept; see {out / METRICS_FILE}")
