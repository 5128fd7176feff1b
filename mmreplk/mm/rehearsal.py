"""A run in miniature before training: what would fail at the first validation, hours later, fails within seconds."""

import copy
import gc
import logging
import math
import os
import random
import shutil
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import get_rank, get_world_size
from mmengine.logging import print_log
from mmengine.registry import DATA_SAMPLERS
from PIL import Image
from torch.utils.data import Dataset, Sampler

from ..errors import InputError
from ..spread import evenly_spread
from .checks.maps import seen_maps
from .checks.schedule import counts_epochs, overlong, unsaved
from .config.errors import config_errors, is_of_the_machine
from .internals import leave_unformatted
from .kinds import kind_of, listed_parts
from .processes import join_processes
from .runner import build_runner, close_runner

SAMPLES = 2  # the smallest and the largest, so that a batch of different sizes is rehearsed too
ITERATIONS = 2  # what the first leaves undone, such as gradients that another process waits for, shows in the second
LOOKED_AT = 50  # pictures among which the smallest and the largest are looked for
FOLDER, TRACEBACK = '.rehearsal', 'rehearsal_error.txt'  # in the work dir
_ONE_VALUE = 'more than 1 value per channel'  # PyTorch's words for a BatchNorm of one image and pixel
_SINGLE_PROCESS = ('persistent_workers', 'prefetch_factor', 'multiprocessing_context', 'timeout', 'num_batch_per_epoch')
_WRITTEN = ('output_dir', 'outfile_prefix', 'out_file_path', 'out_dir')  # where evaluators and hooks write


def rehearse(cfg: Config) -> None:
    """Trains two iterations on two samples, validates on two and saves, all in a folder that is removed again.

    It leaves nothing behind in the run that follows: no weights, random numbers, log or files. There is no rehearsal if
    ``train_cfg`` counts neither iterations nor epochs, if ``runner_type`` names another runner, or if the config says
    ``rehearsal = False``.

    Args:
        cfg: The config of the run, which is not changed.

    Raises:
        InputError: With what would have ended the run. Its traceback, if it has one, is in ``TRACEBACK`` in the work
            dir.
    """
    if not cfg.get('rehearsal', True) or 'runner_type' in cfg or counts_epochs(cfg.get('train_cfg')) is None:
        return
    begin = time.monotonic()
    join_processes(cfg)
    rank = get_rank()
    work_dir = Path(cfg.work_dir)
    is_new, folder = not work_dir.exists(), work_dir / f'{FOLDER}{rank}'
    (work_dir / TRACEBACK).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)  # left by one that was killed
    try:
        with _without_a_trace(), config_errors(cfg):
            runner = build_runner(shortened(cfg, folder))
            try:
                with seen_maps(runner.model) as seen:
                    runner.train()
                iterations = _iterations(cfg, len(runner.train_dataloader.dataset))
            finally:
                close_runner(runner)
    except Exception as error:
        if is_of_the_machine(error):
            raise
        raise InputError(f'{_told(error)} (found by the rehearsal before training{_kept(error, work_dir)}; '
                         '--no-rehearsal skips it)') from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if is_new:
            with suppress(OSError):  # another process may still be in it
                work_dir.rmdir()
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    if rank == 0:
        late = (*unsaved(cfg, iterations), *overlong(cfg, iterations)) if iterations else ()
        for sentence in (*late, *seen.sentences()):
            print_log(sentence, logger='current', level=logging.WARNING)
        print_log(f'Rehearsed on {SAMPLES} samples: training, validation, saving, in {time.monotonic() - begin:.1f} s.',
                  logger='current')


def shortened(cfg: Config, work_dir: str | Path) -> Config:
    """Returns a copy of ``cfg`` that trains, validates and saves once on few samples, and writes to ``work_dir`` only.

    Args:
        cfg: The config of a run by iterations or epochs.
        work_dir: Where everything goes.
    """
    short = copy.deepcopy(cfg)
    leave_unformatted(short)
    # The run itself will give any warning again.
    short.update(work_dir=str(work_dir), load_from=None, resume=False, log_level='ERROR')
    short.pop('compile', None)  # which takes minutes
    loop, by_epoch = short.train_cfg, counts_epochs(short.train_cfg)
    for name, repeats in (('train_dataloader', ITERATIONS), ('val_dataloader', 1)):
        loader = short.get(name)
        if not isinstance(loader, dict):
            continue
        for key in _SINGLE_PROCESS:
            loader.pop(key, None)
        loader['num_workers'], loader['sampler'] = 0, dict(type='ExtremeSampler', repeats=repeats)
        if 'batch_size' in loader:
            if name == 'train_dataloader' and by_epoch and not loader.get('drop_last'):
                loader['sampler']['batch_size'] = loader['batch_size']
            loader['batch_size'] = min(loader['batch_size'], SAMPLES)
    length = 'max_epochs' if by_epoch else 'max_iters'
    end = 1 if by_epoch else ITERATIONS
    is_validated = loop.get('val_begin', 1) <= loop[length]
    loop.update({length: end, 'val_interval': end, 'val_begin': 1 if is_validated else end + 1})
    loop.pop('dynamic_intervals', None)
    short.optim_wrapper.pop('accumulative_counts', None)
    hooks = short.get('default_hooks') or {}
    checkpoint = hooks.get('checkpoint') or {}
    checkpoint['interval'] = 1 if checkpoint.get('by_epoch', True) else ITERATIONS
    if checkpoint.pop('out_dir', None):
        checkpoint.pop('backend_args', None)
    if hooks.get('logger'):
        hooks['logger'].update(interval=1, out_dir=None)
    # A batch of two may hold nothing to learn from, and the loss of nothing may be NaN.
    short.custom_hooks = [hook for hook in short.get('custom_hooks') or [] if kind_of(hook) != 'NonFiniteHook']
    for part in (*listed_parts(short.get('val_evaluator')), *short.custom_hooks):
        for key in _WRITTEN:
            if isinstance(part, dict) and isinstance(part.get(key), str):
                part[key] = str(Path(work_dir, Path(part[key]).name))
    if isinstance(short.get('visualizer'), dict):  # the other backends write elsewhere
        backends = listed_parts(short.visualizer.get('vis_backends'))
        short.visualizer['vis_backends'] = [one for one in backends if kind_of(one) == 'LocalVisBackend']
    return short


@DATA_SAMPLERS.register_module()
class ExtremeSampler(Sampler):
    """Yields the smallest and the largest of the pictures that it looks at, over and over, the same in every process.

    Args:
        dataset: The dataset; if the sizes of its pictures cannot be read, its first and its last sample are taken.
        repeats: How often each is yielded in an epoch.
        batch_size: Batch size of a run by epochs that keeps the last batch: if that has one sample, the last one here
            has one, too. None for other runs.
        seed: Not used; MMEngine gives it to every sampler.
    """

    def __init__(self, dataset: Dataset, repeats: int = 1, batch_size: int | None = None, seed: int | None = None):
        self.dataset = dataset
        count = len(dataset)
        if not count:
            raise InputError('a dataset of the config has no sample: its filters leave none')
        by_size = sorted(evenly_spread(range(count), LOOKED_AT), key=lambda index: _pixels(dataset, index))
        self.indices = [by_size[0], by_size[-1]] * repeats
        if batch_size and batch_size > 1 and math.ceil(count / get_world_size()) % batch_size == 1:
            self.indices.append(by_size[0])

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def set_epoch(self, epoch: int) -> None:
        """Every epoch is the same."""


def _pixels(dataset: Dataset, index: int) -> int:
    """Returns how many pixels a picture has, 0 if its size cannot be read quickly."""
    try:
        info = dataset.get_data_info(index)
        if 'width' in info and 'height' in info:
            return info['width'] * info['height']
        if not os.path.isfile(info['img_path']):  # a named pipe would be waited for
            return 0
        with Image.open(info['img_path']) as image:
            return image.width * image.height
    except Exception:  # what is wrong with the sample shows when it is loaded
        return 0


def _iterations(cfg: Config, samples: int) -> int | None:
    """Returns how many iterations a run by epochs has; None for one by iterations, which says so itself."""
    loader = cfg.train_dataloader
    if not counts_epochs(cfg.train_cfg) or 'batch_size' not in loader:
        return None
    own = math.ceil(samples / get_world_size())
    batches = own / loader['batch_size']
    return cfg.train_cfg['max_epochs'] * (math.floor if loader.get('drop_last') else math.ceil)(batches)


@contextmanager
def _without_a_trace() -> Iterator[None]:
    """Keeps the block from printing, and restores all random generators and PyTorch's switches after it."""
    state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    switches = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    is_deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter('ignore')
            yield
    finally:
        random.setstate(state[0])
        np.random.set_state(state[1])
        torch.set_rng_state(state[2])
        if gpus:
            torch.cuda.set_rng_state_all(gpus)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = switches
        torch.use_deterministic_algorithms(is_deterministic)


def _told(error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    hint = '; train_dataloader.drop_last=True leaves out a last batch of one image' * (_ONE_VALUE in str(error))
    return f'{type(error).__name__}: {error}{hint}'


def _kept(error: Exception, work_dir: Path) -> str:
    """Saves the traceback of the error behind ``error``; returns a clause that says where, ``''`` if it has none."""
    cause = error.__cause__ if isinstance(error, InputError) else error
    if cause is None:
        return ''
    path = work_dir / TRACEBACK
    work_dir.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(traceback.format_exception(cause)))
    return f'; the traceback is in {path}'
