"""What computes: the processor, or a graphics card through CUDA.

Asked for CUDA on a machine where it cannot start, onnxruntime goes on with the CPU and says so in a log line, if at
all. Here a provider is either the one that was asked for, or an error; only "auto" chooses.
"""

import contextlib
import ctypes
import io
import sys
from pathlib import Path
from typing import Any

from inference.shared.errors import UserError, one_line, unknown_choice

EXECUTION_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
PROVIDERS = ("auto", *EXECUTION_PROVIDERS)


def load_onnxruntime() -> Any:
    """The module onnxruntime, imported when it is asked for, so that what needs no session starts without it.

    Raises:
        UserError: it cannot be imported, or is there in part: onnxruntime and onnxruntime-gpu share their folder, and
            whoever removes one of them takes it from the other.
    """
    try:
        import onnxruntime

        _ = onnxruntime.InferenceSession, onnxruntime.SessionOptions
    except (ImportError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "onnxruntime":
            raise UserError("onnxruntime is not installed; install onnxruntime-gpu, or onnxruntime") from error
        raise UserError(
            f"onnxruntime is not there as a whole ({one_line(error)}); uninstall onnxruntime and onnxruntime-gpu, then "
            "install one of them"
        ) from error
    return onnxruntime


def create_session(path: Path, options: Any, provider: str) -> Any:
    """An onnxruntime session that runs on a provider.

    Args:
        path: the model file.
        options: onnxruntime's SessionOptions.
        provider: "cpu", "cuda", or "auto": CUDA where it starts, else the CPU.

    Raises:
        UserError: an unknown provider, or CUDA where it does not start.
        Exception: whatever onnxruntime raises on a graph that it refuses.
    """
    if provider not in PROVIDERS:
        raise unknown_choice("provider", provider, list(PROVIDERS))
    onnxruntime = load_onnxruntime()
    if provider != "cpu":
        obstacle = _obstacle_to_cuda(onnxruntime)
        session = None if obstacle else _cuda_session(onnxruntime, path, options)
        if session is not None:
            return session
        if provider == "cuda":
            obstacle = obstacle or "its libraries did not load; onnxruntime needs CUDA 13 and cuDNN 9"
            raise UserError(f"CUDA cannot run here: {obstacle}; use the provider cpu")
    return onnxruntime.InferenceSession(str(path), options, providers=[EXECUTION_PROVIDERS["cpu"]])


def find_provider(session: Any) -> str:
    """The provider that a session runs on, "cpu" or "cuda"."""
    return "cuda" if session.get_providers()[0] == EXECUTION_PROVIDERS["cuda"] else "cpu"


def _obstacle_to_cuda(onnxruntime: Any) -> str | None:
    if EXECUTION_PROVIDERS["cuda"] not in onnxruntime.get_available_providers():
        return "the installed onnxruntime was built without it (the package onnxruntime-gpu has it)"
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return "there is no NVIDIA driver on this machine"
    return None


def _cuda_session(onnxruntime: Any, path: Path, options: Any) -> Any:
    exactly = {"use_tf32": "0"}  # else products are rounded to ten bits
    onnxruntime.set_default_logger_severity(4)  # what it would print is said by the error below
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()  # finds the CUDA libraries that came as Python packages
        session = onnxruntime.InferenceSession(
            str(path), options, providers=[(EXECUTION_PROVIDERS["cuda"], exactly), EXECUTION_PROVIDERS["cpu"]]
        )
    finally:
        onnxruntime.set_default_logger_severity(2)
    if find_provider(session) != "cuda":
        return None
    session.disable_fallback()  # else an error on the card would move the session to the CPU
    return session
