"""Training that goes on after an interruption as if there had been none."""

from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader, IterableDataset

from ..data.seeded import MODEL, seed_generators, seeded


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes a resumed run end with the weights of an uninterrupted one: bit for bit where the device computes so.

    What is random in an iteration follows from the run's seed and the iteration's number alone: the generators of the
    model (DropPath, dropout) are seeded before every iteration, those of the transforms before every sample
    (:mod:`mmreplk.mm.data.seeded`), each process and sample differently. So nothing has to be stored but the seed,
    which MMEngine keeps in every checkpoint, and batches that were trained on are passed over without being loaded. An
    evaluation that the interruption may have swallowed is made up for first.

    A resumption with another number of processes or another batch size goes on too, on other data, and says so.
    Transforms that remember earlier images (MMDetection's ``CachedMosaic``) or keep generators of their own are not
    covered.
    """

    # After every other hook: CheckpointHook must be ready for the evaluation that is made up for.
    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Seeds the data, and validates if the checkpoint was saved right before a validation."""
        loop, rank, self._batches = runner.train_loop, get_dist_info()[0], None
        # MMEngine seeds each process differently if asked; the order of the data must be common to all.
        self._seed = runner.seed - rank * bool(runner._randomness_cfg.get('diff_rank_seed'))
        if not isinstance(loop, (IterBasedTrainLoop, EpochBasedTrainLoop)) or not _is_seedable(loop.dataloader):
            runner.logger.warning(f'ExactResumeHook: the data of {type(loop).__name__} are not seeded by iteration; '
                                  'a resumed run will see other data than an uninterrupted one.')
            return
        sampler = loop.dataloader.batch_sampler.sampler
        if hasattr(sampler, 'seed') and not _has_own_seed(runner):
            sampler.seed = self._seed  # it was built before MMEngine read the seed of the run that goes on
        is_iter_based = isinstance(loop, IterBasedTrainLoop)
        loop.dataloader = seeded(loop.dataloader, self._seed, loop.iter if is_iter_based else 0, is_iter_based)
        self._batches = loop.dataloader.batch_sampler
        counts = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        if not is_iter_based and len(loop.dataloader) % counts:
            runner.logger.warning(f'ExactResumeHook: an epoch of {len(loop.dataloader)} batches ends between steps of '
                                  f'accumulative_counts={counts}; a run resumed after it lacks the gradients that had '
                                  'been accumulated.')
        if is_iter_based:
            loop.dataloader_iterator = _ResumedBatches(loop.dataloader, loop)
        if _owes_validation(loop, runner):
            runner.logger.info(f'ExactResumeHook: validating at iteration {runner.iter}, before which the run may have '
                               'been interrupted.')
            runner.val_loop.run()

    def before_train_epoch(self, runner: Runner) -> None:
        """Lets the data of every epoch differ."""
        if self._batches is not None:
            self._batches.epoch = runner.epoch

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Seeds the generators of the model."""
        seed_generators(self._seed, MODEL, get_dist_info()[0], runner.iter)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Notes what the data of an iteration depend on besides the seed."""
        checkpoint['meta']['drawn_by'] = _drawn_by(runner)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Warns where a run goes on in another way."""
        before = checkpoint.get('meta', {}).get('drawn_by')
        if runner._resume and before is not None and before != _drawn_by(runner):
            runner.logger.warning(f'ExactResumeHook: the run was interrupted with {before} and goes on with '
                                  f'{_drawn_by(runner)}: not on the data that an uninterrupted run would see.')


class _ResumedBatches:
    """What IterBasedTrainLoop draws from: a loader that already is where the run goes on."""

    def __init__(self, loader: DataLoader, loop: IterBasedTrainLoop):
        self._loader, self._batches = loader, None
        self._skipped = 0 if getattr(loop, 'fast_forward_on_resume', False) else loop.iter

    def __iter__(self) -> '_ResumedBatches':
        return self

    def skip_iter(self, num_iters: int) -> None:
        """Takes the word of the onedl fork, which passes over what was trained on in one call."""
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
    loop._decide_current_val_interval()
    done, end = (loop.iter, loop.max_iters) if isinstance(loop, IterBasedTrainLoop) else (loop.epoch, loop.max_epochs)
    return done >= loop.val_begin and (done % loop.val_interval == 0 or done == end)
