"""Peak memory of training and evaluating a segmentor on the CPU, each to be measured in a process of its own."""

import copy
from collections.abc import Callable

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from ...benchmarks.measure import peak_mib, resident_mib
from ...merging import reparameterized
from .samples import packed_sample

WORKS = ('train', 'train with_cp', 'evaluate', 'slide')
TRAINING_STEPS = 2  # the first allocates the optimizer's moments
MALLOC_MIB = 64  # of freed blocks that glibc keeps, at most: twice its largest threshold for mmap, 32 MiB


def measure_memory(cfg: Config, work: str, size: tuple[int, int], batch: int = 1) -> dict[str, float]:
    """Measures one kind of work with fresh weights and random images.

    Args:
        cfg: Config of a segmentor of MMSegmentation.
        work: ``'train'`` for steps of the config's optimizer, ``'train with_cp'`` with checkpointing in the backbone,
            ``'evaluate'`` for the merged form on whole images, or ``'slide'`` with the windows of the config's
            ``test_cfg``.
        size: Height and width of the images, in pixels.
        batch: Images at a time.

    Returns:
        In MiB: ``base`` (held by the process before the model was built), ``weights`` (the model's parameters and
        buffers), ``extra`` (how far the work went above the process with the model) and ``peak`` (the process's whole
        peak).
    """
    base = resident_mib()
    cfg = copy.deepcopy(cfg)
    model, data = build_segmentor(cfg, with_cp=work == 'train with_cp'), labelled_batch(cfg, size, batch)
    tensors = [*model.parameters(), *model.buffers()]
    weights = sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 2**20
    function = _training(cfg, model, data) if work.startswith('train') else evaluation(model, data)
    extra = peak_mib(function)
    return dict(base=base, weights=weights, extra=extra, peak=resident_mib('VmHWM'))


def slide_bound_mib(size: tuple[int, int], classes: int, window_mib: float) -> float:
    """Returns the most MiB that evaluating one image by sliding windows may take beyond the process with the model.

    MMSegmentation holds float32 scores of all classes for all pixels twice: the sum over the windows beside that sum
    with one more window, later the mean beside the mean in the size of the original image. Each pixel also takes the
    image in 8 bits and twice in float32, the number of windows that cover it, and its label in 64 bits:
    3 + 2 * 12 + 4 + 8 bytes. glibc keeps some memory that was freed.

    Args:
        size: Height and width of the image, in pixels.
        classes: Number of classes of the segmentor.
        window_mib: What evaluating an image of a window's size takes, in MiB.
    """
    return window_mib + size[0] * size[1] * (2 * 4 * classes + 39) / 2**20 + MALLOC_MIB


def build_segmentor(cfg: Config, with_cp: bool = False) -> nn.Module:
    """Builds the model of ``cfg`` with fresh weights."""
    init_default_scope(cfg.default_scope)
    return MODELS.build(dict(cfg.model, backbone=dict(cfg.model.backbone, init_cfg=None, with_cp=with_cp)))


def _training(cfg: Config, model: nn.Module, data: dict[str, list]) -> Callable[[], object]:
    wrapper = build_optim_wrapper(model.train(), cfg.optim_wrapper)
    return lambda: [model.train_step(data, wrapper) for _ in range(TRAINING_STEPS)]


def evaluation(model: nn.Module, data: dict[str, list]) -> Callable[[], object]:
    """Returns a function that merges ``model``, evaluates the batch ``data``, and restores the model."""

    def run() -> None:
        with torch.no_grad(), reparameterized(model.eval()):
            # New samples for each run, since samples keep the scores.
            samples = [type(sample)(metainfo=sample.metainfo) for sample in data['data_samples']]
            model.test_step(dict(inputs=data['inputs'], data_samples=samples))

    return run


def labelled_batch(cfg: Config, size: tuple[int, int], batch: int) -> dict[str, list]:
    """Returns what a data loader of MMSegmentation returns, with random pixels and labels."""
    classes = cfg.model.decode_head.num_classes
    samples = [packed_sample('mmseg', size, gt_seg_map=torch.randint(classes, size).numpy()) for _ in range(batch)]
    channels = cfg.model.backbone.get('in_channels', 3)
    images = [torch.randint(256, (channels, *size), dtype=torch.uint8) for _ in samples]
    return dict(inputs=images, data_samples=samples)
