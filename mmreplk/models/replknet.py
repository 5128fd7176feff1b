"""RepLKNet as a backbone. Module names, and with them the state dict, are those of the official implementation."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice

import numpy as np
from mmcv.cnn.bricks import DropPath
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ..errors import InputError
from .arch import Arch
from .folding import biased, fold_bn
from .large_kernel import ReparamLargeKernelConv, build_bn, conv_bn
from .weights import take_weights


class RepLKBlock(nn.Module):
    """Pre-norm residual block around a large depthwise convolution; ``(N, in_channels, H, W)`` to the same."""

    def __init__(self, in_channels: int, dw_channels: int, kernel_size: int, small_kernel: int | None,
                 drop_path_rate: float, norm_cfg: dict, deploy: bool):
        super().__init__()
        self.pw1 = conv_bn(nn.Conv2d(in_channels, dw_channels, 1, bias=False), norm_cfg, relu=True)
        self.pw2 = conv_bn(nn.Conv2d(dw_channels, in_channels, 1, bias=False), norm_cfg)
        self.large_kernel = ReparamLargeKernelConv(
            dw_channels,
            dw_channels,
            kernel_size,
            groups=dw_channels,
            small_kernel=small_kernel,
            activation='relu',
            norm_cfg=norm_cfg,
            deploy=deploy)
        self.prelkb_bn = build_bn(norm_cfg, in_channels)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        out = self.large_kernel(self.pw1(self.prelkb_bn(x)))
        return x + self.drop_path(self.pw2(out))

    def fuse_bn(self) -> None:
        """Folds every BatchNorm, for good, into the convolution after or before it."""
        self.large_kernel.reparameterize()
        self.prelkb_bn = _fuse(self.pw1, self.prelkb_bn)
        _fuse(self.pw2)


class ConvFFN(nn.Module):
    """Pre-norm residual block of two 1x1 convolutions; ``(N, in_channels, H, W)`` to the same."""

    def __init__(self, in_channels: int, internal_channels: int, drop_path_rate: float, norm_cfg: dict):
        super().__init__()
        self.preffn_bn = build_bn(norm_cfg, in_channels)
        self.pw1 = conv_bn(nn.Conv2d(in_channels, internal_channels, 1, bias=False), norm_cfg)
        self.pw2 = conv_bn(nn.Conv2d(internal_channels, in_channels, 1, bias=False), norm_cfg)
        self.nonlinear = nn.GELU()
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        out = self.nonlinear(self.pw1(self.preffn_bn(x)))
        return x + self.drop_path(self.pw2(out))

    def fuse_bn(self) -> None:
        """Folds every BatchNorm, for good, into the convolution after or before it."""
        self.preffn_bn = _fuse(self.pw1, self.preffn_bn)
        _fuse(self.pw2)


class RepLKNetStage(nn.Module):
    """Alternating :class:`RepLKBlock` and :class:`ConvFFN`, and the norm of the features that the stage hands out."""

    def __init__(self, arch: Arch, index: int, drop_path_rates: Sequence[float], norm_cfg: dict, deploy: bool):
        super().__init__()
        channels = arch.channels[index]
        self.blocks = nn.ModuleList()
        for rate in drop_path_rates:
            self.blocks.append(
                RepLKBlock(channels, int(channels * arch.dw_ratio), arch.large_kernel_sizes[index], arch.small_kernel,
                           rate, norm_cfg, deploy))
            self.blocks.append(ConvFFN(channels, int(channels * arch.ffn_ratio), rate, norm_cfg))
        self.norm = build_bn(norm_cfg, channels) if arch.norm_intermediate_features else nn.Identity()


@MODELS.register_module()
class RepLKNet(BaseModule):
    """RepLKNet, a ConvNet with kernels of up to 31x31.

    Args:
        arch: ``'31B'``, ``'31L'``, ``'XL'``, or a dict with ``large_kernel_sizes``, ``layers`` and ``channels`` (one
            entry per stage) and optionally ``small_kernel`` (None: no small branch), ``dw_ratio`` (1), ``ffn_ratio``
            (4) and ``norm_intermediate_features`` (False; a BatchNorm on every output, as XL needs).
        in_channels: Channels of the input image.
        out_indices: Stages whose features are returned, in ascending order.
        drop_path_rate: Stochastic depth of the last block; the rate rises linearly from 0 over all blocks.
        norm_cfg: MMCV's description of the BatchNorm used throughout, such as ``dict(type='SyncBN')``.
        with_cp: Recompute activations in the backward pass of training instead of storing them.
        frozen_stages: -1 freezes nothing, 0 the stem, ``k`` the stem and the first ``k`` stages.
        norm_eval: Keep every BatchNorm in evaluation mode while training.
        deploy: Build the merged form, whose large kernels are single biased convolutions.
        fuse_bn: Build the merged form with all other BatchNorms folded into convolutions too; needs ``deploy``.
        resize_kernels: Zero-pad or crop, from the centre, large kernels of another size when weights are loaded.
        allow_mismatch: What the names of tensors begin with that loaded weights may lack, or have in another shape, or
            have in excess, such as ``['stem.0.', 'stages.3.']``. All else is an error.
        init_cfg: MMEngine's initialization, for example ``dict(type='Pretrained', checkpoint=...)``.

    Raises:
        InputError: A ValueError that names the argument, what it must be, and what it was.

    Source: "Scaling Up Your Kernels to 31x31: Revisiting Large Kernel Design in CNNs", arXiv 2203.06717, Section 4;
    https://github.com/DingXiaoH/RepLKNet-pytorch.
    """

    def __init__(self,
                 arch: str | dict = '31B',
                 in_channels: int = 3,
                 out_indices: Sequence[int] = (0, 1, 2, 3),
                 drop_path_rate: float = 0.3,
                 norm_cfg: dict | None = None,
                 with_cp: bool = False,
                 frozen_stages: int = -1,
                 norm_eval: bool = False,
                 deploy: bool = False,
                 fuse_bn: bool = False,
                 resize_kernels: bool = False,
                 allow_mismatch: Sequence[str] = (),
                 init_cfg: dict | list[dict] | None = None):
        super().__init__(init_cfg)
        self.arch = arch = Arch.parse(arch)
        num_stages = len(arch.layers)
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
            raise InputError('fuse_bn=True needs deploy=True, got deploy=False: ReparamHook folds the BatchNorms of a '
                             'training form for every evaluation')
        if isinstance(allow_mismatch, str) or not all(isinstance(name, str) for name in allow_mismatch):
            raise InputError(f'allow_mismatch must be a list of beginnings of names, got {allow_mismatch!r}')
        self.out_indices = tuple(out_indices)
        self.resize_kernels = resize_kernels
        self.allow_mismatch = tuple(allow_mismatch)
        self.with_cp = with_cp
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.total_stride = 4 * 2**(num_stages - 1)
        norm_cfg = norm_cfg or dict(type='BN')

        def conv(cin: int, cout: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
            return conv_bn(
                nn.Conv2d(cin, cout, size, stride, size // 2, groups=groups, bias=False), norm_cfg, relu=True)

        base = arch.channels[0]
        self.stem = nn.ModuleList([
            conv(in_channels, base, 3, stride=2),
            conv(base, base, 3, groups=base),
            conv(base, base, 1),
            conv(base, base, 3, stride=2, groups=base),
        ])
        rates = iter(np.linspace(0, drop_path_rate, sum(arch.layers)).tolist())
        self.stages = nn.ModuleList(
            RepLKNetStage(arch, i, list(islice(rates, arch.layers[i])), norm_cfg, deploy) for i in range(num_stages))
        self.transitions = nn.ModuleList(
            nn.Sequential(conv(cin, cout, 1), conv(cout, cout, 3, stride=2, groups=cout))
            for cin, cout in zip(arch.channels[:-1], arch.channels[1:], strict=True))
        if fuse_bn:
            self.reparameterize(fuse_bn=True)
        self._register_load_state_dict_pre_hook(take_weights, with_module=True)
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Computes the features of the stages in ``out_indices``.

        Args:
            x: Images ``(N, in_channels, H, W)``.

        Returns:
            For stage ``i``, ``(N, channels[i], H / 4 / 2**i, W / 4 / 2**i)``, sizes rounded up.

        Raises:
            InputError: If an image is smaller than the total stride of the network.
        """
        if min(x.shape[-2:]) < self.total_stride:
            raise InputError(f'images must be at least {self.total_stride} pixels high and wide, the stride of the '
                             f'network, got {x.shape[-2]}x{x.shape[-1]}')
        x = self.stem[0](x)
        for layer in self.stem[1:]:
            x = self._run(layer, x)
        outs = []
        for i, stage in enumerate(self.stages):
            if i > 0:
                x = self.transitions[i - 1](x)
            for block in stage.blocks:
                x = self._run(block, x)
            if i in self.out_indices:
                outs.append(stage.norm(x))
        return tuple(outs)

    def _run(self, module: nn.Module, x: Tensor) -> Tensor:
        if self.with_cp and self.training and x.requires_grad:
            return checkpoint(
                module, x, use_reentrant=False, context_fn=lambda: (nullcontext(), _untracked_statistics(module)))
        return module(x)

    def reparameterize(self, fuse_bn: bool = False) -> None:
        """Merges every large kernel with its small one and their BatchNorms, for good.

        See ``ReparamHook`` for what lasts for an evaluation only. A second call does nothing, or folds what the first
        left.

        Args:
            fuse_bn: Also fold all other BatchNorms into the convolutions after or before them, except the norms of the
                features that XL hands out, which have none.
        """
        for module in self.modules():
            if isinstance(module, ReparamLargeKernelConv):
                module.reparameterize()
        if fuse_bn and not self.fused_bn:
            for layer in (*self.stem, *(layer for transition in self.transitions for layer in transition)):
                _fuse(layer)
            for stage in self.stages:
                for block in stage.blocks:
                    block.fuse_bn()

    @property
    def fused_bn(self) -> bool:
        """Whether the BatchNorms are folded, for good, into convolutions."""
        return not hasattr(self.stem[0], 'bn')

    def train(self, mode: bool = True) -> 'RepLKNet':
        """Sets the mode, keeping frozen stages, and with ``norm_eval`` every BatchNorm, in evaluation mode."""
        super().train(mode)
        if mode:
            for module in self._frozen_modules():
                module.eval()
            if self.norm_eval:
                for module in self.modules():
                    if isinstance(module, _BatchNorm):
                        module.eval()
        return self

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        return [self.stem, *self.stages[:self.frozen_stages], *self.transitions[:max(self.frozen_stages - 1, 0)]]

    def _freeze(self) -> None:
        for module in self._frozen_modules():
            module.eval().requires_grad_(False)


def _fuse(layers: nn.Sequential, before: _BatchNorm | None = None) -> nn.Identity:
    """Folds the BatchNorm in ``layers``, and the one ``before``, into their convolution; returns the place-holder."""
    layers.conv = biased(layers.conv, *fold_bn(layers.conv, layers.bn, before))
    del layers.bn
    return nn.Identity()


@contextmanager
def _untracked_statistics(module: nn.Module) -> Iterator[None]:
    """Keeps the recomputation of a checkpointed ``module`` from updating its running statistics a second time."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
