"""Saves checkpoints so that there is always a whole one."""

import os
import re
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...io import remove_abandoned
from ..data.categories import category_ids
from ..internals import is_resuming


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's CheckpointHook, but it removes outdated and previous best checkpoints only once the next is whole.

    It takes the same arguments. With ``backend_args=dict(backend='mmreplk.atomic_local')`` a process killed at any
    moment leaves whole checkpoints only. What it had begun to write is removed when the next run in the same folder
    begins; what it still had to remove is removed when the run is resumed. MMEngine reads in a checkpoint which files
    are outdated: this hook removes none outside of the folder of the checkpoints.
    """

    _left_over: tuple[str, ...] = ()

    @property
    def file_backend(self) -> '_Deferring':
        """Where checkpoints are saved, as MMEngine sets and uses it."""
        return self._backend

    @file_backend.setter
    def file_backend(self, backend: object) -> None:
        self._backend = _Deferring(backend)

    def before_train(self, runner: Runner) -> None:
        """Prepares saving, as MMEngine does, and clears away what a killed run left half-written or outdated."""
        self._logger = runner.logger
        super().before_train(runner)
        pattern = re.escape(self.filename_tmpl).replace(r'\{\}', r'\d+')
        kept = [self.filename_tmpl.format(step) for step in getattr(self, 'keep_ckpt_ids', ())]
        for name in self._left_over:
            if name not in kept and re.fullmatch(rf'{pattern}|best_[^/\\]+\.pth', name):
                path = self._backend.join_path(self.out_dir, name)
                if self._backend.exists(path):
                    self._backend.remove(path)
        self._remove_outdated()
        if is_main_process():
            for part in Path(self.out_dir).glob('*.pth*.part'):
                if remove_abandoned(part):
                    runner.logger.info(f'SafeCheckpointHook: removed {part}, which an interrupted run left '
                                       'half-written.')

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Reads what the run still had to remove when it was interrupted."""
        names = checkpoint.get('meta', {}).get('outdated') if is_resuming(runner) else None
        self._left_over = tuple(filter(lambda name: isinstance(name, str), names if isinstance(names, list) else ()))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Notes the ids of COCO's categories, and what is to be removed once this checkpoint is whole."""
        meta = checkpoint['meta']
        # Beside what MMEngine saves of the training data: it warns, when a run is resumed, if that has changed.
        if 'dataset_meta' in meta and (ids := category_ids(runner.train_dataloader.dataset)):
            meta['category_ids'] = ids
        if hasattr(self, '_backend'):  # not set if a program saves before training
            meta['outdated'] = [os.path.basename(path) for path in self._no_more_needed()]

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Saves, as MMEngine does, and then removes."""
        super().after_train_iter(runner, *args, **kwargs)
        self._remove_outdated()

    def after_train_epoch(self, runner: Runner) -> None:
        """Saves, as MMEngine does, and then removes."""
        super().after_train_epoch(runner)
        self._remove_outdated()

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Saves the best, as MMEngine does, and then removes."""
        super().after_val_epoch(runner, metrics)
        if hasattr(self, '_backend'):
            self._remove_outdated()

    def _no_more_needed(self) -> list[str]:
        best = [getattr(self, 'best_ckpt_path', None), *getattr(self, 'best_ckpt_path_dict', {}).values()]
        used = {str(path) for path in (getattr(self, 'last_ckpt', None), *best)}
        return [path for path in self._backend.outdated if str(path) not in used]  # a fixed name was overwritten

    def _remove_outdated(self) -> None:
        for path in self._no_more_needed():
            folder, name = os.path.split(path)
            if folder.rstrip('/') != str(self.out_dir).rstrip('/') or name in ('', '.', '..'):
                self._logger.warning(f'SafeCheckpointHook: {path}, which the checkpoint calls outdated, is not in '
                                     f'{self.out_dir} and stays.')
            elif is_main_process():
                self._backend.remove_now(path)
        self._backend.outdated.clear()


class _Deferring:
    """A file backend that notes in ``outdated`` what it is told to remove, instead of removing it."""

    def __init__(self, backend: object):
        self._backend, self.outdated = backend, []

    def __getattr__(self, name: str) -> object:
        return getattr(vars(self)['_backend'], name)

    def remove(self, path: str) -> None:
        self.outdated.append(path)

    rmtree = remove

    def remove_now(self, path: str) -> None:
        """Removes a file or, as DeepSpeed's checkpoints are, a folder."""
        if self._backend.isdir(path):
            self._backend.rmtree(path)
        elif self._backend.isfile(path):
            self._backend.remove(path)
