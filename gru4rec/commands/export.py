"""`gru4rec export`: a model directory as one ONNX file, with exact scores or with a scan for large catalogues."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from cyclopts import Parameter

from gru4rec.commands.column_flags import ColumnFlags
from inference.shared.errors import UserError

if TYPE_CHECKING:
    from gru4rec.onnx_export.scan_report import ScanReport
    from inference.shared.columns import Columns
    from inference.shared.vocabulary import Vocabulary


def export(
    model: Annotated[Path, Parameter(name="model")],
    /,
    *,
    out: Path,
    scan: Literal["int8"] | None = None,
    calibration: Path | None = None,
    columns: ColumnFlags = ColumnFlags(),
) -> None:
    """Write a model as one self-contained ONNX file, checked against torch before it appears.

    Example: gru4rec export model --out model.onnx

    Args:
        model: model directory
        out: the file to write, FILE.onnx
        scan: int8 ranks large catalogues (100,000 items and more) faster: it scores every item in 8 bits, then the best
            ones exactly; refused if it would lose items
        calibration: sessions to fit the scan to and to measure it on: a click log, a prepared folder, or a session file
            as gru4rec-infer reads it
    """
    if (scan is None) != (calibration is None):
        raise UserError("--scan int8 and --calibration SESSIONS go together: the scan is measured on real sessions")
    if out.suffix != ".onnx":
        raise UserError(f"--out: expected a name that ends in .onnx, by which commands know a model file, got {out}")
    target = Path(os.path.realpath(out))
    if target.suffix != ".onnx" and target.is_relative_to(os.path.realpath(model)):
        raise UserError(f"--out: {out} is a link to {target}, a file of the model directory; choose another name")
    from gru4rec.config.train_config import to_mapping
    from gru4rec.onnx_export.exporter import export as export_exact
    from gru4rec.onnx_export.exporter import export_with_scan
    from gru4rec.training.checkpoint import load_model

    loaded = load_model(model)
    network, vocabulary = loaded.network, loaded.vocabulary
    description = {"config": to_mapping(loaded.config), "metrics": loaded.metrics}
    report = None
    if calibration is None:
        export_exact(network, vocabulary, out, **description)
    else:
        sessions = _read_calibration(calibration, columns.as_columns(), vocabulary)
        report = export_with_scan(network, vocabulary, out, **description, calibration=sessions)
    print(f"{out}: {len(vocabulary):,} items, {out.stat().st_size / 2**20:.1f} MiB, equal to torch")
    if report is not None:
        _print_report(report)


def _print_report(report: "ScanReport") -> None:
    print(
        f"int8 scan: {report.agreement:.4f} of the top {report.ranks} items of {report.sessions:,} sessions agree with "
        "exact scores"
    )
    for speed in report.speeds:
        print(
            f"  batch of {speed.batch:2}: {speed.scan:.2f} ms, exact {speed.exact:.2f} ms: "
            f"{speed.exact / speed.scan:.2f} times as fast here"
        )
    if all(speed.scan > speed.exact for speed in report.speeds):
        print("  exact scores are faster for a catalogue of this size: leave --scan out")


def _read_calibration(path: Path, columns: "Columns", vocabulary: "Vocabulary") -> list[np.ndarray]:
    """Read sessions as item numbers, int64; unknown items and empty sessions are left out.

    Args:
        path: parquet, a prepared folder, or a file of any format that `gru4rec-infer` reads.
        columns: the names of its columns.
        vocabulary: the items.

    Raises:
        UserError: it cannot be read, or is not of such a form.
    """
    if path.is_dir() or path.suffix == ".parquet":
        from gru4rec.data.events import encode, read_events

        log = encode(read_events(path, columns, part="test"), vocabulary).sessions
        sessions = np.split(log.items.astype(np.int64), log.offsets[1:-1])
    else:
        from inference.files.sessions import read_sessions
        from inference.files.table import group_rows
        from inference.shared.vocabulary import MISSING

        read = read_sessions(str(path), columns=columns, join=group_rows)
        numbered = (vocabulary.numbers(session.items) for session in read)
        sessions = [numbers[numbers != MISSING] for numbers in numbered]
    return [session for session in sessions if len(session)]
