"""Configs with one wrong value."""

from collections.abc import Callable
from random import Random

from mmengine.config import Config

from mmreplk.mm.data import make_mini_ade20k, make_mini_coco

from . import coco, files, segmentation
from .sandbox import SILENT, UNKNOWABLE, Case, Sandbox

WRONG = [-1, 0, 1.5, 10**6, float('nan'), 'wrong', None, (), (0, 0), (-1, 5), True]
SEGMENTOR = [
    'model.backbone.arch', 'model.backbone.in_channels', 'model.backbone.out_indices', 'model.backbone.drop_path_rate',
    'model.backbone.norm_cfg.type', 'model.backbone.frozen_stages', 'model.backbone.arch.small_kernel',
    'model.backbone.arch.layers', 'model.backbone.arch.large_kernel_sizes', 'model.backbone.unknown',
    'model.backbone.type', 'model.backbone.init_cfg', 'model.decode_head.in_channels', 'model.decode_head.in_index',
    'model.decode_head.num_classes', 'model.decode_head.channels', 'model.decode_head.pool_scales',
    'model.decode_head.dropout_ratio', 'model.decode_head.type', 'model.decode_head.loss_decode.type',
    'model.decode_head.loss_decode', 'model.data_preprocessor.size', 'model.data_preprocessor.mean',
    'model.data_preprocessor.std', 'model.test_cfg.mode', 'model.type', 'train_dataloader.batch_size',
    'train_dataloader.num_workers', 'train_dataloader.sampler.type', 'train_dataloader.dataset.type',
    'train_dataloader.dataset.data_prefix.img_path', 'train_dataloader.dataset.data_prefix.seg_map_path',
    'train_dataloader.dataset.pipeline.0.type', 'train_dataloader.dataset.pipeline.2.scale',
    'train_dataloader.dataset.pipeline.2.ratio_range', 'train_dataloader.dataset.pipeline.3.crop_size',
    'train_dataloader.dataset.pipeline.4.prob', 'train_dataloader.batchsize', 'optim_wrapper.type',
    'optim_wrapper.optimizer.type', 'optim_wrapper.optimizer.lr', 'optim_wrapper.optimizer.betas',
    'optim_wrapper.optimizer.weight_decay', 'optim_wrapper.accumulative_counts', 'optim_wrapper.paramwise_cfg',
    'optim_wrapper.clip_grad', 'param_scheduler.0.type', 'param_scheduler.0.end', 'param_scheduler.1.power',
    'param_scheduler', 'train_cfg.max_iters', 'train_cfg.val_interval', 'train_cfg.type', 'train_cfg.max_iter',
    'val_cfg.type', 'val_evaluator.type', 'val_evaluator.iou_metrics', 'default_hooks.checkpoint.interval',
    'default_hooks.checkpoint.save_best', 'default_hooks.checkpoint.max_keep_ckpts', 'default_hooks.logger.interval',
    'default_hooks.logger.type', 'custom_hooks.0.type', 'custom_hooks.5.action', 'default_scope', 'load_from',
    'visualizer.type', 'log_level', 'trian_cfg', 'val_dataloader', 'env_cfg.mp_cfg.mp_start_method',
    'randomness.seed', 'resume', 'log_processor.window_size'
]
DETECTOR = [
    'model.neck.in_channels', 'model.neck.out_channels', 'model.neck.num_outs', 'model.rpn_head.in_channels',
    'model.rpn_head.anchor_generator.scales', 'model.roi_head.type', 'model.roi_head.bbox_head.1.num_classes',
    'model.roi_head.bbox_roi_extractor.featmap_strides', 'model.roi_head.mask_head.in_channels',
    'model.train_cfg.rpn.assigner.pos_iou_thr', 'model.train_cfg.rcnn.0.sampler.num', 'model.test_cfg.rpn.nms.type',
    'train_dataloader.dataset.metainfo.classes', 'train_dataloader.dataset.ann_file', 'val_evaluator.ann_file',
    'val_evaluator.metric'
]
# Values of WRONG that are right for a key, or that do what a reader would expect.
MEANT = {
    'model.backbone.out_indices': [None], 'model.backbone.drop_path_rate': [0], 'model.backbone.frozen_stages': [-1, 0],
    'model.backbone.arch.small_kernel': [None],
    'model.data_preprocessor.mean': [None],
    'train_dataloader.num_workers': [0], 'train_dataloader.dataset.pipeline.4.prob': [0, None, True],
    'optim_wrapper.optimizer.lr': [0, 1.5, 10**6], 'optim_wrapper.optimizer.weight_decay': [0, 1.5, 10**6],
    'param_scheduler.1.power': [0, 1.5, 10**6, -1], 'train_cfg.val_interval': [10**6],
    'default_hooks.checkpoint.interval': [-1, 10**6], 'default_hooks.checkpoint.save_best': [None],
    'default_hooks.logger.interval': [10**6], 'load_from': [None], 'model.backbone.init_cfg': [None],
    'model.data_preprocessor.size': [None], 'optim_wrapper.clip_grad': [None], 'param_scheduler.0.end': [10**6],
    'randomness.seed': [None, 0, 10**6], 'model.decode_head.dropout_ratio': [0],
    'model.train_cfg.rpn.assigner.pos_iou_thr': [-1, 0, 1.5, 10**6, True],  # a threshold that all pass, or none
}


def is_meant(key: str, value: object) -> bool:
    """Says whether a value is right for a key; True and 1 are different values."""
    return any(type(value) is type(right) and value == right for right in MEANT.get(key, []))


def written(value: object) -> str:
    """Returns a value as one writes it on a command line."""
    return '(' + ','.join(map(str, value)) + ')' if isinstance(value, tuple) else str(value)


def part_types(config: str, key: str) -> list[str]:
    """Returns the types of the parts of a config around a key, which a sentence may name instead of it."""
    node, types = Config.fromfile(config), []
    for name in key.split('.'):
        if isinstance(node, (list, tuple)):
            node = node[int(name)] if name.isdigit() and int(name) < len(node) else None
        else:
            node = node.get(name) if isinstance(node, (dict, Config)) else None
        if isinstance(node, dict) and isinstance(node.get('type'), str):
            types.append(node['type'])
    return types[-1:]


BROKEN_FILES = dict(truncated=files.truncate, empty=files.empty, noise=files.noise, text=files.text)


def prepare(box: Sandbox) -> Callable[[int, Random], Case]:
    """Returns a function that makes a case from its number."""
    pictures = make_mini_ade20k(box.work_dir / 'segmentation', num_train=4, num_val=2, size=segmentation.SIZE)
    boxes = make_mini_coco(box.work_dir / 'coco', num_train=3, num_val=2, size=64)
    sound = {
        segmentation.CONFIG: [*segmentation.SMALL, *segmentation.workers(0), *segmentation.roots(pictures)],
        coco.CONFIG: [*coco.SMALL, *segmentation.workers(0), *coco.roots(boxes)],
    }
    keys = [(segmentation.CONFIG, key) for key in SEGMENTOR] + [(coco.CONFIG, key) for key in DETECTOR]
    file = box.work_dir / 'broken.py'

    def make(number: int, rng: Random) -> Case:
        if number % 20 == 19:
            how = rng.choice(list(BROKEN_FILES))
            Config.fromfile(segmentation.CONFIG).dump(file)
            BROKEN_FILES[how](file, rng)
            return Case(f'config file: {how}', box.train(str(file), *sound[segmentation.CONFIG]), (file.name, ))
        config, key = keys[number % len(keys)]
        # Each key takes its values in a random order of its own.
        value = Random(key).sample(WRONG, len(WRONG))[number // len(keys) % len(WRONG)]
        named = (key, key.rpartition('.')[2], f'got {value!r}', "'wrong'", *part_types(config, key))
        return Case(key, box.train(config, *sound[config], f'{key}={written(value)}'), named,
                    lambda said: UNKNOWABLE if is_meant(key, value) else SILENT)

    return make
