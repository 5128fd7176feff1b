"""What all large-kernel networks have in common: everything but their stem, their blocks and their names."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import InputError
from ..layers.branches import MergeableConv, Norm
from ..layers.folding import BatchNorm, fold
from .arch import Arch
from .fitting import take_weights


class LargeKernelBackbone(nn.Module, ABC):
    """A network of stages of large-kernel blocks, each stage at half the resolution of the one before.

    A network states its ``Arch``, builds its layers in :meth:`build`, and returns them from :meth:`entry`,
    :meth:`blocks` and :meth:`output_norm`. Stages after the last output, and norms of features that are not returned,
    are not built.

    Args:
        arch: The name of a published architecture or a dict; see the network.
        in_channels: Channels of the input image.
        out_indices: Stages whose features are returned, in ascending order; None for all.
        drop_path_rate: Stochastic depth of the last block; the rate rises linearly from 0 over all blocks.
        norm: Makes a BatchNorm from a number of channels, such as ``torch.nn.SyncBatchNorm``.
        with_cp: Recompute activations in the backward pass of training instead of storing them.
        frozen_stages: -1 freezes nothing, 0 the stem, ``k`` the stem and the first ``k`` stages.
        norm_eval: Keep every BatchNorm in evaluation mode while training.
        deploy: Build the merged form, whose large kernels have no parallel branches.
        fuse_bn: Also fold everything affine into convolutions and linear layers; needs ``deploy``.
        resize_kernels: When weights are loaded, zero-pad or crop large kernels of another size around their centre.
        allow_mismatch: Beginnings of tensor names, such as ``['stages.3.']``: loaded weights may lack these tensors,
            have them in another shape, or have more of them. Any other mismatch is an error.

    Raises:
        InputError: If an argument is wrong; the message says what it must be and what it was.
    """

    Arch: ClassVar[type[Arch]]
    # Whether the norm of the official classifier is a BatchNorm before pooling, or else a LayerNorm after it.
    is_normed_before_pooling: ClassVar[bool] = False

    def __init__(self,
                 arch: str | dict | Arch,
                 in_channels: int = 3,
                 out_indices: Sequence[int] | None = None,
                 drop_path_rate: float = 0.,
                 norm: Norm = nn.BatchNorm2d,
                 with_cp: bool = False,
                 frozen_stages: int = -1,
                 norm_eval: bool = False,
                 deploy: bool = False,
                 fuse_bn: bool = False,
                 resize_kernels: bool = False,
                 allow_mismatch: Sequence[str] = ()):
        super().__init__()
        self.arch = arch = self.Arch.parse(arch)
        num_stages = len(arch.layers)
        out_indices = range(num_stages) if out_indices is None else out_indices
        if type(in_channels) is not int or in_channels < 1:
            raise InputError(f'in_channels must be a positive integer, got {in_channels!r}')
        if not isinstance(out_indices, Sequence) or not out_indices or sorted(set(out_indices)) != list(out_indices) \
                or not set(out_indices) <= set(range(num_stages)):
            raise InputError(f'out_indices must be ascending stages from 0 to {num_stages - 1}, got {out_indices!r}')
        if not isinstance(drop_path_rate, (int, float)) or not 0 <= drop_path_rate < 1:
            raise InputError(f'drop_path_rate must be in [0, 1), got {drop_path_rate!r}')
        if type(frozen_stages) is not int or frozen_stages not in range(-1, num_stages + 1):
            raise InputError(f'frozen_stages must be an integer from -1 to {num_stages}, got {frozen_stages!r}')
        if fuse_bn and not deploy:
            raise InputError('fuse_bn=True needs deploy=True, got deploy=False: ReparamHook folds the BatchNorms of '
                             'the training form for every evaluation')
        if isinstance(allow_mismatch, str) or not all(isinstance(name, str) for name in allow_mismatch):
            raise InputError(f'allow_mismatch must be a list of beginnings of tensor names, got {allow_mismatch!r}')
        self.in_channels = in_channels
        self.out_indices = tuple(out_indices)
        self.num_stages = out_indices[-1] + 1  # the stages that are built
        self.resize_kernels = resize_kernels
        self.allow_mismatch = tuple(allow_mismatch)
        self.with_cp = with_cp
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.is_merged = self.is_folded = False
        blocks = sum(arch.layers)
        self.build([drop_path_rate * i / max(1, blocks - 1) for i in range(blocks)], norm)
        if deploy:
            self.reparameterize(fuse_bn)
        self.register_load_state_dict_pre_hook(take_weights)
        for module in self._frozen_modules():
            module.eval().requires_grad_(False)

    @abstractmethod
    def build(self, drop_path_rates: Sequence[float], norm: Norm) -> None:
        """Makes the layers of the first ``num_stages`` stages; ``drop_path_rates`` has a rate for every block."""

    @abstractmethod
    def entry(self, stage: int) -> Iterable[nn.Module]:
        """Returns the modules through which features enter ``stage``, in order: the stem, or a down-sampling."""

    @abstractmethod
    def blocks(self, stage: int) -> Iterable[nn.Module]:
        """Returns the blocks of ``stage``, in order."""

    @abstractmethod
    def output_norm(self, stage: int) -> nn.Module:
        """Returns the module that the features of ``stage`` go through before they are returned."""

    @property
    @abstractmethod
    def num_layers(self) -> int:
        """The number of the last layer of the whole architecture, for layer-wise learning rate decay."""

    @abstractmethod
    def layer_of(self, stage: int, block: int | None) -> int:
        """Returns the layer of a block, or of a stage's entry (None): 0 for the stem, ``num_layers`` for the last
        block."""

    @staticmethod
    @abstractmethod
    def form_of(names: Iterable[str]) -> str:
        """Returns the form of a network with tensors of these names: 'training', 'merged', 'folded' or 'unknown'."""

    @staticmethod
    def classifier_norm(names: Iterable[str]) -> list[str]:
        """Returns the names of a classifier's norm before its head, which is not part of the backbone."""
        return [name for name in names if name.startswith('norm.')]

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the features in ``out_indices``."""
        return tuple(self.arch.channels[i] for i in self.out_indices)

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """Input pixels for each pixel of the features in ``out_indices``."""
        return tuple(4 * 2**i for i in self.out_indices)

    @property
    def total_stride(self) -> int:
        """Input pixels for each pixel of the last features."""
        return self.feature_strides[-1]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Computes the features of the stages in ``out_indices``.

        Args:
            x: Images ``(N, in_channels, H, W)``.

        Returns:
            For stage ``i``, ``(N, channels[i], H / 4 / 2**i, W / 4 / 2**i)``; the network says how sizes are rounded.

        Raises:
            InputError: If an image is smaller than the total stride of the network.
        """
        if min(x.shape[-2:]) < self.total_stride:
            raise InputError(f'images must be at least {self.total_stride} pixels high and wide, the stride of the '
                             f'network, got {x.shape[-2]}x{x.shape[-1]}')
        outs = []
        for stage in range(self.num_stages):
            for module in (*self.entry(stage), *self.blocks(stage)):
                x = self._run(module, x)
            if stage in self.out_indices:
                outs.append(self.output_norm(stage)(x))
        return tuple(outs)

    def _run(self, module: nn.Module, x: Tensor) -> Tensor:
        if not (self.with_cp and self.training and x.requires_grad):
            return module(x)
        # Under torch.compile, the recomputation does not update the statistics again anyway.
        keeping = {} if torch.compiler.is_compiling() else dict(
            context_fn=lambda: (nullcontext(), _untracked_statistics(module)))
        return checkpoint(module, x, use_reentrant=False, **keeping)

    def reparameterize(self, fuse_bn: bool = False) -> None:
        """Merges the branches of every large kernel, for good; a second call does nothing, or folds what is left.

        Args:
            fuse_bn: Also fold everything affine into convolutions and linear layers, except the norms of features that
                are returned.
        """
        for module in list(self.modules()):
            if isinstance(module, MergeableConv):
                module.reparameterize()
        if fuse_bn and not self.is_folded:
            for stage in range(self.num_stages):
                for module in (*self.entry(stage), *self.blocks(stage)):
                    fold(module)
        self.is_merged, self.is_folded = True, self.is_folded or fuse_bn

    def switch_to_deploy(self) -> None:
        """Merges and folds for good. MM tools and timm call this name."""
        self.reparameterize(fuse_bn=True)

    def train(self, mode: bool = True) -> 'LargeKernelBackbone':
        """Sets the mode, keeping frozen stages, and with ``norm_eval`` every BatchNorm, in evaluation mode."""
        super().train(mode)
        if mode:
            for module in self._frozen_modules():
                module.eval()
            if self.norm_eval:
                for module in self.modules():
                    if isinstance(module, BatchNorm):
                        module.eval()
        return self

    def _frozen_modules(self) -> Iterator[nn.Module]:
        if self.frozen_stages >= 0:
            yield from self.entry(0)
        for stage in range(min(self.frozen_stages, self.num_stages)):
            yield from (*self.entry(stage), *self.blocks(stage))
            if stage in self.out_indices:
                yield self.output_norm(stage)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Returns the layer of a parameter, counted from the stem, and the number of layers, the heads' included.

        For layer-wise decay: a layer learns at ``decay ** (number - layer - 1)`` of the learning rate. Norms of
        features, which pre-training does not have, belong to the heads' layer, which is the last.

        Args:
            param_name: The parameter's name.
            prefix: The beginning of the names of this network's parameters, such as ``'backbone.'``.

        Raises:
            InputError: If it is not a parameter of this network.
        """
        depths, name = self.layer_depths(), param_name.removeprefix(prefix)
        if name not in depths:
            raise InputError(f'{param_name!r} is not a parameter of this {type(self).__name__}')
        return depths[name], self.num_layers + 2

    def layer_depths(self) -> dict[str, int]:
        """Returns the layers of all parameters by name, as :meth:`get_layer_depth` says those of one."""
        heads = self.num_layers + 1
        return {name: heads if place is None else self.layer_of(*place) for name, place in self.places().items()}

    def places(self) -> dict[str, tuple[int, int | None] | None]:
        """Returns the stages and blocks of all parameters by name.

        The block is None in a stage's entry; a norm of features has None instead of a stage and a block.
        """
        found: dict[nn.Parameter, tuple[int, int | None]] = {}
        for stage in range(self.num_stages):
            for block, module in [*((None, module) for module in self.entry(stage)), *enumerate(self.blocks(stage))]:
                for parameter in module.parameters():
                    found.setdefault(parameter, (stage, block))
        return {name: found.get(parameter) for name, parameter in self.named_parameters()}

    def norm_names(self) -> dict[str, int]:
        """Returns the stages of all norms of features, by the names of their tensors."""
        stages = {id(tensor): stage for stage in self.out_indices
                  for tensor in self.output_norm(stage).state_dict(keep_vars=True).values()}
        return {name: stages[id(tensor)] for name, tensor in self.state_dict(keep_vars=True).items()
                if id(tensor) in stages}

    def whole(self) -> 'LargeKernelBackbone':
        """Returns, on the meta device, the network with every stage and norm of features, in the form of this one."""
        with torch.device('meta'):
            return type(self)(self.arch, in_channels=self.in_channels, deploy=self.is_merged, fuse_bn=self.is_folded)


@contextmanager
def _untracked_statistics(module: nn.Module) -> Iterator[None]:
    """Keeps the recomputation of a checkpointed ``module`` from updating its running statistics a second time."""
    norms = [m for m in module.modules() if isinstance(m, BatchNorm) and m.training]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
