"""The ways of convolving that this CPU has, and which of them are right for a problem.

What each takes is predicted by :mod:`mmreplk.ops.cpu.costs`.
"""

from typing import NamedTuple

import torch

from . import compiled, facts


class Problem(NamedTuple):
    """What a choice depends on: input ``(n, c, h, w)``, filter, dtype, formats of input and result, dilation."""
    n: int
    c: int
    h: int
    w: int
    kh: int
    kw: int
    dtype: torch.dtype
    channels_last: bool
    wants_channels_last: bool
    dy: int = 1
    dx: int = 1

    @property
    def is_dilated(self) -> bool:
        return self.dy > 1 or self.dx > 1

    def inside(self) -> tuple[tuple[int, int], 'Problem']:
        """Returns how many rows and columns of taps on each side never meet the map, and the problem without them."""
        top = max(0, self.kh // 2 - (self.h - 1) // self.dy)
        left = max(0, self.kw // 2 - (self.w - 1) // self.dx)
        return (top, left), self._replace(kh=self.kh - 2 * top, kw=self.kw - 2 * left) if top or left else self


class Way(NamedTuple):
    """How to compute: by which kernel, from which memory format, in which dtype."""
    kernel: str
    channels_last: bool
    dtype: torch.dtype

    def __str__(self) -> str:
        layout = 'channels_last' if self.channels_last else 'contiguous'
        return f'{self.kernel} {layout} {str(self.dtype).removeprefix("torch.")}'


FOURIER = Way('fourier', False, torch.float32)


def possible(what: str, problem: Problem) -> list[Way]:
    """Returns the ways of ``'convolve'`` or ``'grad_weight'``."""
    return convolving(problem) if what == 'convolve' else grad_weight(problem)


def convolving(problem: Problem) -> list[Way]:
    """Returns the ways of a convolution, or of the gradient of its input, that give the right result and end."""
    size = max(problem.kh, problem.kw)
    in_bfloat16 = problem.dtype == torch.bfloat16 and facts.HAS_BFLOAT16
    dtypes = [torch.bfloat16, torch.float32] if in_bfloat16 else [torch.float32]
    if problem.is_dilated:
        forward = [Way('forward', channels_last, dtype) for dtype in dtypes for channels_last in (False, True)]
        return forward + _direct_ways(problem)
    ways = [Way(kernel, channels_last, dtype)
            for dtype in dtypes for kernel in ('forward', 'transposed') for channels_last in (False, True)]
    if problem.kw > facts.WIDEST_FORWARD:
        returns = {torch.float32, torch.bfloat16} if problem.c > facts.CHANNEL_BLOCK else {torch.float32}
        ways = [way for way in ways if way.kernel != 'forward' or (way.channels_last and way.dtype in returns)]
    return ways + _direct_ways(problem) + [FOURIER] * (facts.HAS_FOURIER and size > 5)


def _direct_ways(problem: Problem) -> list[Way]:
    """Returns our own kernel's, which takes bfloat16 on every CPU and returns either memory format."""
    dtype = torch.float32 if problem.dtype == torch.float16 else problem.dtype
    return [Way('direct', channels_last, dtype) for channels_last in (False, True)] * (compiled.library() is not None)


def grad_weight(problem: Problem) -> list[Way]:
    """Returns the ways of the gradient of a filter."""
    size, pytorchs = max(problem.kh, problem.kw), []
    if size <= facts.LARGEST_SOUND and problem.dtype not in facts.SLOW_DTYPES:
        pytorchs.append(Way('pytorch', False, problem.dtype))
        if size > 1 and (problem.dtype == torch.float32 or not problem.is_dilated):
            pytorchs.append(Way('pytorch', True, problem.dtype))
    if problem.is_dilated:
        # Without our kernel and in every case that PyTorch gets wrong, what is right.
        return pytorchs + _direct_ways(problem) or [Way('pytorch', False, problem.dtype)]
    ways = [Way('transposed', False, torch.float32), *pytorchs, *_direct_ways(problem)]
    return ways + [FOURIER] * (facts.HAS_FOURIER and size > 5)


def pytorchs(what: str, problem: Problem) -> Way:
    """Returns how PyTorch itself computes a pass: ``'forward'``, ``'grad_input'`` or ``'grad_weight'``."""
    if what == 'forward':
        return Way('forward', problem.wants_channels_last, problem.dtype)
    if what == 'grad_input':
        return Way('transposed', problem.wants_channels_last, problem.dtype)
    is_last = problem.wants_channels_last and (problem.dtype == torch.float32 or not problem.is_dilated)
    return Way('pytorch', is_last, problem.dtype)
