"""Finds before a run what would make it fail: missing data, weights that cannot be had, misspelt arguments."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import init_default_scope

from ...errors import InputError
from ...io import check_file_place, check_folder_place
from ...networks.fitting import fit_weights
from ...networks.sources import find_backbone
from ...weights import local_file, read_checkpoint
from ..backbones import build_empty, network_of
from ..data.reading import missing_decoder
from ..kinds import is_pretrained, kind_of, listed_parts, only_writes
from ..trust import refuse_pickled_data
from .channels import check_channels, misfits
from .classes import check_classes
from .coco_file import left_out, listed, missing_classes, read_coco
from .dataset import dataset_class, leaf_datasets, no_suffix
from .schedule import check_schedule, unsaved
from .values import check_values, is_count, nodes

_WITHOUT = ('Or name another file with --cfg-options model.backbone.init_cfg.checkpoint=FILE, or train from scratch '
            'with --cfg-options model.backbone.init_cfg=None')
# Where evaluators and hooks write.
_PLACES = dict(output_dir=check_folder_place, out_dir=check_folder_place, out_file_path=check_file_place,
               outfile_prefix=check_file_place)
# What to do with a test split without labels; the key that says where to write ends the sentence.
_SUBMIT = 'predictions to be submitted are written with test_evaluator.format_only=True test_evaluator.'


def check_before_training(cfg: Config, trusted: bool = False) -> None:
    """Checks the data, the weights, the backbone's arguments and the schedule that training with ``cfg`` needs.

    Weights that must be downloaded are downloaded here, to where MMEngine looks for them.

    Args:
        cfg: The config.
        trusted: Whether checkpoints may hold any pickle.

    Raises:
        InputError: One sentence on what is missing and how to get it.
    """
    refuse_pickled_data(cfg, trusted)
    _check_config(cfg, 'train_dataloader', 'val_dataloader')
    for sentence in (*misfits(cfg), *unsaved(cfg)) if os.environ.get('RANK', '0') == '0' else ():
        print_log(sentence, logger='current', level=logging.WARNING)
    for node in _dicts(cfg.model):
        for init in listed_parts(node.get('init_cfg') or None):
            if not isinstance(init, dict):
                raise InputError(f'init_cfg must be a dict or a list of dicts, got {node["init_cfg"]!r}')
            if is_pretrained(init):
                _check_weights(_here(init['checkpoint'], _WITHOUT), node, init.get('prefix'), trusted)
    if cfg.get('load_from'):
        _check_load_from(cfg, trusted)


def check_before_testing(cfg: Config, trusted: bool = False) -> None:
    """Checks the data, the checkpoint and the backbone's arguments that testing with ``cfg`` needs.

    Args:
        cfg: The config.
        trusted: Whether checkpoints may hold any pickle.

    Raises:
        InputError: One sentence on what is missing and how to get it.
    """
    refuse_pickled_data(cfg, trusted)
    _check_config(cfg, 'test_dataloader')
    _check_labels(cfg)
    _check_load_from(cfg, trusted)


def _check_config(cfg: Config, *dataloaders: str) -> None:
    check_values(cfg)
    _check_places(cfg)
    check_schedule(cfg)
    _check_backbone(cfg)
    check_channels(cfg)
    _check_decoders(cfg, *dataloaders)
    check_data(cfg, *dataloaders)
    check_classes(cfg, *dataloaders)
    _check_annotations(cfg, *dataloaders)


def _check_places(cfg: Config) -> None:
    """Raises InputError if there can be no work dir, or no file or folder that an evaluator or a hook writes."""
    check_folder_place(cfg.get('work_dir') or '.')
    hooks = (cfg.get('default_hooks') or {}).values()
    for part in (*listed_parts(cfg.get('val_evaluator')), *listed_parts(cfg.get('test_evaluator')), *hooks):
        for key, check in _PLACES.items():
            path = part.get(key) if isinstance(part, dict) else None
            if isinstance(path, str) and '://' not in path:
                check(path)


def _check_decoders(cfg: Config, *dataloaders: str) -> None:
    """Raises InputError if a step of a pipeline reads pictures with a package that is not installed."""
    for name in dataloaders:
        for path, step in nodes(cfg.get(name) or {}, name):
            missing = missing_decoder(step)
            if missing:
                raise InputError(f'{path} cannot be used: {missing}')


def _check_labels(cfg: Config) -> None:
    """Raises InputError if a segmentor's test data name no label maps, and the evaluator looks for them."""
    if cfg.get('default_scope') != 'mmseg' or only_writes(cfg.get('test_evaluator')):
        return
    for dataset in leaf_datasets((cfg.get('test_dataloader') or {}).get('dataset', {})):
        prefixes = dataset.get('data_prefix')
        if isinstance(prefixes, dict) and prefixes.get('img_path') and not prefixes.get('seg_map_path'):
            raise InputError(f'the data of {kind_of(dataset)} for test_dataloader have no label maps '
                             f'(data_prefix.seg_map_path) to evaluate with: {_SUBMIT}output_dir=...')


def _check_backbone(cfg: Config) -> None:
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    for node in _dicts(cfg.model):
        if network_of(node) is not None:
            build_empty(node)


def check_data(cfg: Config, *dataloaders: str) -> None:
    """Raises InputError if a file or folder that one of these dataloaders names is missing, or such a folder empty."""
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    for name in dataloaders:
        for dataset in leaf_datasets((cfg.get(name) or {}).get('dataset', {})):
            root = dataset.get('data_root') or ''
            prefixes = dataset.get('data_prefix') or {}
            for key, part in prefixes.items():
                if not isinstance(part, (str, type(None))):
                    raise InputError(f'{name}.dataset.data_prefix.{key} must be a string or None, got {part!r}')
            wanted = [dataset.get('ann_file') or '', *prefixes.values()]
            for path in (os.path.join(root, part) for part in wanted if part):
                reason = _trouble(path)
                if reason:
                    raise InputError(' '.join([f'the data of {kind_of(dataset)} for {name} is missing: {reason}.',
                                               *_advice(cfg, name)]))
            for sentence in no_suffix(dataset):
                raise InputError(f'the data of {kind_of(dataset)} for {name} cannot be used: {sentence}')


def _trouble(path: str) -> str | None:
    """Returns what is wrong with a file or folder of a dataset."""
    if not os.path.exists(path):
        where = '' if os.path.isabs(path) else f', where {path!r} of the config is in the current folder'
        return f'{os.path.abspath(path)!r} does not exist{where}'
    if os.path.isdir(path) and next(os.scandir(path), None) is None:
        return f'{os.path.abspath(path)!r} is empty'
    return None


def _advice(cfg: Config, name: str) -> Iterator[str]:
    if cfg.get('data_hint'):
        yield str(cfg.data_hint)
    roots = {dataset.get('data_root') for dataset in leaf_datasets((cfg.get(name) or {}).get('dataset', {}))}
    key = 'data_root' if all(roots) else f'{name}.dataset.data_root'
    yield f'If the data are elsewhere, say where with --cfg-options {key}=FOLDER.'


def _check_annotations(cfg: Config, *dataloaders: str) -> None:
    """Reads the annotation files of COCO datasets and evaluators, in one process: what they hold is the same in all."""
    if os.environ.get('RANK', '0') != '0':
        return
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    for name in dataloaders:
        listed_images: set[tuple] | None = set()
        for dataset in leaf_datasets((cfg.get(name) or {}).get('dataset', {})):
            kind = dataset_class(dataset)
            if not _reads_coco(dataset, kind) or not dataset.get('ann_file'):
                listed_images = None
                continue
            path = os.path.join(dataset.get('data_root') or '', dataset.ann_file)
            classes = (dataset.get('metainfo') or {}).get('classes') or kind.METAINFO['classes']
            if not isinstance(classes, (list, tuple)):
                raise InputError(f'{name}.dataset.metainfo.classes must be a list of names, got {classes!r}')
            evaluator = name.replace('dataloader', 'evaluator')
            labels = read_coco(path, labelled=name != 'test_dataloader')
            if name == 'test_dataloader' and not labels['annotations'] and not only_writes(cfg.get(evaluator)):
                raise InputError(f'{path} has no annotations to evaluate with: {_SUBMIT}outfile_prefix=...')
            for sentence in missing_classes(labels, classes):
                raise InputError(f'{path} cannot be used: {sentence}')
            for sentence in left_out(labels, classes):
                print_log(f'{path}: {sentence}', logger='current', level=logging.WARNING)
            if listed_images is not None:
                listed_images |= _images_of(labels)
        _check_evaluators(cfg, name.replace('dataloader', 'evaluator'), listed_images)


def _check_evaluators(cfg: Config, name: str, images: set[tuple] | None) -> None:
    """Compares the annotation files of COCO evaluators with the images, by id and file name, that are predicted."""
    for evaluator in listed_parts(cfg.get(name)):
        path = evaluator.get('ann_file') if kind_of(evaluator) == 'CocoMetric' else None
        if not path:
            continue
        if not os.path.isfile(path):
            raise InputError(f'{name}.ann_file {os.path.abspath(path)!r} does not exist')
        labels = read_coco(path, labelled=not only_writes(evaluator))
        for sentence in listed('annotations lack iscrowd (0 or 1), which evaluation reads',
                               [a['id'] for a in labels['annotations'] if 'iscrowd' not in a]):
            raise InputError(f'{name}.ann_file {path} cannot be used: {sentence}')
        others = sorted(file for _, file in (images or set()) - _images_of(labels))
        for sentence in listed('images of the dataset, by id and file name, are not in it', others):
            raise InputError(f'{name}.ann_file {path} is of other images: {sentence}')


def _images_of(labels: dict) -> set[tuple]:
    return {(image['id'], image['file_name']) for image in labels['images']}


def _reads_coco(dataset: dict, kind: type | None) -> bool:
    """Says whether a dataset, of a class if that is known, reads its file as MMDetection's ``CocoDataset`` does."""
    reads = getattr(getattr(kind, 'load_data_list', None), '__qualname__', '')
    return reads == 'CocoDataset.load_data_list' or (kind is None and kind_of(dataset) == 'CocoDataset')


def _check_load_from(cfg: Config, trusted: bool) -> None:
    model = cfg.model.get('module', cfg.model)  # test-time augmentation wraps the model
    saved = _check_weights(_here(cfg.load_from), model.get('backbone') or {}, None, trusted)
    if not cfg.get('resume') or saved is None:
        return
    meta, schedulers = saved.get('meta'), cfg.get('param_scheduler') or []
    lacking = None
    if not isinstance(meta, dict) or not is_count(meta.get('iter'), 0) or not is_count(meta.get('epoch', 0), 0):
        lacking = 'it does not say after which iteration it was saved'
    elif not isinstance(saved.get('optimizer'), dict) or not isinstance(saved.get('message_hub'), dict):
        lacking = "it lacks the optimizer's state or the log history, as the best checkpoints do"
    elif isinstance(schedulers, list) and len(saved.get('param_schedulers') or []) != len(schedulers):
        lacking = f'it does not hold the states of the {len(schedulers)} entries of param_scheduler'
    if lacking:
        raise InputError(f'checkpoint {cfg.load_from!r} cannot be resumed from: {lacking}. Name it with --cfg-options '
                         'load_from=... to start from its weights')


def _here(source: str, advice: str = '') -> Path | None:
    """Returns the local file of a checkpoint's name, address or path; None if MMEngine has to fetch it."""
    if urlparse(source).scheme not in ('', 'http', 'https'):
        return None
    try:
        return local_file(source)
    except InputError as error:
        raise InputError(f'{error}. {advice}' if advice else str(error)) from error


def _check_weights(path: Path | None, module: dict, prefix: str | None, trusted: bool) -> dict | None:
    """Reads a checkpoint and fits it to ``module``, if that describes a large-kernel network; returns what it holds."""
    if path is None:
        return None
    saved = read_checkpoint(path, trusted, mmap=True)
    strange = [name for name in saved.get('state_dict', saved) or () if not isinstance(name, str)]
    if strange:
        raise InputError(f'checkpoint {str(path)!r} cannot be used: it has an entry by the name {strange[0]!r}')
    network = network_of(module)
    if network is not None:
        weights = saved if prefix is None else _below(prefix, saved, path)
        try:
            fit_weights(build_empty(module), find_backbone(weights, network).backbone)
        except InputError as error:
            raise InputError(f'checkpoint {str(path)!r}: {error}') from error
    return saved


def _below(prefix: str, saved: dict, path: Path) -> dict:
    """Returns what MMEngine's ``Pretrained`` takes from a checkpoint if it is given a prefix."""
    prefix = prefix.rstrip('.') + '.'
    weights = saved.get('state_dict', saved)
    inside = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    if not inside:
        raise InputError(f'checkpoint {str(path)!r} has nothing whose name begins with the prefix {prefix!r} of '
                         'init_cfg; a large-kernel network needs no prefix, it finds its tensors by itself')
    return inside


def _dicts(node: object) -> Iterator[dict]:
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from _dicts(child)
