"""How a network is run to be timed."""

from typing import NamedTuple

import torch


class Setting(NamedTuple):
    """How a network is run to be timed.

    Attributes:
        size: Height and width of the images, in pixels.
        batch: Images at a time.
        dtype: The backbone alone runs in it, the whole model under autocast to it.
        device: ``'cuda'`` or ``'cpu'``.
        channels_last: Whether images and convolutions are laid out channels-last.
        compiled: Whether ``torch.compile`` compiles the backbone.
        rounds: How often each is timed.
    """
    size: tuple[int, int] = (512, 512)
    batch: int = 1
    dtype: torch.dtype = torch.float32
    device: str = 'cpu'
    channels_last: bool = False
    compiled: bool = False
    rounds: int = 5
