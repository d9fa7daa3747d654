"""The arguments of gru4rec-infer."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NoReturn, get_args

from inference.files.sessions import FORMATS
from inference.model.providers import PROVIDERS
from inference.shared.errors import UserError

PROGRAM = "gru4rec-infer"
OUTPUT_SUFFIXES = {"": "table", ".txt": "table", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}

EXAMPLES = """\
examples:
  the ten best next items for every session of a click log, as a table
    gru4rec-infer --model model.onnx --session clicks.tsv --top-k 10
  one session typed by hand: item ids, oldest first
    echo "i17 i4 i99" | gru4rec-infer --model model.onnx --session -
  bulk scoring for a program, without items that the session has seen
    gru4rec-infer --model model.onnx --session sessions.jsonl.gz --format jsonl --exclude-seen --output out.jsonl
  a live stream of clicks, each answered at once; resumes where an earlier run ended
    clicks | gru4rec-infer --model model.onnx --stream --state states.bin
  the items most like one item
    gru4rec-infer --model model.onnx --similar i17 --top-k 5
  what a model file holds, and whether it is undamaged
    gru4rec-infer --model model.onnx --info --verify

session files; text may be packed with gzip:
  csv, tsv, parquet (needs pyarrow)
            a header and one click a row; columns SessionId, ItemId and, if present, Time;
            the rows of a session are adjacent and in order of time, or --group sorts them
  jsonl     {"session": "s1", "items": ["i17", "i4"]}
  lines     i17 i4 i99
a stream: {"session": "s1", "item": "i17"}, one click a line
"""


TOP_K = 20
Mode = Literal["info", "similar", "stream", "session", "verify"]
"""What to do, by the option that asks for it; `verify` without another one only compares digests."""

_EVERYWHERE = {"model", "info", "similar", "stream", "verify", "output", "mode"}
_SCORING = {"session", "format", "provider", "threads", "input_format", "unknown"}
_SCORING |= {"top_k", "exclude_seen", "exclude", "allow"}
_USED: dict[Mode, set[str]] = {
    "info": {"format", "threads"},
    "similar": {"format", "top_k"},
    "stream": _SCORING | {"state", "max_sessions"},
    "session": _SCORING | {"group", "session_column", "item_column", "time_column", "batch_size"},
    "verify": set(),
}
"""The arguments that have an effect in each mode, in addition to `_EVERYWHERE`."""


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; `mode` is what they ask for, `format` the output format where the mode has a choice of them.

    Raises:
        UserError: they are not understood, ask for nothing or for several things, or one of them would have no effect.
    """
    parser = create_parser()
    arguments = parser.parse_args(argv)
    for name in ("model", "session", "exclude", "allow", "state", "output"):
        if getattr(arguments, name) == "":  # as from a variable that is not set
            raise UserError(f"expected --{name} FILE, got an empty name; see {PROGRAM} --help")
    mode = arguments.mode = _find_mode(arguments)
    if mode == "stream":
        arguments.session = arguments.session or "-"
        if arguments.format not in (None, "jsonl") or arguments.input_format not in (None, "jsonl") or arguments.group:
            raise UserError("--stream reads and writes JSON lines; leave out --format, --input-format and --group")
        suffix = Path(arguments.output or "").suffix
        if suffix and not arguments.format and OUTPUT_SUFFIXES.get(suffix.lower(), "jsonl") != "jsonl":
            raise UserError(
                f"--stream writes JSON lines, got --output {arguments.output}; "
                "choose a name that ends in .jsonl, or give --format jsonl as well"
            )
    for name, value in vars(arguments).items():
        if name in _EVERYWHERE | _USED[mode] or value == parser.get_default(name):
            continue
        option = f"--{name.replace('_', '-')}"
        if mode == "session" and name in _USED["stream"]:
            raise UserError(f"{option} does nothing without --stream; add --stream or leave out {option}")
        raise UserError(f"{option} does nothing with --{mode}; leave out one of them")
    if mode in ("info", "similar", "session"):
        arguments.format = arguments.format or _format_of(arguments.output)
    if mode == "info" and arguments.format == "csv":
        raise UserError("--info is written as text or JSON, got csv; choose --format table or jsonl")
    return arguments


def _find_mode(arguments: argparse.Namespace) -> Mode:
    given: list[Mode] = [name for name in get_args(Mode) if getattr(arguments, name) not in (None, False)]
    questions = [f"--{name}" for name in given if name in ("info", "similar", "stream")]
    if len(questions) > 1:
        raise UserError(f"expected one of --info, --similar and --stream, got {' and '.join(questions)}; choose one")
    if not given:
        raise UserError(f"expected --session FILE (or - for standard input); see {PROGRAM} --help")
    return given[0]


def _format_of(output: str | None) -> str:
    suffix = Path(output or "").suffix.lower()
    if suffix not in OUTPUT_SUFFIXES:
        raise UserError(
            f"expected a name for --output that ends in {', '.join(filter(None, OUTPUT_SUFFIXES))}, got {output!r}; "
            "name the format with --format"
        )
    return OUTPUT_SUFFIXES[suffix]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {PROGRAM} --help")


def _threads(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"expected at least one thread, got {text!r}")
    return int(text)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(PROGRAM, version("gru4rec"))
        parser.exit()


def create_parser() -> argparse.ArgumentParser:
    """The parser; it raises a `UserError` for what it refuses."""
    parser = _Parser(
        prog=PROGRAM,
        description="Recommend next items for sessions, with a model that `gru4rec export` wrote.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", nargs=0, action=_Version, help="print the version and exit")
    model = parser.add_argument_group("model")
    model.add_argument("--model", required=True, metavar="FILE", help="the .onnx file")
    model.add_argument("--info", action="store_true", help="print what the model file holds and what can run it")
    model.add_argument("--verify", action="store_true", help="compare the weights with their digest first")
    model.add_argument("--similar", metavar="ITEM", help="print the items most like this one, by their output weights")
    model.add_argument("--provider", choices=PROVIDERS, help="what computes; auto prefers cuda (default: cpu)")
    model.add_argument(
        "--threads",
        type=_threads,
        metavar="N",
        help="threads, one for each batch of sessions (default: one per core; for a stream of a small model, one)",
    )
    sessions = parser.add_argument_group("sessions")
    sessions.add_argument("--session", metavar="FILE", help="the sessions; - reads standard input")
    sessions.add_argument("--input-format", choices=FORMATS, help="default: detected")
    sessions.add_argument("--group", action="store_true", help="accept rows in any order; holds all of them in memory")
    for column, default in (("session", "SessionId"), ("item", "ItemId"), ("time", "Time")):
        sessions.add_argument(f"--{column}-column", default=default, metavar="NAME", help="default: %(default)s")
    sessions.add_argument(
        "--unknown",
        choices=("skip", "error"),
        default="skip",
        help="items the model does not know (default: %(default)s)",
    )
    stream = parser.add_argument_group("stream")
    stream.add_argument("--stream", action="store_true", help="read single clicks and answer each at once in JSON")
    stream.add_argument("--state", metavar="FILE", help="resume the sessions saved here, and save them at the end")
    stream.add_argument(
        "--max-sessions", type=int, default=100_000, metavar="N", help="sessions kept in memory (default: %(default)s)"
    )
    ranking = parser.add_argument_group("recommendations")
    ranking.add_argument(
        "--top-k", type=int, metavar="K", help=f"items per session (default: {TOP_K}, or all if there are fewer)"
    )
    ranking.add_argument("--exclude-seen", action="store_true", help="never recommend items of the session itself")
    ranking.add_argument("--exclude", metavar="FILE", help="never recommend these items: a file of ids, one a line")
    ranking.add_argument(
        "--allow", metavar="FILE", help="recommend only these items: a file of ids, one a line; others are not scored"
    )
    ranking.add_argument("--batch-size", type=int, metavar="N", help="sessions computed together (default: automatic)")
    output = parser.add_argument_group("output")
    output.add_argument(
        "--format",
        choices=("table", "jsonl", "csv"),
        help="default: by the suffix of --output, else table; jsonl with --stream",
    )
    output.add_argument(
        "--output", metavar="FILE", help="where to write; appears when it is complete, or grows with a stream"
    )
    return parser
