"""Checkpoints of which the last whole one is never missing."""

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's CheckpointHook, which removes an outdated or previous best checkpoint only once the next is whole.

    It takes the same arguments. With ``backend_args=dict(backend='mmreplk.atomic_local')`` a process killed at any
    moment leaves whole checkpoints only; what it had begun to write is removed when the next run in the same folder
    begins.
    """

    def before_train(self, runner: Runner) -> None:
        """Prepares saving, as MMEngine does, and clears away what a killed run left half-written."""
        super().before_train(runner)
        self._outdated: list[str] = []
        self._remove, self.file_backend.remove = self.file_backend.remove, self._outdated.append
        if is_main_process():
            for part in Path(self.out_dir).glob('*.pth*.part'):
                runner.logger.info(f'SafeCheckpointHook: removing {part}, which an interrupted run left half-written.')
                part.unlink()

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        super()._save_checkpoint_with_step(runner, step, meta)
        self._remove_outdated()

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        super()._save_best_checkpoint(runner, metrics)
        self._remove_outdated()

    def _remove_outdated(self) -> None:
        best = [getattr(self, 'best_ckpt_path', None), *getattr(self, 'best_ckpt_path_dict', {}).values()]
        for path in self._outdated:
            if path not in (self.last_ckpt, *best):  # a fixed name is overwritten, not outdated
                self._remove(path)
        self._outdated.clear()
