"""Logs that the tests share."""

import os
import signal

# Models in tests are tiny: more threads only wait for each other. Before torch is imported, and for child processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from gru4rec.data.sessions import EncodedLog
from tests.support.ray_fixture import plugged_in, ray_here  # noqa: F401
from tests.support.small_logs import frame_of, log_of, markov_sessions

collect_ignore = ["support/example_plugin.py"]  # looking for doctests in it would register its losses for all tests


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background; processes under test inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts Ray, so that a quick run can leave it out."""
    for item in items:
        if "ray_here" in getattr(item, "fixturenames", ()):
            item.add_marker("ray")


@pytest.fixture(scope="session")
def markov_log() -> EncodedLog:
    """400 sessions over 200 items with strong first-order structure; every item occurs."""
    return log_of(markov_sessions(400, 200, seed=1))


@pytest.fixture(scope="session")
def events_file(tmp_path_factory: pytest.TempPathFactory):
    """A small tab-separated log on disk."""
    path = tmp_path_factory.mktemp("log") / "clicks.tsv"
    frame_of(markov_sessions(60, 30, seed=2)).write_csv(path, separator="\t")
    return path
