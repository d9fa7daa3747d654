"""Sessions of onnxruntime on the CPU, or on a GPU with CUDA.

If CUDA cannot start, onnxruntime falls back to the CPU and at most logs it. Here a session runs on the provider that
was asked for, or there is an error; only "auto" chooses.
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
    """Import onnxruntime, late, because commands that need no session start faster without it.

    Raises:
        UserError: it is missing or incomplete: onnxruntime and onnxruntime-gpu share a folder, so removing one of them
            breaks the other.
    """
    try:
        import onnxruntime

        _ = onnxruntime.InferenceSession, onnxruntime.SessionOptions
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"onnxruntime is missing or incomplete ({one_line(error)}); uninstall onnxruntime and onnxruntime-gpu, "
            "then install one of them"
        ) from error
    return onnxruntime


def create_session(path: Path, provider: str, threads: int | None) -> Any:
    """An onnxruntime session that runs on a provider.

    Args:
        path: the model file.
        provider: "cpu", "cuda", or "auto" for CUDA if it starts and else the CPU.
        threads: how many one run may use; None leaves it to onnxruntime.

    Raises:
        UserError: the provider is unknown, CUDA does not start, or onnxruntime refuses the graph.
    """
    if provider not in PROVIDERS:
        raise unknown_choice("provider", provider, list(PROVIDERS))
    onnxruntime = load_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # print nothing: errors are raised
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # costs no latency, frees the cores
    options.intra_op_num_threads = threads or 0  # 0: onnxruntime chooses
    try:
        if provider != "cpu":
            obstacle = _find_cuda_obstacle(onnxruntime)
            session = None if obstacle else _create_cuda_session(onnxruntime, path, options)
            if session is not None:
                return session
            if provider == "cuda":
                obstacle = obstacle or "its libraries did not load; onnxruntime needs CUDA 13 and cuDNN 9"
                raise UserError(f"CUDA cannot run here: {obstacle}; use the provider cpu")
        return onnxruntime.InferenceSession(str(path), options, providers=[EXECUTION_PROVIDERS["cpu"]])
    except UserError:
        raise
    except Exception as error:  # onnxruntime raises a class of its own for every status
        raise UserError(f"onnxruntime refuses {path}: {one_line(error)}") from error


def find_provider(session: Any) -> str:
    """The provider that a session runs on, "cpu" or "cuda"."""
    return "cuda" if session.get_providers()[0] == EXECUTION_PROVIDERS["cuda"] else "cpu"


def _find_cuda_obstacle(onnxruntime: Any) -> str | None:
    if EXECUTION_PROVIDERS["cuda"] not in onnxruntime.get_available_providers():
        return "the installed onnxruntime was built without it (the package onnxruntime-gpu has it)"
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return "there is no NVIDIA driver on this machine"
    return None


def _create_cuda_session(onnxruntime: Any, path: Path, options: Any) -> Any:
    exactly = {"use_tf32": "0"}  # or products are rounded to ten bits
    onnxruntime.set_default_logger_severity(4)  # the error says what it would print
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
    session.disable_fallback()  # or an error on the GPU would move the session to the CPU
    return session
