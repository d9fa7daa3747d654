"""Tables lie in huge pages where the system gives them, and are ordinary tensors otherwise."""

import errno
import mmap
from pathlib import Path

import pytest
import torch

from gru4rec.model.hugepages import HUGE_PAGE, zeros

SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")
LARGE = (3 * HUGE_PAGE // 256, 64)  # one and a half of the smallest size that gets them


def in_huge_pages(table):
    """KiB of the memory around the start of a table that are in huge pages."""
    size = 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *rest = line.split()
        if "-" in name:
            first, last = (int(end, 16) for end in name.split("-"))
            inside = first <= table.data_ptr() < last
        elif name == "AnonHugePages:" and inside:
            size += int(rest[0])
    return size


@pytest.mark.parametrize("shape", [(3, 5), (7,), LARGE, (0, 4)])
def test_zeros_that_can_be_written(shape):
    table = zeros(*shape)
    assert table.shape == shape
    assert table.dtype is torch.float32
    assert table.is_contiguous()
    assert not table.any()
    table.uniform_(1, 2)
    assert bool((table >= 1).all())


@pytest.mark.skipif(not SWITCH.exists() or "[never]" in SWITCH.read_text(), reason="no huge pages are given here")
def test_large_tables_are_in_huge_pages():
    table = zeros(*LARGE).fill_(1)
    assert table.data_ptr() % HUGE_PAGE == 0
    assert in_huge_pages(table) >= HUGE_PAGE >> 10


def test_a_system_that_refuses_huge_pages_gives_ordinary_memory(monkeypatch):
    def refused(*arguments, **options):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(mmap, "mmap", refused)
    table = zeros(*LARGE)
    assert table.shape == LARGE
    assert not table.any()


def test_tables_outlive_what_they_were_made_from():
    part = zeros(*LARGE)[5:9]
    part.fill_(3)
    other = [zeros(*LARGE).fill_(number) for number in range(3)]
    assert len(other) == 3
    assert float(part.sum()) == 3 * part.numel()
