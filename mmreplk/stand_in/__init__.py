"""A stand-in for RepLKNet's CUDA extension, in a folder of its own for Python's path or for RepLKNet's code."""

from pathlib import Path


def stand_in_path() -> str:
    """Returns the folder with the module ``depthwise_conv2d_implicit_gemm``, for ``PYTHONPATH``.

    RepLKNet's official code looks for it in the environment variable ``LARGE_KERNEL_CONV_IMPL``. ``python -m mmreplk
    stand-in`` prints it. The folder is not on Python's path by itself, so it hides no installed extension.
    """
    return str(Path(__file__).resolve().parent)
