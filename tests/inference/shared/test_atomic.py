"""Folders and files that appear whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from inference.shared.atomic import atomic_file, atomic_folder, output_lock
from inference.shared.errors import UserError


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_refused_before_any_work_is_done(there, tmp_path):
    if there:
        (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with (
        pytest.raises(UserError, match="it is a link or a mount point; choose a folder inside it"),
        atomic_folder(link),
    ):
        raise AssertionError("the work began")
    assert link.is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == ({"elsewhere", "link"} if there else {"link"})


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux shows them")
def test_a_lock_is_let_go_where_its_file_cannot_be_removed(tmp_path):
    def open_files():
        return len(os.listdir("/proc/self/fd"))

    path, before = tmp_path / "out", open_files()

    with output_lock(path):
        (tmp_path / ".out.lock").unlink()
        (tmp_path / ".out.lock").mkdir()  # what cannot be unlinked
    assert open_files() == before


def test_a_path_can_be_written_again_after_a_failure(tmp_path):
    def write():
        with atomic_folder(tmp_path / "out") as folder:
            (folder / "file").write_text("half")
            raise ValueError("half-way")

    for _ in range(2):
        with pytest.raises(ValueError, match="half-way"):
            write()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("there", [True, False])
def test_a_file_is_written_where_a_link_leads_and_the_link_stays(there, tmp_path):
    (tmp_path / "store").mkdir()
    real, link = tmp_path / "store" / "real", tmp_path / "link"
    link.symlink_to(real)
    if there:
        real.write_text("old")
    with atomic_file(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert [path.name for path in real.parent.iterdir()] == ["real"]
    assert {path.name for path in tmp_path.iterdir()} == {"link", "store"}


def test_two_names_of_one_file_have_one_writer(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with (
        output_lock(tmp_path / "link"),
        pytest.raises(UserError, match="is in use by another process"),
        output_lock(tmp_path / "real"),
    ):
        raise AssertionError("both write")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_written_to_all_the_same(number, tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(pytest.importorskip("fcntl"), "flock", no_locks)
    with atomic_file(tmp_path / "out") as temporary:
        temporary.write_text("all of it")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_text() == "all of it"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="a device or a pipe"), atomic_file(tmp_path / "pipe"):
        raise AssertionError("the work began")
    assert (tmp_path / "pipe").is_fifo()


def test_a_reader_that_leaves_is_not_taken_for_a_disk_that_fails(tmp_path):
    reading, printing = os.pipe()
    os.close(reading)
    try:
        with (
            pytest.raises(UserError, match=r"expected standard output to be read .*; .*/out was not written$"),
            atomic_folder(tmp_path / "out"),
        ):
            os.write(printing, b"how far it has come")
    finally:
        os.close(printing)
    assert not list(tmp_path.iterdir())
