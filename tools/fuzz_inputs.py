"""Feeds the tools mutilated datasets, configs with wrong values and mutilated checkpoints, and judges what they do.

Each case runs in a process of its own. Right is to be refused with one sentence (exit code 2), or to be none the worse.
Wrong are a hang, a crash, code executed from a file, and training or testing as if nothing were the matter; a Python
traceback is counted apart. The table that it prints is also written to WORK_DIR/KIND.json.
"""

import argparse
import collections
import contextlib
import json
import os
import pickle
import random
import runpy
import shutil
import signal
import sys
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mmreplk.datasets import make_mini_ade20k

ROOT = Path(__file__).resolve().parents[1]
CONFIG = 'configs/upernet_replknet_tiny_miniade20k.py'
TIMEOUT_SECONDS = 60
SMALL = [
    'model.backbone.arch.channels=(8,8,8,8)', 'model.decode_head.in_channels=(8,8,8,8)', 'model.decode_head.channels=8',
    'train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'train_dataloader.batch_size=4', 'log_level=WARNING'
]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('kind', choices=['datasets', 'configs', 'checkpoints'])
    parser.add_argument('--count', type=int, default=100, help='how many cases; default %(default)s')
    parser.add_argument('--seed', type=int, default=0, help='default %(default)s')
    parser.add_argument('--work-dir', default='work_dirs/fuzz', help='is emptied; default %(default)s')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    warnings.simplefilter('ignore')
    import mmseg.datasets
    import mmseg.models  # noqa: F401  # once, before the processes are forked
    torch.set_num_threads(1)
    work_dir = Path(args.work_dir).resolve()
    shutil.rmtree(work_dir, ignore_errors=True)
    data = make_mini_ade20k(work_dir / 'data', num_train=4, num_val=2)
    case = Case(work_dir, data)
    make = dict(datasets=mutilated_dataset, configs=wrong_value, checkpoints=mutilated_checkpoint)[args.kind](case)
    tally, wrong = collections.defaultdict(collections.Counter), []
    for number in range(args.count):
        name, may_pass, arguments = make(number, random.Random(f'{args.seed} {number}'))
        outcome, words = case.attempt(arguments)
        if outcome == 'passed':
            outcome = 'passed, harmless' if may_pass else 'PASSED SILENTLY'
        tally[name][outcome] += 1
        if outcome not in ('refused', 'passed, harmless'):
            wrong.append(dict(number=number, name=name, outcome=outcome, words=words))
            print(f'{number}: {name}: {outcome}: {words[-300:]}', flush=True)
    total = sum(tally.values(), collections.Counter())
    for name, outcomes in sorted(tally.items()):
        print(f'{name:40}', ', '.join(f'{outcome} {count}' for outcome, count in sorted(outcomes.items())))
    print('all:', ', '.join(f'{outcome} {count}' for outcome, count in sorted(total.items())))
    (work_dir / f'{args.kind}.json').write_text(json.dumps(dict(total=total, tally=tally, wrong=wrong), indent=1))
    sys.exit(1 if set(total) - {'refused', 'passed, harmless', 'traceback'} else 0)


class Case:
    """Where the cases run, and how."""

    def __init__(self, work_dir: Path, data: Path):
        self.work_dir, self.data, self.marker = work_dir, data, work_dir / 'executed'

    def train(self, data: Path, *options: str) -> list[str]:
        """Returns a command line that trains the smallest network on ``data`` for two iterations."""
        return ['tools/train.py', CONFIG, '--work-dir', str(self.work_dir / 'run'), '--cfg-options', *SMALL,
                *roots(data), *options]  # yapf: disable

    def test(self, checkpoint: Path) -> list[str]:
        """Returns a command line that evaluates ``checkpoint``."""
        return ['tools/test.py', CONFIG, str(checkpoint), '--work-dir', str(self.work_dir / 'run'), '--cfg-options',
                *SMALL, *roots(self.data)]  # yapf: disable

    def attempt(self, arguments: list[str]) -> tuple[str, str]:
        """Runs a tool in a fork of this process; returns what became of it and its last words."""
        shutil.rmtree(self.work_dir / 'run', ignore_errors=True)
        output = self.work_dir / 'output.txt'
        child = os.fork()
        if not child:
            os.setsid()
            run_tool(arguments, output)
        code, deadline = None, time.time() + TIMEOUT_SECONDS
        while code is None and time.time() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            code = os.waitstatus_to_exitcode(status) if done else None
            time.sleep(.01)
        with contextlib.suppress(ProcessLookupError):  # with the workers that it may have left
            os.killpg(child, signal.SIGKILL)
        if code is None:
            os.waitpid(child, 0)
        said = output.read_text(errors='replace').strip()
        if self.marker.exists():
            self.marker.unlink()
            return 'EXECUTED', said
        if code is None:
            return 'HUNG', said
        if code < 0:
            return 'CRASHED', said
        if code == 2:
            errors = [line for line in said.splitlines() if line.startswith('error: ')]
            return 'refused' if len(errors) == 1 and 'Traceback' not in said else 'traceback', said
        return ('passed' if code == 0 else 'traceback'), said


def run_tool(arguments: list[str], output: Path) -> None:
    """Becomes the tool, as if it had been started from a shell."""
    code = 1
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.chdir(ROOT)
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name='__main__')
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 1 if ending.code else 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def roots(data: Path) -> list[str]:
    return [f'{name}_dataloader.dataset.data_root={data}' for name in ('train', 'val', 'test')]


# Datasets: one file of the training or validation images or label maps is not what it should be.


def truncate(path: Path, rng: random.Random) -> None:
    path.write_bytes(path.read_bytes()[:rng.randrange(1, path.stat().st_size - 20)])


def flip_bytes(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(rng.randrange(1, 30)):
        content[rng.randrange(len(content))] ^= rng.randrange(1, 256)
    path.write_bytes(content)


def save(path: Path, array: np.ndarray) -> None:
    Image.fromarray(array).save(path)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def out_of_range(path: Path, rng: random.Random) -> None:
    labels = read(path)
    labels[:rng.randrange(20, 60)] = rng.randrange(152, 255)
    save(path, labels)


def other_size(path: Path, rng: random.Random) -> None:
    array = read(path)
    save(path, array[:rng.randrange(8, array.shape[0] - 1), :rng.randrange(8, array.shape[1])])


def to_directory(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


def huge(path: Path, rng: random.Random) -> None:
    Image.new('L', (30000, 30000)).save(path, format='PNG')


# What happens to a file, by name: to images, to label maps, or to both; whether it may do no harm.
DAMAGE = {
    'image missing': ('images', lambda path, rng: path.unlink(), True),  # MMSegmentation lists what is there
    'label map missing': ('annotations', lambda path, rng: path.unlink(), False),
    'image empty': ('images', lambda path, rng: path.write_bytes(b''), False),
    'label map empty': ('annotations', lambda path, rng: path.write_bytes(b''), False),
    'image truncated': ('images', truncate, True),  # decoders fill up what is missing at the end
    'label map truncated': ('annotations', truncate, False),
    'image with flipped bytes': ('images', flip_bytes, True),  # most are another picture of the same size
    'label map with flipped bytes': ('annotations', flip_bytes, True),
    'image is text': ('images', lambda path, rng: path.write_text('not a picture'), False),
    'label map is text': ('annotations', lambda path, rng: path.write_text('not a picture'), False),
    'image is a directory': ('images', to_directory, True),  # is not listed either
    'labels out of range': ('annotations', out_of_range, False),
    'label map of another size': ('annotations', other_size, False),
    'image of another size': ('images', other_size, False),
    'label map in colours': ('annotations', lambda path, rng: save(path, np.stack([read(path)] * 3, -1)), False),
    'label map of 16 bits': ('annotations', lambda path, rng: save(path, read(path).astype(np.uint16) + 256), False),
    'image of 900 million pixels': ('images', huge, False),
    'image in grey': ('images', lambda path, rng: save(path, read(path)[..., 0]), True),
    'image of one pixel': ('images', lambda path, rng: save(path, read(path)[:1, :1]), False),
}


def mutilated_dataset(case: Case) -> Callable:

    def make(number: int, rng: random.Random) -> tuple[str, bool, list[str]]:
        name = list(DAMAGE)[number % len(DAMAGE)]
        part, damage, may_pass = DAMAGE[name]
        data = case.work_dir / 'mutilated'
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(case.data, data)
        damage(rng.choice(sorted((data / part / rng.choice(['training', 'validation'])).iterdir())), rng)
        return name, may_pass, case.train(data)

    return make


# Configs: every number, word and pair in what is trained with takes values that it must not have.

WRONG = [-1, 0, 1.5, 10**6, 'nan', 'wrong', None, (), (0, 0), (-1, 5), True]
KEYS = [
    'model.backbone.arch', 'model.backbone.in_channels', 'model.backbone.out_indices', 'model.backbone.drop_path_rate',
    'model.backbone.norm_cfg.type', 'model.backbone.frozen_stages', 'model.backbone.arch.small_kernel',
    'model.backbone.arch.layers', 'model.backbone.arch.large_kernel_sizes', 'model.backbone.unknown',
    'model.decode_head.in_channels', 'model.decode_head.in_index', 'model.decode_head.num_classes',
    'model.decode_head.type', 'model.decode_head.loss_decode.type', 'model.data_preprocessor.size',
    'model.data_preprocessor.mean', 'model.type', 'train_dataloader.batch_size', 'train_dataloader.num_workers',
    'train_dataloader.sampler.type', 'train_dataloader.dataset.type', 'train_dataloader.dataset.data_prefix.img_path',
    'train_dataloader.dataset.data_prefix.seg_map_path', 'train_dataloader.dataset.pipeline.2.scale',
    'train_dataloader.dataset.pipeline.3.crop_size', 'train_dataloader.dataset.pipeline.4.prob', 'optim_wrapper.type',
    'optim_wrapper.optimizer.type', 'optim_wrapper.optimizer.lr', 'optim_wrapper.optimizer.betas',
    'optim_wrapper.optimizer.weight_decay', 'optim_wrapper.accumulative_counts', 'param_scheduler.0.type',
    'param_scheduler.1.power', 'train_cfg.max_iters', 'train_cfg.val_interval', 'train_cfg.type', 'val_evaluator.type',
    'val_evaluator.iou_metrics', 'default_hooks.checkpoint.interval', 'default_hooks.checkpoint.save_best',
    'default_hooks.logger.interval', 'custom_hooks.0.type', 'custom_hooks.4.action', 'default_scope', 'load_from',
]  # yapf: disable
# Values of WRONG that are right for a key, or mean what a reader would expect.
RIGHT = {
    'model.backbone.drop_path_rate': [0], 'model.backbone.frozen_stages': [-1, 0, True],
    'model.backbone.arch.small_kernel': [None],
    'model.decode_head.num_classes': [10**6], 'model.data_preprocessor.size': [None],
    'model.data_preprocessor.mean': [None],
    'train_dataloader.num_workers': [0], 'train_dataloader.dataset.pipeline.4.prob': [0, None, True],
    'optim_wrapper.optimizer.lr': [0, 1.5, 10**6], 'optim_wrapper.optimizer.weight_decay': [0, 1.5, 10**6],
    'param_scheduler.1.power': [0, 1.5, 10**6, -1, True], 'train_cfg.val_interval': [10**6],
    'default_hooks.checkpoint.interval': [-1, 10**6, True], 'default_hooks.checkpoint.save_best': [None],
    'default_hooks.logger.interval': [10**6], 'load_from': [None],
    'train_dataloader.dataset.data_prefix.seg_map_path': [None],
}  # yapf: disable


def wrong_value(case: Case) -> Callable:
    cases = [(key, value) for value in WRONG for key in KEYS]
    random.Random(0).shuffle(cases)

    def make(number: int, rng: random.Random) -> tuple[str, bool, list[str]]:
        key, value = cases[number % len(cases)]
        text = '(' + ','.join(map(str, value)) + ')' if isinstance(value, tuple) else str(value)
        is_right = any(type(value) is type(right) and value == right for right in RIGHT.get(key, []))
        return f'{key}={text}', is_right, case.train(case.data, f'{key}={text}')

    return make


# Checkpoints: what tools/test.py is given is not what training saved.


class Hostile:
    """Unpickles by leaving a mark, as malicious code would."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker), )


def change_weights(change: Callable) -> Callable:
    """Returns what applies ``change(weights, name, rng)`` to one tensor of a checkpoint's weights."""

    def damage(path: Path, rng: random.Random, case: Case) -> None:
        saved = torch.load(path, weights_only=False)
        names = [name for name, tensor in saved['state_dict'].items() if tensor.ndim == 4]
        change(saved['state_dict'], rng.choice(names), rng)
        torch.save(saved, path)

    return damage


def swap(weights: dict, name: str, rng: random.Random) -> None:
    other = rng.choice([n for n, tensor in weights.items() if tensor.shape != weights[name].shape])
    weights[name], weights[other] = weights[other], weights[name]


def hide_hostile(path: Path, rng: random.Random, case: Case) -> None:
    saved = torch.load(path, weights_only=False)
    place = rng.choice([saved, saved['meta'], saved['state_dict']])
    place['mark'] = Hostile(case.marker)
    torch.save(saved, path)


def only_hostile(path: Path, rng: random.Random, case: Case) -> None:
    path.write_bytes(pickle.dumps(Hostile(case.marker)))


def without_member(path: Path, rng: random.Random, case: Case) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members.pop(rng.choice(list(members)))
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in members.items():
            archive.writestr(name, content)


BROKEN = {
    'truncated': (lambda path, rng, case: truncate(path, rng), False),
    'flipped bytes': (lambda path, rng, case: flip_bytes(path, rng), False),
    'empty': (lambda path, rng, case: path.write_bytes(b''), False),
    'random bytes': (lambda path, rng, case: path.write_bytes(rng.randbytes(5000)), False),
    'text': (lambda path, rng, case: path.write_text('not a checkpoint'), False),
    'a part of the archive is missing': (without_member, True),  # such as its version number
    'hostile among the contents': (hide_hostile, False),
    'hostile pickle': (only_hostile, False),
    'key missing': (change_weights(lambda weights, name, rng: weights.pop(name)), False),
    'extra key': (change_weights(lambda weights, name, rng: weights.update(extra=torch.ones(3))), True),
    'tensors swapped': (change_weights(swap), False),
    'wrong shape': (change_weights(lambda w, name, rng: w.update({name: w[name][..., :-1]})), False),
    'weight in float64': (change_weights(lambda w, name, rng: w.update({name: w[name].double()})), True),
    'weight of integers': (change_weights(lambda w, name, rng: w.update({name: w[name].int()})), False),
    'weight of NaN': (change_weights(lambda w, name, rng: w.update({name: w[name] * float('nan')})), False),
    'weight is no tensor': (change_weights(lambda w, name, rng: w.update({name: 'weight'})), False),
    'no weights': (lambda path, rng, case: torch.save(dict(meta={}), path), False),
    'a list': (lambda path, rng, case: torch.save([1, 2, 3], path), False),
    'a directory': (lambda path, rng, case: to_directory(path, rng), False),
}


def mutilated_checkpoint(case: Case) -> Callable:
    outcome, words = case.attempt(case.train(case.data))
    if outcome != 'passed':
        sys.exit(f'error: the network to test with could not be trained: {words[-2000:]}')
    whole = case.work_dir / 'whole.pth'
    shutil.copy(case.work_dir / 'run/iter_2.pth', whole)

    def make(number: int, rng: random.Random) -> tuple[str, bool, list[str]]:
        name = list(BROKEN)[number % len(BROKEN)]
        damage, may_pass = BROKEN[name]
        path = case.work_dir / 'mutilated.pth'
        shutil.rmtree(path, ignore_errors=True)
        shutil.copy(whole, path)
        damage(path, rng, case)
        return name, may_pass, case.test(path)

    return make


if __name__ == '__main__':
    main(parse_args())
