"""Recommendations for very many sessions with Ray Data: one process reads, many score, one writes.

    python examples/bulk_scoring.py --model model.onnx --session clicks.parquet --out recommendations
    python examples/bulk_scoring.py --model model.onnx --session clicks.tsv.gz --group --out answers --format jsonl
    python examples/bulk_scoring.py --model model.onnx --session clicks.parquet --out recommendations --address auto

The file is any that `gru4rec-infer --session` reads, and the recommendations are the same. Clicks become whole sessions
while they are read, so that one process scores all of a session. Batches of sessions then go to a pool of actors, each
of which loads the model once. Neither the file (unless --group has to sort it) nor the recommendations are ever in
memory as a whole. The output is a folder of parquet or JSON lines files with a row per session, which appears when it
is complete; its rows are not in the order of the file.

On a cluster, all nodes must see the model, the file and the folder under the same absolute paths. Needs the packages of
the search: pip install '.[tune]'.
"""

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from inference import Recommender, UserError
from inference.files.sessions import FORMATS, read_sessions
from inference.files.table import group_rows, join_adjacent, separate_rows
from inference.shared.atomic import atomic_folder
from inference.shared.columns import Columns
from tune.cluster.cluster import connect

SESSIONS_PER_BATCH = 2048
OBJECT_STORE = 1 << 28
"""Bytes for data between reading, scoring and writing, if this starts a Ray of its own."""
BLOCK_SIZE = 1 << 17
"""Bytes that are passed on together: some thousand sessions, so that all actors are busy. Cutting them out of larger
blocks would be a step of its own (`repartition`), which waits for a processor that the actors never free."""
SESSIONS = pa.schema({"session": pa.string(), "items": pa.list_(pa.string())})
RECOMMENDED = pa.list_(pa.struct({"item": pa.string(), "score": pa.float32()}))
ANSWERS = pa.schema(
    {
        "session": pa.string(),
        "recommendations": RECOMMENDED,
        "unknown": SESSIONS.types[1],
        "from_zero_state": pa.bool_(),
    }
)


def read_batches(sources: pa.Table, columns: Columns, input_format: str | None, group: bool) -> Iterator[pa.Table]:
    """Yield the sessions of the files in the column `path`, a batch at a time."""
    for path in sources["path"].to_pylist():
        rows: list[dict[str, Any]] = []
        join = group_rows if group else join_adjacent
        for session in read_sessions(path, input_format=input_format, columns=columns, join=join):
            rows.append({"session": session.name, "items": session.items})
            if len(rows) == SESSIONS_PER_BATCH:
                yield pa.Table.from_pylist(rows, SESSIONS)
                rows = []
        yield pa.Table.from_pylist(rows, SESSIONS)


class Scorer:
    """An actor of the pool: loads the model once and scores batch after batch.

    Args:
        model: the file that `gru4rec export` wrote.
        options: of `Recommender.recommend`.
    """

    def __init__(self, model: str, options: dict[str, Any]):
        self._recommender = Recommender.load(model, threads=1)
        self._options = options

    def __call__(self, sessions: pa.Table) -> pa.Table:
        """Recommend for each session, a row each."""
        answers = self._recommender.recommend(sessions["items"].to_pylist(), **self._options)
        rows = [
            {
                "session": name,
                "recommendations": [
                    {"item": item, "score": score} for item, score in zip(answer.items, answer.scores, strict=True)
                ],
                "unknown": answer.unknown,
                "from_zero_state": answer.n_known == 0,
            }
            for name, answer in zip(sessions["session"].to_pylist(), answers, strict=True)
        ]
        return pa.Table.from_pylist(rows, ANSWERS)


def score(arguments: argparse.Namespace) -> None:
    """Read, score and write."""
    columns = Columns(arguments.session_column, arguments.item_column, arguments.time_column)
    options = {"k": arguments.top_k, "exclude_seen": arguments.exclude_seen}
    reading = {"columns": columns, "input_format": arguments.input_format, "group": arguments.group}
    # mistakes in the arguments are reported before Ray starts
    if not os.path.isfile(arguments.session):
        raise UserError(f"expected a file of sessions, found none at {arguments.session}")
    Recommender.load(arguments.model, threads=1).recommend([], **options)
    next(
        read_sessions(
            arguments.session,
            input_format=arguments.input_format,
            columns=columns,
            join=separate_rows,
            remark=lambda line: print(line, file=sys.stderr),
        )
    )
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    with atomic_folder(arguments.out) as folder, connect(arguments.address, OBJECT_STORE) as cluster:
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = sys.stderr.isatty()
        context.print_on_execution_start = False
        context.raise_original_map_exception = True
        context.target_max_block_size = BLOCK_SIZE
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        n_actors = arguments.actors or max(1, sum(node.cpus for node in cluster.nodes))
        answers = (
            ray.data.from_items([{"path": os.path.abspath(arguments.session)}])
            .map_batches(read_batches, fn_kwargs=reading, batch_format="pyarrow", num_cpus=0)
            .map_batches(
                Scorer,
                fn_constructor_args=(os.path.abspath(arguments.model), options),
                batch_size=SESSIONS_PER_BATCH,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=n_actors),
                num_cpus=1,
            )
        )
        writing: dict[str, Any] = {
            "ray_remote_args": {"num_cpus": 0},  # the processors belong to the actors
            "concurrency": 1,
            "min_rows_per_file": SESSIONS_PER_BATCH,
        }
        try:
            if arguments.format == "parquet":
                answers.write_parquet(str(folder.absolute()), **writing)
            else:
                answers.write_json(str(folder.absolute()), **writing, double_precision=12)
        except ray.exceptions.RayError as error:
            raise to_user_error(error) from error


def to_user_error(error: BaseException) -> UserError:
    """The cause of an error in a process of Ray, in one line."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, UserError):
        return UserError(str(cause).splitlines()[0])  # Ray adds lines on its retries
    return UserError(f"scoring failed: {str(error).strip().splitlines()[-1]}")


def build_parser() -> argparse.ArgumentParser:
    """The command-line arguments."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    arguments.add_argument("--model", required=True, metavar="FILE", help="the .onnx file")
    arguments.add_argument("--session", required=True, metavar="FILE", help="the sessions, as gru4rec-infer reads them")
    arguments.add_argument("--out", required=True, metavar="FOLDER", help="new or empty, for the recommendations")
    arguments.add_argument("--format", choices=("parquet", "jsonl"), default="parquet", help="default: %(default)s")
    arguments.add_argument("--input-format", choices=FORMATS, help="default: recognised")
    arguments.add_argument(
        "--group", action="store_true", help="rows may be in any order; one process holds all of them"
    )
    for column, default in (("session", "SessionId"), ("item", "ItemId"), ("time", "Time")):
        arguments.add_argument(f"--{column}-column", default=default, metavar="NAME", help="default: %(default)s")
    arguments.add_argument("--top-k", type=int, default=20, metavar="K", help="per session (default: %(default)s)")
    arguments.add_argument("--exclude-seen", action="store_true", help="do not recommend items of the session itself")
    arguments.add_argument("--actors", type=int, metavar="N", help="processes that score (default: one per processor)")
    arguments.add_argument("--address", metavar="HOST:PORT", help="of a Ray cluster, or auto; default: this machine")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code: 0 done, 2 bad arguments or input, 130 interrupted."""
    arguments = build_parser().parse_args(argv)
    try:
        if arguments.actors is not None and arguments.actors < 1:
            raise UserError(f"actors: expected at least 1, got {arguments.actors}")
        score(arguments)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    print(f"{arguments.out}: recommendations as {arguments.format} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
