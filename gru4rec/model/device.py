"""Where a model computes, and how much memory is free there."""

import sys
from pathlib import Path

import torch

from inference.shared.errors import UserError


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is the first GPU, or else the CPU.

    Raises:
        UserError: no such device is there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("no such kind of device here")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device: cannot use {name!r} ({reason}); use auto, cpu or cuda") from None
    return device


def available(device: torch.device) -> int | None:
    """Bytes that are free on a device, None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_to_processes()


def available_to_processes(
    processes: Path = Path("/proc"), control_groups: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Bytes that this process may still take: what the system has left, or what its control groups leave.

    Args:
        processes, control_groups: where Linux shows them.
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
            left += _left_in(group, *names)
            if group == folder:
                break
    return min(left)


def _left_in(group: Path, limit: str, usage: str, reclaimable: str) -> list[int]:
    """Bytes left in a control group; nothing where it has no limit."""
    try:
        most, used = int((group / limit).read_text()), int((group / usage).read_text())
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # not there, or "max"
        return []
    return [max(0, most - used + int(statistics.get(reclaimable, 0)))]


def resident() -> int:
    """Bytes of memory that this process holds now."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
