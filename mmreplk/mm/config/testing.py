"""The options of ``tools/test.py``, each as the config's framework understands it."""

import copy
import os

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from ...errors import InputError
from ..kinds import kind_of, listed_parts, only_writes


def prepare_testing(cfg: Config,
                    checkpoint: str,
                    show: bool = False,
                    show_dir: str | None = None,
                    wait_time: float = 2,
                    tta: bool = False,
                    out: str | None = None,
                    dtype: str = 'float32') -> None:
    """Makes ``cfg`` test a checkpoint, with options that each framework understands in its own way.

    Args:
        cfg: The config, changed in place.
        checkpoint: The file; it must hold the whole model.
        show: Show predictions in a window.
        show_dir: The folder for pictures of predictions.
        wait_time: For how many seconds each is shown.
        tta: Test-time augmentation.
        out: The folder for predictions: label maps of a segmentor, COCO's JSON of a detector; or a detector's ``.pkl``
            file for the tools of MMDetection.
        dtype: What ``ReparamHook`` computes in, which ``'bfloat16'`` adds where the config has none.

    Raises:
        InputError: If the config lacks what an option needs.
    """
    is_detection = cfg.get('default_scope') == 'mmdet'
    cfg.load_from, cfg.resume = checkpoint, False
    hooks = cfg.setdefault('custom_hooks', [])
    if not any(kind_of(hook) == 'StrictLoadHook' for hook in hooks):
        hooks.append(dict(type='StrictLoadHook'))
    if dtype != 'float32':
        _use_dtype(hooks, dtype)
    for option, folder in (('--show-dir', show_dir), ('--out', None if is_detection else out)):
        if folder and os.path.isfile(folder):
            raise InputError(f'{option} must be a folder, {folder!r} is a file')
    if show or show_dir:
        hook = cfg.get('default_hooks', {}).get('visualization')
        if hook is None:
            raise InputError('--show and --show-dir need default_hooks.visualization in the config')
        hook.update(draw=True, interval=1, show=show, wait_time=wait_time)
        if show_dir and is_detection:
            hook.test_out_dir = os.path.abspath(show_dir)  # else it would be below the run's log
        elif show_dir:
            cfg.visualizer.save_dir = show_dir
    if tta:
        _use_tta(cfg, is_detection)
    if only_writes(cfg.get('test_evaluator')):
        # A test split has no labels to load.
        dataset = _inner_dataset(cfg)
        dataset.pipeline = _without_labels(dataset.pipeline)
    if out:
        _keep_predictions(cfg, out, is_detection)
    if is_detection:
        _keep_category_ids(cfg)


def _use_dtype(hooks: list, dtype: str) -> None:
    merging = [hook for hook in hooks if kind_of(hook) == 'ReparamHook']
    if not merging:
        merging.append(dict(type='ReparamHook'))
        hooks += merging
    for hook in merging:
        hook['dtype'] = dtype


def _use_tta(cfg: Config, is_detection: bool) -> None:
    dataset = _inner_dataset(cfg)
    if 'tta_pipeline' not in cfg and is_detection:
        # MMDetection's own default: the test pipeline, once as it is and once flipped.
        pack = copy.deepcopy(dataset.pipeline[-1])
        pack.meta_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction')
        flips = [dict(type='RandomFlip', prob=1.), dict(type='RandomFlip', prob=0.)]
        cfg.tta_pipeline = [*dataset.pipeline[:-1], dict(type='TestTimeAug', transforms=[flips, [pack]])]
        cfg.setdefault(
            'tta_model',
            dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)))
    if 'tta_pipeline' not in cfg or 'tta_model' not in cfg:
        raise InputError('--tta needs tta_pipeline and tta_model in the config')
    if is_detection:
        _leave_masks_out(cfg)
    dataset.pipeline = cfg.tta_pipeline
    # dict(**tta_model) would put classes into a pure-Python config, which OpenMMLab's MMEngine cannot write to a file.
    model, cfg.model = cfg.model, copy.copy(cfg.tta_model)
    cfg.model.module = model


def _inner_dataset(cfg: Config) -> ConfigDict:
    """Returns the test dataset inside any wrappers."""
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    return dataset


def _without_labels(steps: list) -> list:
    """Returns a pipeline, or the groups of steps of test-time augmentation, without what loads labels."""
    kept = []
    for step in steps:
        if isinstance(step, list):
            kept += [inner] if (inner := _without_labels(step)) else []
        elif kind_of(step) != 'LoadAnnotations':
            kept.append(copy.copy(step))
            if kind_of(step) == 'TestTimeAug':
                kept[-1]['transforms'] = _without_labels(step['transforms'])
    return kept


def _leave_masks_out(cfg: Config) -> None:
    """Makes a detector predict and evaluate boxes only: MMDetection cannot merge masks over several views."""
    roi_head = cfg.model.get('roi_head') or {}
    if not roi_head.get('mask_head'):
        return
    roi_head.update(mask_head=None, mask_roi_extractor=None)
    for evaluator in listed_parts(cfg.test_evaluator):
        if kind_of(evaluator) == 'CocoMetric':
            evaluator.metric = 'bbox'
    print_log('--tta: masks are left out, since MMDetection merges only boxes over several views.', logger='current')


def _keep_predictions(cfg: Config, out: str, is_detection: bool) -> None:
    if not is_detection:
        cfg.test_evaluator.update(output_dir=out, keep_results=True)
        return
    evaluators = listed_parts(cfg.test_evaluator)
    if out.endswith(('.pkl', '.pickle')):
        cfg.test_evaluator = [*evaluators, dict(type='DumpDetResults', out_file_path=out)]
        return
    writers = [evaluator for evaluator in evaluators if kind_of(evaluator) == 'CocoMetric']
    if not writers:
        raise InputError(f'--out {out!r}: only CocoMetric writes a folder; name a .pkl file for another evaluator')
    writers[0].outfile_prefix = f'{out}/predictions'


def _keep_category_ids(cfg: Config) -> None:
    """Gives the dataset's annotation file to evaluators that write results: without it, categories are renumbered."""
    dataset = _inner_dataset(cfg)
    for evaluator in listed_parts(cfg.get('test_evaluator')):
        if kind_of(evaluator) == 'CocoMetric' and evaluator.get('outfile_prefix') and not evaluator.get('ann_file') \
                and str(dataset.get('ann_file') or '').endswith('.json') and 'indices' not in dataset:
            evaluator.ann_file = os.path.join(dataset.get('data_root') or '', dataset.ann_file)
