"""Kernels that are wider than the maps of training, and evaluated on much larger ones."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from ...layers.conv import LargeKernelConv2d

TIMES = 4  # as many pixels in evaluation as in training, or more


class SeenMaps:
    """What :func:`seen_maps` notes.

    Attributes:
        trained: Height and width of the largest image that trained the model.
        evaluated: Height and width of the largest image, or window, that it was evaluated on.
        maps: By convolution, height and width of the largest map that it had in training.
    """

    def __init__(self) -> None:
        self.trained = self.evaluated = (0, 0)
        self.maps: dict[nn.Conv2d, tuple[int, int]] = {}

    def sentences(self) -> Iterator[str]:
        """Yields a sentence if kernels were wider than their maps, and evaluation had ``TIMES`` as many pixels."""
        outgrown = dict.fromkeys((conv.kernel_size, seen) for conv, seen in self.maps.items()
                                 if conv.kernel_size[0] > seen[0] or conv.kernel_size[1] > seen[1])
        (height, width), (rows, columns) = self.trained, self.evaluated
        if not outgrown or not height or rows * columns < TIMES * height * width:
            return
        crop = [max(math.ceil(kernel[axis] * image / seen[axis]) for kernel, seen in outgrown)
                for axis, image in enumerate(self.trained)]
        maps = ', '.join(f'{kernel[0]}x{kernel[1]} on {seen[0]}x{seen[1]}' for kernel, seen in outgrown)
        yield (f'training images of {height}x{width} make maps that are smaller than their kernels ({maps}), and '
               f'evaluation has images of {rows}x{columns}. Such kernels see a border everywhere, and can be wrong far '
               f'from one: train on crops of at least {crop[0]}x{crop[1]}, if only at the end (docs/nuclei.md)')


@contextmanager
def seen_maps(model: nn.Module) -> Iterator[SeenMaps]:
    """Notes what ``model`` sees while it trains and is evaluated in the block.

    Args:
        model: A segmentor or a detector, wrapped or not.
    """
    model = model.module if is_model_wrapper(model) else model
    seen = SeenMaps()
    test_cfg = getattr(model, 'test_cfg', None)
    slides = isinstance(test_cfg, dict) and test_cfg.get('mode') == 'slide'
    window = test_cfg.get('crop_size') if slides else None

    def note_images(_: nn.Module, __: tuple, processed: object) -> None:
        images = processed.get('inputs') if isinstance(processed, dict) else None
        if isinstance(images, Tensor) and images.ndim == 4:
            name = 'trained' if model.training else 'evaluated'
            size = images.shape[-2:] if model.training or window is None else window
            setattr(seen, name, _larger(getattr(seen, name), size))

    def note_map(conv: nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
        if model.training:
            seen.maps[conv] = _larger(seen.maps.get(conv, (0, 0)), inputs[0].shape[-2:])

    with ExitStack() as hooks:
        if isinstance(preprocessor := getattr(model, 'data_preprocessor', None), nn.Module):
            hooks.enter_context(preprocessor.register_forward_hook(note_images))
        for module in model.modules():
            if isinstance(module, LargeKernelConv2d):
                hooks.enter_context(module.register_forward_pre_hook(note_map))
        yield seen


def _larger(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return max(tuple(one), tuple(other), key=lambda size: size[0] * size[1])
