"""The body that UniRepLKNet and SLaK share with ConvNeXt: names, initialization, layers for learning rate decay."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence

from torch import nn

from ..errors import InputError
from ..layers.blocks import LayerNorm2d
from ..layers.branches import Norm
from .base import LargeKernelBackbone

_BLOCKS_A_LAYER = 3  # in the third stage, the long one


class ConvNeXtBody(LargeKernelBackbone):
    """A stem and down-sampling layers before the stages, and a LayerNorm on every output.

    Args:
        layer_scale: Initial value of the factors that scale the channels of a block's output, before it is added to
            its input.
        **kwargs: See :class:`LargeKernelBackbone`.

    Source: "A ConvNet for the 2020s", arXiv 2201.03545.
    """

    def __init__(self, *args, layer_scale: float, **kwargs):
        if not isinstance(layer_scale, (int, float)) or layer_scale <= 0:
            raise InputError(f'layer_scale must be a number above 0, got {layer_scale!r}')
        self.layer_scale = layer_scale
        super().__init__(*args, **kwargs)

    @abstractmethod
    def downsampling(self, stage: int) -> nn.Sequential:
        """Makes the layers through which features enter ``stage``, the stem included."""

    @abstractmethod
    def block(self, stage: int, index: int, drop_path_rate: float, norm: Norm) -> nn.Module:
        """Makes the block of this index in ``stage``."""

    def build(self, drop_path_rates: Sequence[float], norm: Norm) -> None:
        rates, stages = iter(drop_path_rates), range(self.num_stages)
        self.downsample_layers = nn.ModuleList(self.downsampling(i) for i in stages)
        self.stages = nn.ModuleList(
            nn.Sequential(*(self.block(i, j, next(rates), norm) for j in range(self.arch.layers[i]))) for i in stages)
        for i in self.out_indices:
            self.add_module(f'norm{i}', LayerNorm2d(self.arch.channels[i]))
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.trunc_normal_(module.weight, std=.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def entry(self, stage: int) -> Iterable[nn.Module]:
        return (self.downsample_layers[stage], )

    def blocks(self, stage: int) -> Iterable[nn.Module]:
        return self.stages[stage]

    def output_norm(self, stage: int) -> nn.Module:
        return getattr(self, f'norm{stage}')

    @property
    def num_layers(self) -> int:
        last = len(self.arch.layers) - 1
        return self.layer_of(last, self.arch.layers[last] - 1)

    def layer_of(self, stage: int, block: int | None) -> int:
        """The first two stages and the last are one layer each; in the others, every three blocks are one. The
        down-sampling before a stage belongs to its first layer.

        Source: ConvNeXt's ``layer_decay_optimizer_constructor.py``, for four stages.
        """
        if stage == 0:
            return 0 if block is None else 1
        before = sum(self._layers(i) for i in range(stage))
        return before + 1 + (0 if block is None or self._layers(stage) == 1 else block // _BLOCKS_A_LAYER)

    def _layers(self, stage: int) -> int:
        is_long = 2 <= stage < len(self.arch.layers) - 1
        return -(-self.arch.layers[stage] // _BLOCKS_A_LAYER) if is_long else 1
