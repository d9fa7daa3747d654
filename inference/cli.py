"""gru4rec-infer: recommendations for sessions, from one model file.

Everything is streamed: sessions are read, scored and written in chunks, in their order, so memory does not grow with
the input. A mistake in the input ends the run with one line on standard error and exit code 2; a file named by --output
then does not appear. Modules are loaded when they are needed, because most of a short run is start-up.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

from inference.errors import UserError

if TYPE_CHECKING:
    from inference.artifact import Artifact
    from inference.event_rows import Session
    from inference.recommender import Recommender

PROGRAM = "gru4rec-infer"
SESSIONS_PER_CHUNK = 4096
CLICKS_PER_CHUNK = 1 << 20

EXAMPLES = """\
examples:
  the ten best next items for every session of a click log, as a table
    gru4rec-infer --model model.onnx --session clicks.tsv --top-k 10
  one session typed by hand: ids of items, oldest first
    echo "i17 i4 i99" | gru4rec-infer --model model.onnx --session -
  bulk scoring for a program, never recommending what the session has seen
    gru4rec-infer --model model.onnx --session sessions.jsonl.gz --format jsonl --exclude-seen --output out.jsonl
  what is in a model file, and is it unharmed
    gru4rec-infer --model model.onnx --info --verify

session files, each also packed with gzip:
  csv, tsv  a header and one click a row; columns SessionId, ItemId and, if there is one, Time;
            the rows of a session stand together and in order, or --group sorts them
  jsonl     {"session": "s1", "items": ["i17", "i4"]}
  lines     i17 i4 i99
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code: 0 done, 2 bad arguments or input, 130 interrupted."""
    try:
        _run(_parser().parse_args(argv))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has had enough; the interpreter must not flush into the pipe when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    except UserError as error:
        return _failed(str(error))
    except MemoryError:
        return _failed("memory ran out; try a smaller --batch-size")
    except OSError as error:
        return _failed(f"cannot write to standard output: {error.strerror or error}")
    return 0


def _failed(reason: str) -> int:
    print(f"{PROGRAM}: {' '.join(reason.splitlines())}", file=sys.stderr)
    return 2


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {PROGRAM} --help")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(PROGRAM, version("gru4rec"))
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        description="Recommend next items for sessions, with a model that `gru4rec export` wrote.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", nargs=0, action=_Version, help="print the version and leave")
    model = parser.add_argument_group("model")
    model.add_argument("--model", required=True, metavar="FILE", help="the .onnx file")
    model.add_argument("--info", action="store_true", help="print what the model file holds and what would run it")
    model.add_argument("--verify", action="store_true", help="compare the weights with their digest first")
    model.add_argument("--threads", type=int, metavar="N", help="threads for one computation")
    reading = parser.add_argument_group("sessions")
    reading.add_argument("--session", metavar="FILE", help="the sessions; - reads standard input")
    reading.add_argument("--input-format", choices=("csv", "tsv", "jsonl", "lines"), help="default: recognised")
    reading.add_argument("--group", action="store_true", help="rows may be in any order; holds all of them in memory")
    for column, default in (("session", "SessionId"), ("item", "ItemId"), ("time", "Time")):
        reading.add_argument(f"--{column}-column", default=default, metavar="NAME", help="default: %(default)s")
    reading.add_argument(
        "--unknown",
        choices=("skip", "error"),
        default="skip",
        help="items the model does not know (default: %(default)s)",
    )
    ranking = parser.add_argument_group("recommendations")
    ranking.add_argument("--top-k", type=int, default=20, metavar="K", help="items a session (default: %(default)s)")
    ranking.add_argument("--exclude-seen", action="store_true", help="never what the session itself holds")
    ranking.add_argument("--exclude", metavar="FILE", help="never these items: a file of ids, one a line")
    ranking.add_argument(
        "--allow", metavar="FILE", help="only these items: a file of ids, one a line; others are not scored"
    )
    ranking.add_argument("--batch-size", type=int, metavar="N", help="sessions computed together (default: automatic)")
    writing = parser.add_argument_group("output")
    writing.add_argument(
        "--format", choices=("table", "jsonl", "csv"), help="default: by the suffix of --output, else table"
    )
    writing.add_argument("--output", metavar="FILE", help="where to write; appears when it is complete")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    from inference.artifact import Artifact
    from inference.recommender import Recommender

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    if not (arguments.session or arguments.info or arguments.verify):
        raise UserError(f"expected --session FILE (or - for standard input); see {PROGRAM} --help")
    artifact = Artifact.open(arguments.model)
    if arguments.verify:
        artifact.verify()
    if arguments.info:
        _print_information(artifact, arguments.format == "jsonl")
    elif not arguments.session:
        print(f"{arguments.model}: the vocabulary, the graph and the weights match their digests")
    if arguments.session:
        _recommend(Recommender(artifact, artifact.session("cpu", arguments.threads)), arguments)


def _print_information(artifact: "Artifact", as_json: bool) -> None:
    from inference.information import as_text, description

    values = description(artifact)
    sys.stdout.write(json.dumps(values, ensure_ascii=False) + "\n" if as_json else as_text(values))


def _recommend(recommender: "Recommender", arguments: argparse.Namespace) -> None:
    from inference.event_rows import Columns
    from inference.recommendation_files import writer
    from inference.session_files import read_sessions

    columns = Columns(arguments.session_column, arguments.item_column, arguments.time_column)
    sessions = read_sessions(
        arguments.session, input_format=arguments.input_format, columns=columns, group=arguments.group
    )
    exclude = _ids(arguments.exclude) if arguments.exclude else ()
    allow = _ids(arguments.allow) if arguments.allow else None
    n_clicks = n_unknown = n_sessions = n_from_zero = 0
    with _output(arguments.output) as file:
        write = writer(arguments.format or _format_of(arguments.output), file)
        for chunk in _chunks(sessions):
            if arguments.unknown == "error":
                _refuse_unknown(recommender, chunk)
            recommendations = recommender.recommend(
                [session.items for session in chunk],
                arguments.top_k,
                exclude_seen=arguments.exclude_seen,
                exclude=exclude,
                allow=allow,
                batch_size=arguments.batch_size,
            )
            for session, recommendation in zip(chunk, recommendations, strict=True):
                write(session, recommendation)
                n_sessions += 1
                n_clicks += len(session.items)
                n_unknown += len(recommendation.unknown)
                n_from_zero += not recommendation.n_known
        file.flush()
    if n_unknown or n_from_zero:
        print(
            f"{PROGRAM}: {n_unknown} of {n_clicks} clicks were on items unknown to the model and were skipped; "
            f"{n_from_zero} of {n_sessions} sessions had no known item and were ranked from the zero state",
            file=sys.stderr,
        )


def _chunks(sessions: Iterable["Session"]) -> Iterator[list["Session"]]:
    chunk: list[Session] = []
    clicks = 0
    for session in sessions:
        chunk.append(session)
        clicks += len(session.items)
        if len(chunk) == SESSIONS_PER_CHUNK or clicks >= CLICKS_PER_CHUNK:
            yield chunk
            chunk, clicks = [], 0
    if chunk:
        yield chunk


def _refuse_unknown(recommender: "Recommender", chunk: list["Session"]) -> None:
    for session in chunk:
        for item in session.items:
            if item not in recommender.vocabulary:
                raise UserError(
                    f"session {session.name!r} (line {session.line}): item {item!r} is not known to the model; "
                    "--unknown skip goes on over such items"
                )


def _ids(path: str) -> tuple[str, ...]:
    from inference.text_lines import lines, opened, source_name

    with opened(path) as file:
        return tuple(text for _, text in lines(file, source_name(path)) if text)


def _format_of(output: str | None) -> str:
    return {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}.get(Path(output or "").suffix.lower(), "table")


@contextmanager
def _output(path: str | None) -> Iterator[TextIO]:
    """Standard output, or a file that appears when the block has ended without an error."""
    from inference.atomic import written_file

    if path is None or path == "-":
        yield sys.stdout
    elif Path(path).exists() and not Path(path).is_file() and not Path(path).is_dir():
        with open(path, "w", encoding="utf-8", newline="\n") as file:  # a device or a pipe: nothing to rename over
            yield file
    else:
        with written_file(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
            yield file


if __name__ == "__main__":
    sys.exit(main())
