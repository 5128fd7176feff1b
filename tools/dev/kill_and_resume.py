"""Kills a training many times, resumes it each time, and compares it bit by bit with an undisturbed one."""

import argparse
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config

from mmreplk import InputError
from mmreplk.cli import folder_to_write, run
from mmreplk.mm.checks.values import check_values
from mmreplk.mm.config import add_cfg_options, load_config
from mmreplk.mm.kinds import kind_of
from mmreplk.weights import read_checkpoint

ROOT = Path(__file__).resolve().parents[2]
POLL_SECONDS = 0.002
PROGRESS = re.compile(r'Iter\(train\) \[ *(\d+)/')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file of an iteration-based training')
    parser.add_argument('--work-dir', type=folder_to_write,
                        default='work_dirs/kill_and_resume', help='folder, which is emptied; default %(default)s')
    parser.add_argument('--kills', type=int, default=20, help='how many times to kill; default %(default)s')
    parser.add_argument('--processes', type=int, default=1,
                        help='number of processes; more than 1 are started by dist_train.sh')
    parser.add_argument('--seed', type=int, default=0,
                        help='seed of the moments and of the training; default %(default)s')
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    if args.kills < 1 or args.processes < 1:
        raise InputError(f'--kills and --processes must be positive, got {args.kills} and {args.processes}')
    work_dir = Path(args.work_dir).resolve()
    shutil.rmtree(work_dir, ignore_errors=True)
    work_dir.mkdir(parents=True)
    cfg = load_config(args.config, args.cfg_options)
    check_values(cfg)
    if (cfg.train_cfg or {}).get('max_iters') is None:
        raise InputError(f'{args.config} must train by iterations, with train_cfg.max_iters')
    cfg.randomness = dict(seed=args.seed, deterministic=True)
    if not any(kind_of(hook) == 'EMAHook' for hook in cfg.custom_hooks):
        cfg.custom_hooks.append(dict(type='EMAHook'))
    config = work_dir / Path(args.config).name
    cfg.dump(config)

    start = time.time()
    alone = Training(config, work_dir / 'alone', args.processes)
    alone.wait()
    duration = time.time() - start
    print(f'undisturbed: {cfg.train_cfg.max_iters} iterations in {duration:.0f} s', flush=True)

    parts = args.kills + 1
    moments = Moments(random.Random(args.seed), duration / parts, cfg.train_cfg.max_iters // parts)
    kills = 0
    while kills < args.kills:
        training = Training(config, work_dir / 'killed', args.processes)
        kind = moments.kinds[kills % len(moments.kinds)]
        if not training.kill_at(getattr(moments, kind)(training)):
            print(f'the training ended after {kills} kills: {args.kills} need more iterations')
            break
        kills += 1
        print(f'kill {kills:2}: {kind:10} after iteration {training.iteration():4}, '
              f'half-written: {", ".join(p.name for p in training.half_written()) or "nothing"}', flush=True)
    last = Training(config, work_dir / 'killed', args.processes)
    last.wait()
    names = compare(cfg, work_dir)
    print(f'{kills} kills: ' + (f'DIFFERENT in {", ".join(names)}' if names else 'the same bits'))
    sys.exit(1 if names or kills < args.kills else 0)


class Training:
    """A run of ``tools/train.py --resume`` in a folder, in as many processes as asked."""

    def __init__(self, config: Path, work_dir: Path, processes: int):
        work_dir.mkdir(exist_ok=True)
        self.work_dir, self.log = work_dir, work_dir / 'output.txt'
        head = [sys.executable, str(ROOT / 'tools/train.py'), str(config)] if processes == 1 else \
            [str(ROOT / 'tools/dist_train.sh'), str(config), str(processes)]
        environment = dict(os.environ, PYTHON=sys.executable, PORT=str(free_port()))
        with open(self.log, 'w') as output:
            self.process = subprocess.Popen([*head, '--work-dir', str(work_dir), '--resume'], stdout=output,
                                            stderr=subprocess.STDOUT, cwd=ROOT, env=environment)

    def wait(self) -> None:
        """Waits for the end; raises RuntimeError if the training failed."""
        if self.process.wait():
            raise RuntimeError(f'training failed:\n{self.output()[-3000:]}')

    def kill_at(self, has_come: Callable[[], bool]) -> bool:
        """Kills all of its processes by SIGKILL once ``has_come()``; returns False if it ended before."""
        while not has_come():
            if self.process.poll() is not None:
                self.wait()
                return False
            time.sleep(POLL_SECONDS)
        for pid in [self.process.pid, *descendants(self.process.pid)]:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        return True

    def output(self) -> str:
        """Returns what the run has printed."""
        return self.log.read_text(errors='replace')

    def iteration(self) -> int:
        """Returns the last iteration that the run logged."""
        return int([0, *PROGRESS.findall(self.output())][-1])

    def half_written(self) -> list[Path]:
        """Returns the checkpoints that the run is writing, or left half-written."""
        return list(self.work_dir.glob('*.part'))


class Moments:
    """When to kill: conditions on a running training; the kinds take turns."""
    kinds = ('saving', 'validating', 'training', 'any')

    def __init__(self, rng: random.Random, seconds: float, iterations: int):
        self.rng, self.seconds, self.iterations = rng, seconds, iterations

    def saving(self, training: Training) -> Callable[[], bool]:
        """While a checkpoint is being written: at once, or a little later, when it may just be complete."""
        delay, before = self.rng.choice([0, 0, self.rng.uniform(0, .1)]), set(training.half_written())
        return after(delay, lambda: set(training.half_written()) - before)

    def validating(self, training: Training) -> Callable[[], bool]:
        """Between the first image of a validation and a little after its end."""
        return after(self.rng.uniform(0, .2), lambda: 'Iter(val)' in training.output())

    def training(self, training: Training) -> Callable[[], bool]:
        """A little after a random iteration; counted, not timed: machines differ, and the first seconds are imports."""
        more = self.rng.randint(0, self.iterations)

        def has_begun() -> bool:
            logged = [int(number) for number in PROGRESS.findall(training.output())]
            return bool(logged) and logged[-1] - logged[0] >= more

        return after(self.rng.uniform(0, .1), has_begun)

    def any(self, training: Training) -> Callable[[], bool]:
        """Any time after the start of the process, even before it trains."""
        return after(self.rng.uniform(0, 3 * self.seconds), lambda: True)


def after(seconds: float, has_begun: Callable[[], object]) -> Callable[[], bool]:
    """Returns a function that says whether ``seconds`` have passed since ``has_begun()`` was first true."""
    since = []

    def has_come() -> bool:
        if not since and has_begun():
            since.append(time.monotonic())
        return bool(since) and time.monotonic() - since[0] >= seconds

    return has_come


def free_port() -> int:
    """Returns a port for the processes to meet at; the port of killed ones may stay in use for a while."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return free.getsockname()[1]


def descendants(pid: int) -> list[int]:
    """Returns the processes that ``pid`` started, and those that they started, as Linux lists them."""
    children = []
    for task in Path(f'/proc/{pid}/task').glob('*/children'):
        children += [int(child) for child in task.read_text().split()]
    return children + [grandchild for child in children for grandchild in descendants(child)]


def compare(cfg: Config, work_dir: Path) -> list[str]:
    """Returns the names of what differs in the last checkpoints of both runs, and in their best ones."""
    differing = []
    for pattern in (f'iter_{cfg.train_cfg.max_iters}.pth', 'best_*.pth'):
        whole, killed = (sorted((work_dir / name).glob(pattern)) for name in ('alone', 'killed'))
        if [p.name for p in whole] != [p.name for p in killed]:
            differing.append(f'{pattern}: {[p.name for p in whole]} and {[p.name for p in killed]}')
            continue
        for one, other in zip(whole, killed, strict=True):
            one_state, other_state = read_checkpoint(one), read_checkpoint(other)
            for part in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'):
                if not same(one_state.get(part), other_state.get(part)):
                    differing.append(f'{one.name}:{part}')
    return differing


def same(one: object, other: object) -> bool:
    """Says whether two nested structures hold the same values, tensors bit by bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
