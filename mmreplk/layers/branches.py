"""Parallel convolutions that merge: training learns in several branches, evaluation runs one convolution or two."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from .conv import LargeKernelConv2d
from .folding import BatchNorm, biased, fold_bn

Norm = Callable[[int], nn.Module]


def build_bn(norm: Norm, channels: int) -> BatchNorm:
    """Builds a BatchNorm that can be folded; InputError if ``norm`` makes none, or one without running statistics."""
    layer = norm(channels)
    if not isinstance(layer, BatchNorm) or not layer.track_running_stats:
        raise InputError('norm must make a BatchNorm with running statistics (torch.nn.BatchNorm2d, SyncBatchNorm, '
                         f'...), which merging needs, got {layer}')
    return layer


@dataclass(frozen=True)
class Branch:
    """One of several parallel convolutions, and the BatchNorm after it, named as in published weights.

    Attributes:
        conv: Path of the convolution in the layer, such as ``'small_conv.conv'``.
        norm: Path of its BatchNorm.
        kernel_size: Extent of the filter, ``(KH, KW)``, both odd.
        merged: Path of the convolution into which it merges. Branches with the same path merge into one convolution.
        dilation: Step between taps, in pixels.
    """

    conv: str
    norm: str
    kernel_size: tuple[int, int]
    merged: str
    dilation: int = 1

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns from the first tap to the last."""
        return tuple(self.dilation * (size - 1) + 1 for size in self.kernel_size)


class MergeableConv(nn.Module):
    """Parallel convolutions of one input, each with its BatchNorm; returns their sum.

    Convolution is linear, and BatchNorm in evaluation is affine: a small filter, its taps spread by the dilation and
    padded with zeros to the large size, can be added to the large one. So all branches merge, exactly, into one biased
    convolution for each ``merged`` path among them, and cost nothing afterwards.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        branches: The branches. Of those that merge into one convolution, one of dilation 1 must be at least as large as
            each of the others.
        stride: Stride of all branches.
        groups: Groups of all branches; equal to both channel counts for depthwise ones.
        activation: ``'relu'`` to end with ReLU, which a single merged convolution computes in the same pass.
        norm: Makes a BatchNorm from a number of channels.
        deploy: Build the merged form.

    Raises:
        InputError: If the activation is unknown, ``norm`` does not make a BatchNorm, or no branch is large enough.

    Source: "RepVGG", arXiv 2101.03697, Section 3.3, for the merging; "UniRepLKNet", arXiv 2311.15599, Section 3.1, for
    dilated branches.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 branches: Sequence[Branch],
                 stride: int = 1,
                 groups: int = 1,
                 activation: str | None = None,
                 norm: Norm = nn.BatchNorm2d,
                 deploy: bool = False):
        super().__init__()
        if activation not in (None, 'relu'):
            raise InputError(f"activation must be None or 'relu', got {activation!r}")
        self.branches = tuple(branches)
        self.merges: dict[str, list[Branch]] = {}  # by the path of the convolution into which they merge
        for branch in self.branches:
            self.merges.setdefault(branch.merged, []).append(branch)
        self.activation = activation
        self.is_merged = False
        for branch in self.branches:
            padding = tuple(extent // 2 for extent in branch.extent)
            conv = LargeKernelConv2d(in_channels, out_channels, branch.kernel_size, stride, padding, branch.dilation,
                                     groups, bias=False)
            _place(self, branch.conv, conv)
            _place(self, branch.norm, build_bn(norm, out_channels))
        for members in self.merges.values():
            largest = _largest(members)
            if any(size > limit for b in members for size, limit in zip(b.extent, largest.extent, strict=True)):
                raise InputError(f'of the branches that merge into {largest.merged!r}, one of dilation 1 must be as '
                                 f'large as each of them, got {[branch.extent for branch in members]}')
        if deploy:
            self.reparameterize()

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(N, in_channels, H, W)`` to ``(N, out_channels, H', W')``, the size kept at stride 1."""
        if self.is_merged:
            first, *others = (self.get_submodule(path) for path in self.merges)
            if not others:
                return first(x, self.activation)
            out = first(x)
            for conv in others:
                out = out + conv(x)
        else:
            out = None
            for branch in self.branches:
                part = self.get_submodule(branch.norm)(self.get_submodule(branch.conv)(x))
                out = part if out is None else out + part
        return out if self.activation is None else out.relu()

    @torch.no_grad()
    def merged_filters(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Returns weight and bias of each merged convolution by its path, in float32, or float64 for a float64 layer.

        Valid in evaluation mode, where BatchNorm applies its running statistics.
        """
        if self.is_merged:
            return {path: fold_bn(self.get_submodule(path), None) for path in self.merges}
        found = {}
        for path, members in self.merges.items():
            (height, width), parts = _largest(members).extent, []
            for branch in members:
                weight, bias = fold_bn(self.get_submodule(branch.conv), self.get_submodule(branch.norm))
                weight, (kh, kw) = spread(weight, branch.dilation), branch.extent
                margins = [(width - kw) // 2] * 2 + [(height - kh) // 2] * 2
                parts.append((F.pad(weight, margins), bias))
            found[path] = tuple(sum(tensors[1:], tensors[0]) for tensors in zip(*parts, strict=True))
        return found

    def large_filters(self) -> dict[str, nn.Conv2d]:
        """Returns, by path, the merged convolutions or, before merging, the largest branches, which set their sizes."""
        paths = self.merges if self.is_merged else [_largest(m).conv for m in self.merges.values()]
        return {path: self.get_submodule(path) for path in paths}

    def largest(self, path: str) -> Branch:
        """Returns, of the branches that merge into the convolution at ``path``, the largest without dilation."""
        return _largest(self.merges[path])

    def reparameterize(self) -> None:
        """Replaces the branches, for good, by the merged convolutions; a second call does nothing."""
        if self.is_merged:
            return
        merged = {}
        for path, filters in self.merged_filters().items():
            merged[path] = biased(self.get_submodule(_largest(self.merges[path]).conv), *filters)
        for branch in self.branches:
            for path in (branch.conv, branch.norm):
                parent, _, name = path.rpartition('.')
                delattr(self.get_submodule(parent), name)
        for branch in self.branches:
            parent = branch.conv.partition('.')[0]
            if hasattr(self, parent) and not any(path.startswith(f'{parent}.') for path in merged):
                delattr(self, parent)
        for path, conv in merged.items():
            _place(self, path, conv)
        self.is_merged = True

    def packed(self) -> nn.Module:
        """Returns the form of the merged layer for inference on CPUs."""
        for path in self.merges:
            parent, _, name = path.rpartition('.')
            own = nn.ReLU() if self.activation and len(self.merges) == 1 else None
            setattr(self.get_submodule(parent), name, self.get_submodule(path).packed(own))
        return self if len(self.merges) > 1 else self.get_submodule(path)


class ReparamLargeKernelConv(MergeableConv):
    """A large convolution with a parallel small one, which helps it to learn small patterns.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Extent of the large kernel, odd; the padding is ``kernel_size // 2``.
        stride: Stride of both convolutions.
        groups: Groups of both convolutions; equal to both channel counts for a depthwise one.
        small_kernel: Extent of the small kernel, odd and at most ``kernel_size``; None for no small branch.
        activation: ``'relu'`` to end with ReLU, which the merged form computes in the same pass; None for none.
        norm: Makes a BatchNorm from a number of channels.
        deploy: Build the merged form, a single biased convolution.

    Raises:
        InputError: If a kernel size is even, or the small one is larger than the large one.

    Source: "Scaling Up Your Kernels to 31x31", arXiv 2203.06717, Section 3.2, Guideline 3.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 kernel_size: int,
                 stride: int = 1,
                 groups: int = 1,
                 small_kernel: int | None = None,
                 activation: str | None = None,
                 norm: Norm = nn.BatchNorm2d,
                 deploy: bool = False):
        check_kernel_sizes(kernel_size=kernel_size, small_kernel=small_kernel)
        sizes = dict(lkb_origin=kernel_size, small_conv=small_kernel)
        branches = [Branch(f'{name}.conv', f'{name}.bn', (size, size), 'lkb_reparam')
                    for name, size in sizes.items() if size is not None]
        super().__init__(in_channels, out_channels, branches, stride, groups, activation, norm, deploy)


def check_kernel_sizes(kernel_size: int, small_kernel: int | None) -> None:
    """Raises InputError if a size is not a positive odd integer or the small one is larger; None means no kernel."""
    for name, size in dict(kernel_size=kernel_size, small_kernel=small_kernel).items():
        if size is not None and (not isinstance(size, int) or size < 1 or size % 2 == 0):
            raise InputError(f'{name} must be a positive odd integer, got {size!r}')
    if small_kernel is not None and small_kernel > kernel_size:
        raise InputError(f'small_kernel must be at most the large kernel_size, {kernel_size}, got {small_kernel}')


def spread(weight: Tensor, dilation: int) -> Tensor:
    """Returns filters ``(..., KH, KW)`` with ``dilation - 1`` zeros between taps: the same filters at dilation 1."""
    if dilation == 1:
        return weight
    kh, kw = weight.shape[-2:]
    out = weight.new_zeros(*weight.shape[:-2], dilation * (kh - 1) + 1, dilation * (kw - 1) + 1)
    out[..., ::dilation, ::dilation] = weight
    return out


def _largest(branches: Sequence[Branch]) -> Branch:
    return max((b for b in branches if b.dilation == 1), key=lambda b: b.extent[0] * b.extent[1])


def _place(root: nn.Module, path: str, module: nn.Module) -> None:
    """Makes ``module`` the submodule of ``root`` at ``path``, with ``nn.Sequential`` for missing ones in between."""
    *parents, name = path.split('.')
    for parent in parents:
        if not hasattr(root, parent):
            root.add_module(parent, nn.Sequential())
        root = getattr(root, parent)
    root.add_module(name, module)
