"""Training that goes on after an interruption as if there had been none."""

import bisect

from mmengine.dist import get_dist_info
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader, IterableDataset

from ...errors import InputError
from ..data.seeded import MODEL, seed_generators, seeded
from ..internals import accumulative_counts, has_own_seeds, is_resuming, replace_data


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes a resumed run end with the weights of an uninterrupted one: bit for bit if the device is deterministic.

    What is random in an iteration follows from the run's seed and the iteration's number alone: the generators of the
    model (DropPath, dropout) are seeded before every iteration, those of the transforms before every sample
    (:mod:`mmreplk.mm.data.seeded`), each process and sample differently. So nothing has to be stored but the seed,
    which MMEngine keeps in every checkpoint, and batches that were trained on are skipped without being loaded. If the
    interruption may have swallowed an evaluation, that is made up for first.

    A run can be resumed with another number of processes or another batch size, but sees other data then, and says so.
    A run by epochs can be resumed only where an epoch begins: checkpoints from the middle of one are refused before
    training.
    Transforms that remember earlier images (MMDetection's ``CachedMosaic``) or keep generators of their own are not
    covered.
    """

    # After every other hook: CheckpointHook must be ready for the evaluation that is made up for.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._evaluating, self._evaluated = False, None

    def before_train(self, runner: Runner) -> None:
        """Seeds the data, and validates if the checkpoint was saved right before a validation.

        Raises:
            InputError: If a run by epochs is to be resumed, or its checkpoints are to be saved, in the middle of one.
        """
        loop, rank, self._batches = runner.train_loop, get_dist_info()[0], None
        # MMEngine seeds each process differently if asked; the order of the data must be common to all.
        self._seed = runner.seed - rank * has_own_seeds(runner)
        if not isinstance(loop, (IterBasedTrainLoop, EpochBasedTrainLoop)) or not _is_seedable(loop.dataloader):
            runner.logger.warning(f'ExactResumeHook: the data of {type(loop).__name__} are not seeded by iteration; '
                                  'a resumed run will see other data than an uninterrupted one.')
            return
        sampler = loop.dataloader.batch_sampler.sampler
        if hasattr(sampler, 'seed') and not _has_own_seed(runner):
            sampler.seed = self._seed  # it was built before MMEngine read the seed of the resumed run
        is_iter_based = isinstance(loop, IterBasedTrainLoop)
        if not is_iter_based:
            _refuse_parts_of_epochs(loop, runner)
        loader = seeded(loop.dataloader, self._seed, loop.iter if is_iter_based else 0, is_iter_based)
        replace_data(loop, loader, _ResumedBatches(loader, loop) if is_iter_based else None)
        self._batches = loader.batch_sampler
        counts = accumulative_counts(runner.optim_wrapper)
        if not is_iter_based and len(loop.dataloader) % counts:
            runner.logger.warning(f'ExactResumeHook: an epoch of {len(loop.dataloader)} batches ends between steps of '
                                  f'accumulative_counts={counts}; a run resumed after it lacks the gradients that had '
                                  'been accumulated.')
        if self._evaluated != runner.iter and _owes_validation(loop, runner):
            runner.logger.info(f'ExactResumeHook: validating at iteration {runner.iter} first: the run may have been '
                               'interrupted before it did so.')
            runner.val_loop.run()

    def before_train_epoch(self, runner: Runner) -> None:
        """Makes the data of every epoch differ."""
        if self._batches is not None:
            self._batches.epoch = runner.epoch

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Seeds the generators of the model."""
        self._evaluating = False
        seed_generators(self._seed, MODEL, get_dist_info()[0], runner.iter)

    def before_val(self, runner: Runner) -> None:
        """Notes that what is saved from now on has been evaluated."""
        self._evaluating = True

    def after_val(self, runner: Runner) -> None:
        """Notes the end of an evaluation."""
        self._evaluating = False

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Notes what the data of an iteration depend on besides the seed, and whether it has been evaluated.

        A checkpoint that is saved as the best holds what its evaluation did to the schedules; to evaluate again would
        do it twice.
        """
        checkpoint['meta'].update(drawn_by=_drawn_by(runner), evaluated=runner.iter if self._evaluating else None)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Warns if a run is resumed with another number of processes or another batch size."""
        self._evaluating, self._evaluated = False, checkpoint.get('meta', {}).get('evaluated')
        before = checkpoint.get('meta', {}).get('drawn_by')
        if is_resuming(runner) and before is not None and before != _drawn_by(runner):
            runner.logger.warning(f'ExactResumeHook: the run was interrupted with {before} and goes on with '
                                  f'{_drawn_by(runner)}: not on the data that an uninterrupted run would see.')


class _ResumedBatches:
    """What IterBasedTrainLoop draws from: a loader that already starts where the run goes on."""

    def __init__(self, loader: DataLoader, loop: IterBasedTrainLoop):
        self._loader, self._batches = loader, None
        self._skipped = 0 if getattr(loop, 'fast_forward_on_resume', False) else loop.iter

    def __iter__(self) -> '_ResumedBatches':
        return self

    def skip_iter(self, num_iters: int) -> None:
        """Called by the onedl fork, which skips in one call what was trained on."""
        self._skipped = 0

    def __next__(self) -> dict | None:
        if self._skipped:  # OpenMMLab's loop draws and drops as many batches as were trained on
            self._skipped -= 1
            return None
        if self._batches is None:
            self._batches = iter(self._loader)
        return next(self._batches)


def _is_seedable(loader: DataLoader) -> bool:
    return loader.batch_sampler is not None and not isinstance(loader.dataset, IterableDataset)


def _has_own_seed(runner: Runner) -> bool:
    sampler = (runner.cfg.get('train_dataloader') or {}).get('sampler') or {}
    return sampler.get('seed') is not None


def _drawn_by(runner: Runner) -> dict[str, int | None]:
    batches = runner.train_dataloader.batch_sampler
    return dict(processes=runner.world_size, batch_size=getattr(batches, 'batch_size', None))


def _owes_validation(loop: IterBasedTrainLoop | EpochBasedTrainLoop, runner: Runner) -> bool:
    if runner.val_loop is None or loop.iter == 0:
        return False
    done, end = (loop.iter, loop.max_iters) if isinstance(loop, IterBasedTrainLoop) else (loop.epoch, loop.max_epochs)
    interval = loop.dynamic_intervals[bisect.bisect(loop.dynamic_milestones, done + 1) - 1]
    return done >= loop.val_begin and (done % interval == 0 or done == end)


def _refuse_parts_of_epochs(loop: EpochBasedTrainLoop, runner: Runner) -> None:
    batches = len(loop.dataloader)
    if loop.iter % batches:
        raise InputError(f'the checkpoint was saved after {loop.iter} iterations, in the middle of an epoch of '
                         f'{batches}, but a run can only be resumed where an epoch begins. Name a checkpoint of whole '
                         'epochs, or remove ExactResumeHook from custom_hooks to begin the epoch again')
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and not hook.by_epoch and hook.interval % batches:
            raise InputError(f'{type(hook).__name__} saves every {hook.interval} iterations, in the middle of epochs '
                             f'of {batches}, from where ExactResumeHook cannot go on; set by_epoch=True in it, with an '
                             'interval in epochs')
