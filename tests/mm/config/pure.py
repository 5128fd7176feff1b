"""Our configs as pure Python, whose types are classes."""

from pathlib import Path

import pytest
from mmengine.config import Config

ROOT = Path(__file__).parents[3]
MODULES = {  # where what the text configs name is to be had
    'mmseg': ('mmseg.models', 'mmseg.datasets', 'mmseg.datasets.transforms', 'mmseg.evaluation', 'mmseg.engine',
              'mmseg.visualization'),
    'mmdet': ('mmdet.models', 'mmdet.datasets', 'mmdet.datasets.transforms', 'mmdet.evaluation', 'mmdet.engine',
              'mmdet.models.task_modules', 'mmdet.visualization'),
    '': ('mmreplk.mm', 'mmengine.runner', 'mmengine.hooks', 'mmengine.optim', 'mmengine.dataset',
         'mmengine.visualization', 'mmcv.transforms', 'torch.optim', 'mmcv.ops'),
}


def as_classes(node, scope, found):
    """Returns the text of a node with its types as classes, as far as the modules above have them."""
    if isinstance(node, dict):
        kind = node.get('type')
        for module in (*MODULES[scope], *MODULES['']) if isinstance(kind, str) else ():
            if isinstance(getattr(__import__(module, fromlist=['x']), kind, None), type):
                found.add((module, kind))
                kind = f'@{kind}@'
                break
        return dict({key: as_classes(value, scope, found) for key, value in node.items()}, **(
            dict(type=kind) if 'type' in node else {}))
    if isinstance(node, (list, tuple)):
        return type(node)(as_classes(value, scope, found) for value in node)
    return node


def write_pure(name, root, folder, **options):
    """Writes one of our configs in pure Python into ``folder``, a base and a leaf that reads it; returns the leaf."""
    cfg = Config.fromfile(ROOT / f'configs/{name}.py')
    scope = cfg.default_scope
    pytest.importorskip(scope)
    cfg.merge_from_dict({f'{split}_dataloader.dataset.data_root': f'{root}/' for split in ('train', 'val', 'test')})
    cfg.merge_from_dict({'randomness': dict(seed=0)})
    cfg.merge_from_dict({'train_dataloader.batch_size': 2, 'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2,
                         'default_hooks.checkpoint.interval': 2, 'train_dataloader.num_workers': 0,
                         'train_dataloader.persistent_workers': False, **options})
    found: set = set()
    parts = {key: as_classes(value, scope, found) for key, value in cfg.to_dict().items()
             if key not in ('custom_imports', 'default_scope')}
    text = '\n'.join(f'from {module} import {kind}' for module, kind in sorted(found))
    text += '\n' + '\n'.join(f'{key} = {value!r}' for key, value in parts.items())
    for _, kind in found:
        text = text.replace(f"'@{kind}@'", kind)
    (folder / 'pure_base.py').write_text(text)
    leaf = folder / 'pure_leaf.py'
    leaf.write_text('from mmengine.config import read_base\n\nwith read_base():\n    from .pure_base import *\n\n'
                    'log_level = "INFO"\n')
    return leaf
