"""gru4rec-infer: recommendations for sessions, from one model file.

Sessions are read, scored and written in chunks, in their order, so memory does not grow with the input. A mistake in
the input ends the run with one line on standard error and exit code 2. A file named by --output then does not appear,
except that of a stream, which holds the answers given so far. Modules that only some runs need are loaded late, because
most of a short run is start-up.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from inference.command.arguments import PROGRAM, TOP_K, parse_arguments
from inference.command.output import check_not_input, open_output
from inference.files.sessions import read_sessions
from inference.files.table import Session, group_rows, join_adjacent
from inference.files.text import read_ids
from inference.model.artifact import Artifact
from inference.model.recommender import Recommendation, Recommender, SessionState
from inference.shared.columns import Columns
from inference.shared.errors import UserError, unknown_item
from inference.shared.system import count_cores, replace_closed_streams

SESSIONS_PER_CHUNK = 4096
CLICKS_PER_CHUNK = 1 << 20
SMALL_WEIGHTS = 1 << 26
"""Output weights of fewer bytes are scored for single clicks by one thread: waking another takes longer."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code: 0 done, 2 bad arguments or input, 130 interrupted."""
    replace_closed_streams()
    try:
        _exit_on_signals()
        _run(parse_arguments(argv))
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader left; the interpreter must not flush into the pipe when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    except UserError as error:
        return _fail(str(error))
    except MemoryError:
        return _fail("out of memory; try a smaller --batch-size, or sort the file and leave out --group")
    except OSError as error:
        return _fail(f"cannot write to {error.filename or 'standard output'}: {error.strerror or error}")
    return 0


def _fail(reason: str) -> int:
    _say(" ".join(reason.splitlines()))
    return 2


def _say(remark: str) -> None:
    print(f"{PROGRAM}: {remark}", file=sys.stderr)


def _exit_on_signals() -> None:
    """On SIGTERM and SIGHUP unwind the stack, so that states are saved and no partial file is left."""

    def leave(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores it
            with suppress(ValueError):  # only the main thread may do this
                signal.signal(number, leave)


def _run(arguments: argparse.Namespace) -> None:
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")
    inputs = {f"--{name}": getattr(arguments, name) for name in ("model", "session", "exclude", "allow", "state")}
    check_not_input(arguments.output, inputs)
    artifact = Artifact(arguments.model)
    if arguments.verify:
        artifact.verify()
    if arguments.mode in ("info", "verify"):
        _describe(artifact, arguments)
    elif arguments.mode == "similar":
        _find_similar(artifact, arguments)
    else:
        threads, workers = _choose_threads(artifact, arguments)
        session = artifact.create_session(arguments.provider or "cpu", threads)
        recommender = Recommender(artifact, session, workers)
        if arguments.provider:
            _say(f"computing on {recommender.provider}")
        (_stream if arguments.mode == "stream" else _recommend)(recommender, arguments)


def _choose_threads(artifact: Artifact, arguments: argparse.Namespace) -> tuple[int | None, int]:
    """How many threads compute one batch, and how many batches are computed in parallel."""
    if arguments.stream:
        is_small = artifact.output_weight().nbytes < SMALL_WEIGHTS
        return arguments.threads or (1 if is_small else None), 1
    if arguments.provider in (None, "cpu"):
        return 1, arguments.threads or count_cores()
    return arguments.threads, 1


def _describe(artifact: Artifact, arguments: argparse.Namespace) -> None:
    from inference.model.describe import MATCHING_DIGESTS, describe, format_text

    if arguments.mode == "verify":
        text = f"{arguments.model}: {MATCHING_DIGESTS}\n"
    else:
        values = describe(artifact, arguments.threads, arguments.verify)
        as_json = arguments.format == "jsonl"
        text = json.dumps(values, ensure_ascii=False) + "\n" if as_json else format_text(values)
    with open_output(arguments.output) as file:
        file.write(text)


def _find_similar(artifact: Artifact, arguments: argparse.Namespace) -> None:
    from inference.files.recommendations import write_similar
    from inference.model.similar import find_similar

    items = find_similar(artifact, arguments.similar, _top_k(arguments, artifact.n_items - 1))
    with open_output(arguments.output) as file:
        write_similar(arguments.format, file, arguments.similar, items)


def _recommend(recommender: Recommender, arguments: argparse.Namespace) -> None:
    from inference.command.progress import report_progress
    from inference.files.recommendations import create_writer

    source: list[BinaryIO] = []
    sessions = read_sessions(
        arguments.session,
        input_format=arguments.input_format,
        columns=Columns(arguments.session_column, arguments.item_column, arguments.time_column),
        join=group_rows if arguments.group else join_adjacent,
        on_open=source.append,
        remark=_say,
    )
    options = _ranking_options(recommender, arguments)
    n_clicks = n_unknown = n_sessions = n_from_zero = 0
    with (
        open_output(arguments.output) as file,
        report_progress(_say, sys.stderr.isatty() and not file.isatty()) as report,
    ):
        write = create_writer(arguments.format, file)
        for chunk in _chunks(sessions):
            items = [session.items for session in chunk]
            recommendations = recommender.recommend(items, **options, batch_size=arguments.batch_size)
            for session, recommendation in zip(chunk, recommendations, strict=True):
                if recommendation.unknown and arguments.unknown == "error":
                    raise unknown_item(f"session {session.name!r} (line {session.line})", recommendation.unknown[0])
                write(session, recommendation)
                n_sessions += 1
                n_clicks += len(session.items)
                n_unknown += len(recommendation.unknown)
                n_from_zero += not recommendation.n_known
            report(n_sessions, _share_read(source))
        file.flush()
    if n_unknown or n_from_zero:
        _say(
            f"{n_unknown} of {n_clicks} clicks were on items unknown to the model and were skipped; "
            f"{n_from_zero} of {n_sessions} sessions had no known item and were ranked from the zero state"
        )


def _stream(recommender: Recommender, arguments: argparse.Namespace) -> None:
    from inference.files.recommendations import format_json
    from inference.shared.atomic import output_lock
    from inference.streaming.clicks import answer_clicks, read_clicks
    from inference.streaming.states import SessionStates

    options = _ranking_options(recommender, arguments)

    def steps(states: Sequence[SessionState], items: Sequence[str]) -> list[tuple[SessionState, Recommendation]]:
        return recommender.steps(states, items, **options)

    steps([], [])  # so that impossible options are reported before the first click
    known = recommender.vocabulary if arguments.unknown == "error" else None
    state_file = Path(arguments.state) if arguments.state else None
    n_clicks = n_unknown = 0
    with output_lock(state_file) if state_file else nullcontext():
        if state_file and state_file.exists():
            states = SessionStates.load(state_file, recommender.artifact, arguments.max_sessions)
        else:
            states = SessionStates(arguments.max_sessions)
        arriving = read_clicks(arguments.session, known)
        if arguments.session != "-":
            arriving = chain([next(arriving, [])], arriving)  # a file that cannot be read must not empty --output
        with open_output(arguments.output, grows=True) as file:
            try:
                for clicks in arriving:
                    names = (click.session for click in clicks)
                    for batch in answer_clicks(clicks, states, steps, recommender.new_state()):
                        for recommendation in batch:
                            file.write(format_json(next(names), recommendation))
                            n_unknown += len(recommendation.unknown)
                        file.flush()
                    n_clicks += len(clicks)
            finally:
                if state_file:
                    states.save(state_file, recommender.artifact)
    if n_unknown:
        _say(f"{n_unknown} of {n_clicks} clicks were on items unknown to the model and were skipped")
    if states.n_forgotten:
        _say(f"{states.n_forgotten} times the session clicked longest ago was forgotten; see --max-sessions")


def _top_k(arguments: argparse.Namespace, most: int) -> int:
    return min(TOP_K, max(1, most)) if arguments.top_k is None else arguments.top_k


def _ranking_options(recommender: Recommender, arguments: argparse.Namespace) -> dict[str, Any]:
    exclude = read_ids(arguments.exclude) if arguments.exclude else ()
    if exclude and not any(item in recommender.vocabulary for item in exclude):
        _say(f"{arguments.exclude} excludes nothing: the model knows none of its lines as an item; write one id a line")
    return {
        "k": _top_k(arguments, recommender.artifact.n_items),
        "exclude_seen": arguments.exclude_seen,
        "exclude": exclude,
        "allow": read_ids(arguments.allow) if arguments.allow else None,
    }


def _chunks(sessions: Iterable[Session]) -> Iterator[list[Session]]:
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


def _share_read(source: list[BinaryIO]) -> float | None:
    if not source:
        return None
    if source[0].closed:
        return 1.0
    size = os.fstat(source[0].fileno()).st_size
    return source[0].tell() / size if size else None  # a pipe has neither size nor position


if __name__ == "__main__":
    sys.exit(main())
