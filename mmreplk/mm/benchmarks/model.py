"""Timing a whole network in each of its forms, and with small kernels for comparison."""

import copy
import functools
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from time import perf_counter
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from ...benchmarks.flops import image_channels
from ...benchmarks.measure import peak_mib, time_in_turns
from ...errors import InputError
from ...layers import LargeKernelConv2d, MergeableConv
from ...merging import reparameterized
from ..backbones import build_empty, network_of
from .memory import labelled_batch
from .rivals import rivals_of
from .samples import packed_sample
from .setting import Setting

PARTS, STEP = ('backbone', 'model'), 'training step'
FORMS = ('plain', 'training', 'merged', 'folded', 'folded 3x3')
PACKED = ('packed', 'packed 3x3')  # on CPUs
TRAINED_FORMS = ('plain', 'training', 'training 3x3')


def benchmark_model(cfg: Config, setting: Setting, weights: dict[str, torch.Tensor] | None = None,
                    parts: Sequence[str] = PARTS, forms: Sequence[str] | None = None,
                    rivals: Sequence[str] = ()) -> list[dict]:
    """Times inference of the forms of a network in turns, all in one run: the backbone alone, then the whole model.

    The forms: ``plain``, the training form on ``nn.Conv2d``; ``training``, the same on our convolution; ``merged``;
    ``folded``; ``packed``, as ``ReparamHook`` evaluates and ``Predictor`` predicts on CPUs, from float32 to float32
    whatever the dtype; ``folded 3x3`` and ``packed 3x3``, the same network with all large kernels 3x3.

    Args:
        cfg: Config of a segmentor or detector with a large-kernel network.
        setting: How they are run.
        weights: State dict of the model; None for fresh weights. The 3x3 network always has fresh ones.
        parts: What is timed: the backbone, the model, or each after the other.
        forms: Some of the forms; None for all that there are on the device, the packed ones only where nothing is
            compiled.
        rivals: Runtimes for CPUs, ``'onnxruntime'`` or ``'openvino'``, that run the exported network too, with large
            kernels and with 3x3 ones; their forms are named after them.

    Returns:
        For each part, for each form, a row with median, 20th and 80th percentile in
        milliseconds, images per second, peak extra memory in MiB (None where it cannot be known), the share of
        the time spent in the large-kernel layers (None if compiled) and all raw times.

    Raises:
        InputError: If the backbone is not a large-kernel network, a number of the setting is too small, or a rival is
            not installed or is wrong.
    """
    size, batch, dtype, device, channels_last, compiled, rounds = setting
    if min(*size, batch) < 1 or rounds < 2:
        raise InputError(f'size and batch must be positive, and rounds at least 2, got {tuple(size)}, {batch} and '
                         f'{rounds}')
    init_default_scope(cfg.default_scope)
    if forms is None:
        forms = FORMS + (PACKED if device == 'cpu' and not compiled else ())
    rows = []
    for part in parts:
        with ExitStack() as stack, torch.no_grad():
            work = {}
            for form in forms:
                model, is_packed = _build(cfg, form, weights, setting).eval(), form in PACKED
                dtype = torch.float32 if is_packed else setting.dtype  # outside
                if part == 'backbone':
                    model = model.backbone.to(dtype)
                if is_packed:
                    stack.enter_context(reparameterized(model, pack=True, dtype=setting.dtype))
                elif form in ('merged', 'folded', 'folded 3x3'):
                    stack.enter_context(reparameterized(model, fuse_bn=form != 'merged'))
                if compiled:
                    (model if part == 'backbone' else model.backbone).compile()
                images = torch.randint(256, (batch, image_channels(model), *size), dtype=torch.uint8, device=device)
                if part == 'backbone':
                    images = (images / 255).to(dtype)
                    images = images.to(memory_format=torch.channels_last) if channels_last else images
                    work[form] = functools.partial(model, images)
                else:
                    work[form] = _whole(model, images, cfg.default_scope, dtype)
            for kernels in ('', ' 3x3') if rivals else ():
                model = _build(cfg, f'exported{kernels}', weights, setting).eval()
                preprocessor = cfg.model.get('data_preprocessor') or {}
                runs = rivals_of(model, rivals, part, preprocessor, setting)
                work |= {f'{rival}{kernels}': run for rival, run in runs.items()}
            rows += _measure(part, work, setting, with_share=not compiled)
    return rows


def benchmark_training(cfg: Config, setting: Setting) -> list[dict]:
    """Times training steps of a segmentor in turns: normalization, losses, their gradients and the optimizer's step.

    The forms: ``plain``, on ``nn.Conv2d``; ``training``, on our convolution; ``training 3x3``, the same network with
    all large kernels 3x3.

    Args:
        cfg: Config of a segmentor with a large-kernel network.
        setting: How they are run; if ``dtype`` is not float32, losses are computed under autocast to it.

    Returns:
        A row for each form, as in :func:`benchmark_model`, its ``part`` being ``'training step'``. The share of the
        large-kernel layers is None, as it could be measured in the forward pass alone.

    Raises:
        InputError: If the config is not one of MMSegmentation, its backbone is not a large-kernel network, or the batch
            is one image, from which UperNet's BatchNorms cannot take statistics.
    """
    if cfg.default_scope != 'mmseg':
        raise InputError(f"training steps are timed for segmentors only: default_scope must be 'mmseg', got "
                         f'{cfg.default_scope!r}')
    if setting.batch < 2:
        raise InputError(f'the BatchNorms of pooled features need a batch of at least 2 images, got {setting.batch}')
    init_default_scope(cfg.default_scope)
    work = {}
    for form in TRAINED_FORMS:
        model = _build(cfg, form, None, setting).train()
        if setting.compiled:
            model.backbone.compile()
        work[form] = _step(model, cfg, labelled_batch(cfg, setting.size, setting.batch), setting)
    return _measure(STEP, work, setting, with_share=False)


def _build(cfg: Config, form: str, weights: dict | None, setting: Setting) -> nn.Module:
    """Builds the network of a form with ``weights``, or fresh ones; the one with 3x3 kernels always has fresh ones."""
    model_cfg = copy.deepcopy(cfg.model)
    arch = _with_small_kernels(model_cfg.get('backbone', {}))
    if form.endswith('3x3'):
        model_cfg.backbone.arch = arch
    model = MODELS.build(model_cfg)
    if weights is not None and not form.endswith('3x3'):
        model.load_state_dict(weights)
    if form == 'plain':
        _use_plain_convolutions(model)
    return model.to(
        setting.device, memory_format=torch.channels_last if setting.channels_last else torch.preserve_format)


def _measure(part: str, work: dict[str, Callable[[], object]], setting: Setting, with_share: bool) -> list[dict]:
    """Returns a row of figures for each form of a part."""
    for run in work.values():  # searches and caches of the first call are not the network's time or memory
        run()
    peaks = {form: peak_mib(run, setting.device) for form, run in work.items()}
    shares = {form: _large_kernel_share(run, setting.device) if with_share and form in FORMS + TRAINED_FORMS else None
              for form, run in work.items()}
    rows = []
    for form, times in time_in_turns(work, setting.device, setting.rounds).items():
        low, median, high = statistics.quantiles(times, n=10)[1::3]
        rows.append(
            dict(part=part, form=form, median_ms=median, percentile20_ms=low, percentile80_ms=high,
                 images_per_s=setting.batch / median * 1e3, peak_mib=peaks[form], large_kernel_share=shares[form],
                 raw_ms=times))
    return rows


def _with_small_kernels(backbone: dict) -> dict:
    """Returns the architecture of the backbone with 3x3 kernels instead of its large ones."""
    if network_of(backbone) is None:
        raise InputError(f'the backbone of the model must be a large-kernel network, got {backbone.get("type")!r}')
    return asdict(build_empty(backbone).arch.with_kernels(3))


def _use_plain_convolutions(model: nn.Module) -> None:
    for parent in list(model.modules()):
        for name, conv in parent.named_children():
            if isinstance(conv, LargeKernelConv2d):
                plain = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding,
                                  conv.dilation, conv.groups, conv.bias is not None)
                plain.load_state_dict(conv.state_dict())
                setattr(parent, name, plain)


def _whole(model: nn.Module, images: torch.Tensor, scope: str, dtype: torch.dtype) -> Callable[[], object]:
    """Returns a function that does a test's work on ``images``, from their normalization to masks or boxes."""
    samples = [packed_sample(scope, tuple(images.shape[-2:])) for _ in images]

    def run() -> object:
        with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
            return model.test_step(dict(inputs=list(images), data_samples=samples))

    return run


def _step(model: nn.Module, cfg: Config, data: dict[str, list], setting: Setting) -> Callable[[], None]:
    """Returns a function that makes a training step with the optimizer of ``cfg``, as MMEngine's loop does."""
    wrapper = build_optim_wrapper(model, dict(cfg.optim_wrapper, type='OptimWrapper'))

    def run() -> None:
        with torch.autocast(setting.device, setting.dtype, enabled=setting.dtype != torch.float32):
            inputs = model.data_preprocessor(data, True)
            loss, _ = model.parse_losses(model(**inputs, mode='loss'))
        wrapper.update_params(loss)

    return run


def _large_kernel_share(function: Callable[[], object], device: str) -> float:
    """Returns the share of the time of ``function`` that is spent in large-kernel layers."""
    mark, milliseconds = _clock(device)
    intervals: list[list] = []

    def enter(module: nn.Module, _) -> None:
        if isinstance(module, MergeableConv):
            intervals.append([mark()])

    def leave(module: nn.Module, *_) -> None:
        if isinstance(module, MergeableConv):
            intervals[-1].append(mark())

    handles = [nn.modules.module.register_module_forward_pre_hook(enter),
               nn.modules.module.register_module_forward_hook(leave)]
    try:
        begin = mark()
        function()
        end = mark()
    finally:
        for handle in handles:
            handle.remove()
    return sum(milliseconds(*pair) for pair in intervals) / milliseconds(begin, end)


def _clock(device: str) -> tuple[Callable[[], Any], Callable[[Any, Any], float]]:
    """Returns a function that marks a moment on the device, and one for the milliseconds between two such marks."""
    if device != 'cuda':
        return perf_counter, lambda begin, end: (end - begin) * 1e3

    def mark() -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def milliseconds(begin: torch.cuda.Event, end: torch.cuda.Event) -> float:
        torch.cuda.synchronize()
        return begin.elapsed_time(end)

    return mark, milliseconds
