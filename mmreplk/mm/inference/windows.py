"""Windows that slide over an image."""

from collections.abc import Sequence
from typing import NamedTuple

from ...errors import InputError


class Windows(NamedTuple):
    """Windows of one size that overlap.

    Attributes:
        crop: Height and width of each, in pixels.
        stride: Pixels from one to the next, down and across.
    """
    crop: tuple[int, int]
    stride: tuple[int, int]

    @classmethod
    def of(cls, crop: int | Sequence[int], stride: int | Sequence[int]) -> 'Windows':
        """Makes windows from one number for both directions, or from two: down and across, in pixels.

        Raises:
            InputError: If a number is not positive, or the windows leave gaps.
        """
        sides, steps = (tuple(v) if isinstance(v, Sequence) else (v, v) for v in (crop, stride))
        if len(sides) != 2 or len(steps) != 2 or not all(0 < b <= a for a, b in zip(sides, steps, strict=True)):
            raise InputError(f'windows need a positive size, and a positive stride of at most the size, or they leave '
                             f'gaps; got a size of {crop} and a stride of {stride}')
        return cls(sides, steps)

    def starts(self, axis: int, length: int) -> list[int]:
        """Returns where windows begin along an axis of ``length`` pixels, 0 for down or 1 for across."""
        last = max(length - self.crop[axis], 0)
        return [*range(0, last, self.stride[axis]), last]
