"""Whether the parts of a config fit each other."""

from collections.abc import Iterator

import torch
from mmengine.config import Config

from ...errors import InputError
from ..backbones import build_empty, network_of
from ..kinds import kind_of


def check_channels(cfg: Config) -> None:
    """Compares a large-kernel network's ``in_channels`` with the images, and those of neck or heads with its outputs.

    Raises:
        InputError: With the key, its value and what it must be.
    """
    model = cfg.model.get('module', cfg.model)  # test-time augmentation wraps the model
    backbone = model.get('backbone')
    _check_stages(model.get('roi_head'))
    if network_of(backbone) is None:
        return
    network = build_empty(backbone)
    handed = list(network.channels)
    mean = (model.get('data_preprocessor') or {}).get('mean')
    seen = network.in_channels
    if isinstance(mean, (list, tuple)) and len(mean) not in (1, seen):
        raise InputError(f'model.backbone.in_channels must be {len(mean)}, the length of model.data_preprocessor.mean, '
                         f'got {seen!r}')
    names = ['neck'] if model.get('neck') else ['decode_head', 'auxiliary_head']
    for name in names:
        parts = model.get(name) or []
        for i, part in enumerate([parts] if isinstance(parts, dict) else parts):
            path = f'model.{name}' if isinstance(parts, dict) else f'model.{name}.{i}'
            _check_reader(path, part, handed)
            if name == 'neck':  # of several, only the first reads the backbone
                break


def _check_stages(roi_head: object) -> None:
    """Raises InputError if a cascade's box heads, whose scores are averaged, differ in their numbers of classes."""
    heads = roi_head.get('bbox_head') if isinstance(roi_head, dict) else None
    heads = heads if isinstance(heads, (list, tuple)) else []
    counts = [head.get('num_classes') for head in heads if isinstance(head, dict)]
    for i, count in enumerate(counts):
        if count != counts[0]:
            raise InputError(f'model.roi_head.bbox_head.{i}.num_classes must be {counts[0]!r}, as of the first stage, '
                             f'got {count!r}')


def _check_reader(path: str, part: dict, handed: list[int]) -> None:
    given, index = part.get('in_channels'), part.get('in_index')
    if given is None or (index is None and not isinstance(given, (list, tuple))):
        return
    indices = range(len(handed)) if index is None else [index] if isinstance(index, int) else index
    if not all(isinstance(i, int) and -len(handed) <= i < len(handed) for i in indices):
        raise InputError(f'{path}.in_index must be among the {len(handed)} features of the backbone, got {index!r}')
    wanted = [handed[i] for i in indices]
    if (given if isinstance(given, int) else list(given)) != (wanted[0] if isinstance(index, int) else wanted):
        raise InputError(f'{path}.in_channels must be {wanted[0] if isinstance(index, int) else wanted}, which the '
                         f'backbone hands to it with in_index={index!r}, got {given!r}')


def misfits(cfg: Config) -> Iterator[str]:
    """Yields sentences on sizes that work but cost time.

    These are a segmentor's crops that are padded in every batch, and a detector's images of many sizes if cuDNN tries
    out all its algorithms for each.
    """
    benchmarks = (cfg.get('env_cfg') or {}).get('cudnn_benchmark')
    if benchmarks and cfg.get('default_scope') == 'mmdet' and torch.cuda.is_available():
        yield ('env_cfg.cudnn_benchmark is True, and a detector sees images of many sizes: cuDNN tries its algorithms '
               'out for each of them. Set env_cfg.cudnn_benchmark=False')
    model = cfg.get('model') or {}
    size = (model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}).get('size')
    dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    while not dataset.get('pipeline') and isinstance(dataset.get('dataset'), dict):
        dataset = dataset['dataset']
    crops = [step.get('crop_size') for step in dataset.get('pipeline') or [] if kind_of(step) == 'RandomCrop']
    if not size or not crops or not isinstance(size, (list, tuple)):
        return
    crop = crops[-1] if isinstance(crops[-1], (list, tuple)) else (crops[-1], crops[-1])
    if tuple(crop) != tuple(size):
        yield (f'train_dataloader crops to {tuple(crop)}, but model.data_preprocessor.size is {tuple(size)}: every '
               'batch is padded to the larger of the two')
