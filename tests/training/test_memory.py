"""The memory of a run is forecast before it starts, and a run that does not fit is refused."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gru4rec.cli import main
from gru4rec.config.train_config import TrainConfig
from gru4rec.data.sessions import EncodedLog, Sessions
from gru4rec.model import device
from gru4rec.training import memory
from gru4rec.training.run import train
from gru4rec.training.samplers import SAMPLERS, FullSampler, PopularitySampler, register_sampler
from gru4rec.training.trainer import Trainer
from inference.shared.errors import UserError
from inference.shared.vocabulary import Vocabulary
from tests.support.paths import ROOT
from tests.support.small_logs import log_of, markov_sessions

GIB = 1 << 30
CPU = torch.device("cpu")


def catalogue_of(n_items: int, n_sessions: int = 20_000, length: int = 5) -> EncodedLog:
    """A log of random clicks on a large catalogue, most of which nobody clicks."""
    items = np.random.default_rng(0).integers(0, n_items, n_sessions * length, dtype=np.int32)
    offsets = np.arange(0, len(items) + 1, length, dtype=np.int64)
    return EncodedLog(Sessions(items, offsets), Vocabulary([f"{number:07d}" for number in range(n_items)]))


def test_tables_and_optimiser_are_counted_exactly():
    config = TrainConfig(layers=(6, 4), embedding=3, constrained_embedding=False, momentum=0.5)
    trainer = Trainer(config, log_of([[0, 1, 2], [2, 1]]))
    expected = memory.forecast(trainer.log, config, CPU)
    # 3 items: output 3 × 4, bias 3, input 3 × 3; layers 3·6·(3 + 6 + 2) and 3·4·(6 + 4 + 2) weights of 4 bytes
    assert expected.parameters == 4 * (12 + 3 + 9 + 198 + 144)
    assert expected.parameters == sum(tensor.nbytes for tensor in trainer.network.tensors().values())
    assert expected.optimiser == sum(tensor.nbytes for tensor in trainer.optimiser.tensors().values())


@pytest.mark.parametrize("embedding", [{}, {"embedding": 5}, {"embedding": 0}])
@pytest.mark.parametrize("optimizer", ["adagrad", "adamw"])
def test_every_kind_of_network_is_counted_exactly(embedding, optimizer):
    config = TrainConfig(layers=(7,), optimizer=optimizer, constrained_embedding=not embedding, **embedding)
    trainer = Trainer(config, log_of([[0, 1, 2], [2, 1]]))
    expected = memory.forecast(trainer.log, config, CPU)
    assert expected.parameters == sum(tensor.nbytes for tensor in trainer.network.tensors().values())
    assert expected.optimiser == sum(tensor.nbytes for tensor in trainer.optimiser.tensors().values())


def steps_of(batching, **choices):
    config = TrainConfig(batching=batching, layers=(32,), **choices)
    return memory.forecast(catalogue_of(50_000, 100), config, CPU).steps


@pytest.mark.parametrize("batching", ["session-parallel", "whole-session"])
def test_what_is_not_drawn_is_not_counted_and_every_item_is(batching):
    in_batch = steps_of(batching, sampler="in-batch", n_sample=40_000)
    assert in_batch == steps_of(batching, n_sample=0) < steps_of(batching, n_sample=40_000) / 2

    class Everything(FullSampler):
        """A sampler of the user's of that kind."""

    class Fixed(PopularitySampler):
        """One that does not ask how many."""

        def __init__(self, support):
            super().__init__(support, n_sample=40_000, sample_alpha=0.0)

    try:
        register_sampler("everything")(Everything)
        register_sampler("made")(lambda support: FullSampler(support))
        register_sampler("fixed")(Fixed)
        full = steps_of(batching, sampler="full", n_sample=0)
        assert full == steps_of(batching, sampler="everything", n_sample=5) == steps_of(batching, sampler="made")
        assert steps_of(batching, sampler="fixed", n_sample=5) == steps_of(batching, n_sample=40_000)
    finally:
        for name in ("everything", "made", "fixed"):
            SAMPLERS.pop(name, None)


MEASURED_RUN = """
import sys
import torch
from gru4rec.training import memory
from gru4rec.config import TrainConfig
from gru4rec.training import train
from tests.training.test_memory import catalogue_of

options = {"session-parallel": {"momentum": 0.1, "sampler": "uniform"}, "whole-session": {"sample_alpha": 0.0}}
config = TrainConfig(batching=sys.argv[1], layers=(128,), batch_size=200, n_sample=40_000, n_epochs=1,
                     **options[sys.argv[1]])
log = catalogue_of(1_000_000, n_sessions=1_000)
expected = memory.forecast(log, config, torch.device("cpu"))
train(log, config)
status = open("/proc/self/status").read()
print(expected.peak, int(status.split("VmHWM:")[1].split()[0]) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="a process's highest memory is read from /proc")
@pytest.mark.parametrize("batching", ["session-parallel", "whole-session"])
def test_a_million_items_take_what_was_forecast_and_less_than_the_promised_amount(batching):
    ended = subprocess.run([sys.executable, "-c", MEASURED_RUN, batching], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    expected, measured = map(int, ended.stdout.split())
    assert measured < 2.4 * GIB
    assert expected == pytest.approx(measured, rel=0.25)


LONG_RUN = """
import numpy as np
from gru4rec.config import TrainConfig
from gru4rec.model.device import process_memory
from gru4rec.training.samplers import SAMPLERS, FullSampler, PopularitySampler, register_sampler
from gru4rec.data.sessions import EncodedLog, Sessions
from gru4rec.training.trainer import Trainer
from tests.training.test_memory import catalogue_of

generator = np.random.default_rng(0)
offsets = np.concatenate([[0], np.cumsum(1 + generator.geometric(0.25, size=14_000))])
items = (100_000 * generator.random(offsets[-1]) ** 2).astype(np.int32)  # some far more often than others
log = EncodedLog(Sessions(items, offsets), catalogue_of(100_000, 1).vocabulary)
config = TrainConfig(loss="bpr-max", layers=(128,), batch_size=128, momentum=0.3, dropout_p_embed=0.3, precision="fp32")
sizes = []
Trainer(config, log).run_epoch(lambda step: sizes.append(process_memory()))
print(len(sizes), max(sizes) - sizes[50])
"""


@pytest.mark.slow
def test_memory_does_not_grow_from_step_to_step():
    ended = subprocess.run([sys.executable, "-c", LONG_RUN], capture_output=True, text=True, cwd=ROOT, check=True)
    steps, growth = map(int, ended.stdout.split())
    assert steps > 400
    assert growth < 0.05 * GIB


@pytest.mark.parametrize("batching", ["session-parallel", "whole-session"])
def test_rows_that_a_step_changes_do_not_grow_with_the_catalogue(batching):
    config = TrainConfig(batching=batching, layers=(4,), batch_size=8, n_sample=16, n_epochs=1)
    for n_items in (1_000, 30_000):
        trainer = Trainer(config, catalogue_of(n_items, n_sessions=40, length=2))
        before = trainer.network.output_table.clone()
        touched = []

        def look(done: int, trainer: Trainer = trainer, before: torch.Tensor = before, touched: list = touched) -> None:
            touched.append(int((trainer.network.output_table != before).any(dim=1).sum()))
            before.copy_(trainer.network.output_table)

        trainer.run_epoch(look)
        assert 0 < max(touched) <= 8 + 16 + 8  # targets, negatives, inputs


def test_run_that_cannot_fit_is_refused_with_its_numbers():
    expected = memory.forecast(log_of([[0, 1]]), TrainConfig(layers=(16_000,)), CPU)
    with pytest.raises(
        UserError, match=r"needs about [0-9]+\.\d GiB on cpu \(parameters 5\.7, .*1\.5 GiB are available"
    ):
        memory.check(expected, free=int(1.5 * GIB))
    memory.check(expected, free=100 * GIB)
    memory.check(expected, free=None if device.free_memory(torch.device("cpu")) is None else 100 * GIB)


def test_training_on_the_command_line_is_refused_before_anything_is_made(tmp_path, monkeypatch, capsys):
    assert main(["synth", "--out", str(tmp_path / "clicks.tsv"), "--events", "500", "--items", "20"]) == 0
    monkeypatch.setattr(memory, "free_memory", lambda device: 3 * GIB)
    command = ["train", "--train", str(tmp_path / "clicks.tsv"), "--out", str(tmp_path / "model"), "--layers", "16000"]
    assert main(command) == 2
    forecast, error = capsys.readouterr().err.strip().splitlines()[-2:]
    assert forecast.startswith("memory: about ")
    assert error.startswith("error: training needs about ")
    assert not (tmp_path / "model").exists()


def test_small_run_is_not_announced():
    assert memory.forecast(log_of(markov_sessions(20, 10, seed=1)), TrainConfig(), CPU).needed < GIB


def linux_folders(folder: Path, files: dict[str, str]) -> tuple[Path, Path]:
    """The folders /proc and /sys/fs/cgroup with these files in them."""
    for name, text in {"proc/meminfo": "MemTotal: 900 kB\nMemAvailable:   800 kB\n", **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / "proc", folder / "cgroup"


def test_available_memory_is_what_the_system_says_where_no_group_limits_it(tmp_path):
    files = {"proc/self/cgroup": "0::/user\n", "cgroup/user/memory.max": "max\n", "cgroup/user/memory.current": "5\n"}
    assert device.free_system_memory(*linux_folders(tmp_path, files)) == 800 * 1024


def test_limit_of_an_outer_group_counts_and_its_reclaimable_files_are_free(tmp_path):
    files = {
        "proc/self/cgroup": "0::/pod/box\n",
        "cgroup/pod/memory.max": "1000\n",
        "cgroup/pod/memory.current": "700\n",
        "cgroup/pod/memory.stat": "anon 1\ninactive_file 200\n",
    }
    assert device.free_system_memory(*linux_folders(tmp_path, files)) == 1000 - 700 + 200


def test_old_control_groups_limit_too(tmp_path):
    files = {
        "proc/self/cgroup": "5:cpu:/\n4:memory:/of/the/host\n0::/\n",  # a path that a container does not see
        "cgroup/memory/memory.limit_in_bytes": "9000\n",
        "cgroup/memory/memory.usage_in_bytes": "4000\n",
        "cgroup/memory/memory.stat": "total_inactive_file 50\n",
    }
    assert device.free_system_memory(*linux_folders(tmp_path, files)) == 5050


def test_elsewhere_nothing_is_known_and_nothing_refused(tmp_path):
    assert device.free_system_memory(tmp_path / "proc", tmp_path / "cgroup") is None


def test_training_in_a_program_is_refused_too(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 0)
    with pytest.raises(UserError, match=r"0\.0 GiB are available"):
        train(log_of([[0, 1], [1, 0]]), TrainConfig(layers=(4,), n_epochs=1))
