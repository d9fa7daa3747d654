"""The device on which a model computes, and the memory that is free there."""

import sys
from pathlib import Path

import torch

from inference.shared.errors import UserError


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is the first GPU if there is one, otherwise the CPU.

    Raises:
        UserError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("unsupported kind of device")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device: cannot use {name!r} ({reason}); use auto, cpu or cuda") from None
    return device


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a device; None if the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return free_system_memory()


def free_system_memory(processes: Path = Path("/proc"), control_groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that this process can still allocate: what the system has left, or less if a control group limits it.

    Args:
        processes, control_groups: the folders of Linux that show them.
    """
    try:
        lines = (processes / "meminfo").read_text().splitlines()
        of_system = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
        groups = [line.split(":", 2) for line in (processes / "self" / "cgroup").read_text().splitlines()]
    except (OSError, StopIteration, ValueError, IndexError):
        return None
    left = [of_system]
    for _, controllers, path in groups:
        if controllers == "":
            folder, names = control_groups, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            folder = control_groups / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        inner = folder / path.strip("/")
        for group in [inner, *inner.parents]:
            left += _free_in_group(group, *names)
            if group == folder:
                break
    return min(left)


def _free_in_group(group: Path, limit: str, usage: str, reclaimable: str) -> list[int]:
    """Bytes left in a control group; empty if it has no limit."""
    try:
        most, used = int((group / limit).read_text()), int((group / usage).read_text())
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # missing, or "max"
        return []
    return [max(0, most - used + int(statistics.get(reclaimable, 0)))]


def process_memory() -> int:
    """Bytes of memory that this process uses now."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
