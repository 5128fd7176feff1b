"""Measures everything in this package that needs a GPU, in a given number of minutes.

It imports everything once, which takes up to a minute from a cold disk. Then it measures in this order: the GPU itself,
compilation of every tile of every kernel in parallel, the tests that need a GPU, the operator against other
implementations in bfloat16, RepLKNet-31B's backbone and training step beside the same network with 3x3 kernels, 1x1
convolutions and norms, then single images and other precisions. Each part runs in a process of its own for its share of
the time and writes its results at once; if one fails, the others still run, and the program ends in time. Called again
with the same folder, it continues with what is missing, and keeps apart what another commit has measured. The page that
it prints is also written to ``summary.md`` in that folder.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import torch

from mmreplk import InputError
from mmreplk.benchmarks.gpu_page import gpu_page
from mmreplk.benchmarks.measure import environment
from mmreplk.benchmarks.schedule import Part, run_parts, set_aside
from mmreplk.cli import device, folder_to_write, run

ROOT = Path(__file__).resolve().parents[2]
MODEL, TINY_MODEL = 'configs/upernet_replknet31b_ade20k.py', 'configs/upernet_replknet_tiny_miniade20k.py'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=folder_to_write, required=True, help='folder for results and logs')
    parser.add_argument('--minutes', type=float, default=6, help='time for all parts together')
    parser.add_argument('--device', type=device, choices=['cuda', 'cpu'],
                        default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--tiny', action='store_true', help='use tiny sizes, to try this program itself')
    parser.add_argument('--only', nargs='+', metavar='PART', help='run these parts only')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    begin = time.monotonic()
    if not args.minutes > 0:
        raise InputError(f'--minutes must be positive, got {args.minutes}')
    out = Path(args.out)
    names = [part.name for part in planned(out.resolve(), args.device, args.tiny)]
    for name in args.only or ():
        if name not in names:
            raise InputError(f'--only must name some of {", ".join(names)}, got {name!r}')
    parts = [part for part in planned(out.resolve(), args.device, args.tiny)
             if args.only is None or part.name in args.only]
    # Without the GPU, which this process leaves to the parts.
    set_aside(parts, out, {name: value for name, value in environment('cpu').items() if name != 'device'})
    run_parts(parts, args.minutes * 60 - (time.monotonic() - begin), out, lambda line: print(line, flush=True))
    page = gpu_page(out)
    (out / 'summary.md').write_text(page)
    print(page)


def planned(out: Path, device: str, tiny: bool) -> list[Part]:
    """Returns the parts, the most useful first."""
    setting = ['--device', device, '--plan', 'tiny' if tiny else 'whole']
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    plain = ['env', f'MMREPLK_CACHE={out}', f'PYTHONPATH={path}', sys.executable]
    tuned = ['env', *(['MMREPLK_AUTOTUNE=1'] if device == 'cuda' else []), *plain[1:]]

    def own(name: str, share: float, *precisions: str, file: str | None = None) -> Part:
        command = [*tuned, '-m', 'mmreplk.benchmarks.gpu_parts', name, str(out / f'{file or name}.json'), *setting]
        return Part(file or name, [*command, '--precision', *precisions], share)

    def model(name: str, share: float, batch: int, *options: str) -> Part:
        sizes = ['--size', '64', '64', '--rounds', '2'] if tiny else ['--rounds', '3']
        dtype = 'float32' if device == 'cpu' else 'bfloat16'
        command = [*tuned, str(_tool('benchmark_model.py')), str(ROOT / (TINY_MODEL if tiny else MODEL)), *sizes]
        return Part(name, [*command, '--device', device, '--dtype', dtype, '--batch', str(batch), *options,
                           '--json', str(out / f'{name}.json')], share)

    # Untuned: the tests that want tuning ask for it.
    places = ['tests/ops/test_gpu.py', 'tests/networks/test_gpu.py']
    if tiny:
        places = ['tests/ops/test_gpu.py::test_triton_is_chosen_and_relu_fused']
    tests = [*plain, '-m', 'mmreplk.benchmarks.gpu_tests', str(ROOT), *places]
    fast = ['float32'] if device == 'cpu' else ['bfloat16']
    rest = ['float32'] if device == 'cpu' else ['float16', 'tf32', 'float32']
    few = ['bfloat16'] if tiny else ['bfloat16', *rest]
    batch = 2 if tiny else 16
    return [
        # Each part would spend its own share on it: on an H200 with a cold disk none of them got any further.
        Part('imports', [*plain, '-c', 'import mmreplk.mm, mmseg.models, torch._dynamo'], 40),
        own('environment', 10, *fast, *([] if device == 'cpu' else rest)),
        own('compile', 25, *few),
        Part('tests', tests, 25),
        own('operator', 30, *fast, file='operator_fast'),
        model('models', 15, batch),
        model('training', 12, batch, '--train', '--no-inference'),
        own('pointwise', 6, *fast),
        *([] if tiny else [model('single', 8, 1), own('operator', 10, *rest, file='operator_rest')]),
    ]


def _tool(name: str) -> Path:
    """Returns the program of that name in ``tools/`` or a folder of it."""
    return next((ROOT / 'tools').rglob(name))


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
