"""A stand-in for the official CUDA extension, in a folder that is to be named to Python, or to RepLKNet's code."""

from pathlib import Path


def stand_in_path() -> str:
    """Returns the folder with the module ``depthwise_conv2d_implicit_gemm``, for ``PYTHONPATH``.

    RepLKNet's official code wants it in the variable ``LARGE_KERNEL_CONV_IMPL``. ``python -m mmreplk stand-in`` prints
    it. It is never on Python's path by itself, so it hides no extension that is installed.
    """
    return str(Path(__file__).resolve().parent)
