"""What `precision` chooses on which device, and that it holds for training steps only."""

import dataclasses

import pytest
import torch

from gru4rec.cli import main
from gru4rec.config.train_config import TrainConfig
from gru4rec.model.losses import LOSSES, register_loss
from gru4rec.model.precision import Precision, choose_precision, float32_products
from gru4rec.training.trainer import Trainer
from inference.shared.errors import UserError

GPU_PRODUCTS = torch.backends.cuda.matmul
CUDA = torch.device("cuda")


@pytest.fixture
def gpu(monkeypatch):
    """A function that makes torch answer questions about its GPU as if there were one of that capability."""

    def of_capability(major, minor):
        monkeypatch.setattr(torch.version, "hip", None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, minor))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Tesla")

    return of_capability


def test_auto_on_a_gpu_is_bfloat16_where_it_is_native(gpu):
    gpu(8, 6)
    assert choose_precision("auto", CUDA) == Precision(torch.bfloat16)
    gpu(7, 5)
    assert choose_precision("auto", CUDA) == Precision()


def test_tf32_on_a_gpu_that_has_it_leaves_tensors_in_float32(gpu):
    gpu(8, 0)
    assert choose_precision("tf32", CUDA) == Precision(torch.float32, tf32=True)
    assert choose_precision("fp32", CUDA) == Precision(torch.float32, tf32=False)


def test_tf32_on_an_older_gpu_is_refused_by_name(gpu):
    gpu(7, 5)
    with pytest.raises(UserError, match=r"expects an NVIDIA GPU of compute capability 8\.0 .* found NVIDIA Tesla"):
        choose_precision("tf32", CUDA)


def test_tf32_on_a_processor_is_one_clear_line(events_file, tmp_path, capsys):
    command = ["train", "--train", str(events_file), "--out", str(tmp_path / "model"), "--device", "cpu"]
    assert main([*command, "--precision", "tf32"]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1] == (
        "error: precision: tf32 expects an NVIDIA GPU of compute capability 8.0 or higher, found the device cpu; "
        "use auto, fp32 or bf16"
    )
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("batching", ["session-parallel", "whole-session"])
def test_tf32_holds_within_a_step_and_nowhere_else(batching, markov_log):
    seen = set()

    @register_loss("watching")
    def watching(scores, positive, excluded=None):
        seen.add(GPU_PRODUCTS.fp32_precision)
        return scores.logsumexp(dim=1)

    before = GPU_PRODUCTS.fp32_precision
    between = set()
    try:
        trainer = Trainer(TrainConfig(loss="watching", batching=batching, layers=(8,), n_sample=16), markov_log)
        seen.clear()  # the loss was tried outside any step
        trainer.learner = dataclasses.replace(trainer.learner, precision=Precision(tf32=True))
        trainer.run_epoch(lambda done: between.add(GPU_PRODUCTS.fp32_precision))
    finally:
        del LOSSES["watching"]
    assert seen == {"tf32"}
    assert between == {before}
    assert torch.get_float32_matmul_precision() == "highest"  # torch's older question is still answered


def test_full_precision_is_full_whatever_the_user_has_allowed_before():
    before = GPU_PRODUCTS.fp32_precision
    GPU_PRODUCTS.fp32_precision = "tf32"
    try:
        with float32_products("ieee"):
            assert GPU_PRODUCTS.fp32_precision == "ieee"
        assert GPU_PRODUCTS.fp32_precision == "tf32"
        with pytest.raises(ZeroDivisionError), float32_products("ieee"):
            raise ZeroDivisionError
        assert GPU_PRODUCTS.fp32_precision == "tf32"
    finally:
        GPU_PRODUCTS.fp32_precision = before
