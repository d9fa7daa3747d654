"""`gru4rec synth`: a synthetic click log."""

from pathlib import Path


def synth(*, out: Path, events: int = 100_000, items: int = 2_000, seed: int = 0) -> None:
    """Write a realistic synthetic click log.

    Args:
        out: file to write: .parquet, .csv, or else tab-separated
        events: approximate number of clicks
        items: size of the catalogue
        seed: random seed
    """
    from gru4rec.data.polars_errors import writing_errors
    from gru4rec.data.synthetic import synthesize
    from inference.shared.atomic import atomic_file

    log = synthesize(events, items, seed)
    with atomic_file(out) as file, writing_errors():
        if out.suffix == ".parquet":
            log.write_parquet(file)
        else:
            log.write_csv(file, separator="," if out.suffix == ".csv" else "\t")
    print(f"{out}: {log.height:,} clicks, {log['SessionId'].n_unique():,} sessions, {log['ItemId'].n_unique():,} items")
