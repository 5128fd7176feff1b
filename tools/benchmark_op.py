"""Times the large-kernel depthwise convolution against its rivals, after checking that each is right.

Every case is first compared with float64; a rival that is wrong there is not timed. Rivals take turns, so that what
slows the machine for a while slows all alike. ``useful`` counts the taps that fall inside the map, ``share`` is of the
matrix multiplication rate measured in the same run.
"""

import argparse
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mmreplk.ops import depthwise_conv2d, reference

# (C, H = W, K) of RepLKNet-31B's four stages on 512x512 images.
STAGES = [(128, 128, 31), (256, 64, 29), (512, 32, 27), (1024, 16, 13)]
PASSES = ('forward', 'grad_input', 'grad_weight', 'forward+backward')
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}  # of the largest value


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--dtype', choices=['float32', 'bfloat16', 'float16'], default='float32')
    parser.add_argument('--batch', type=int, nargs='+', default=[1], help='batch sizes of the stages of RepLKNet-31B')
    parser.add_argument('--case', nargs='+', default=[], help='more cases, as N,C,H,K')
    parser.add_argument('--rounds', type=int, default=10, help='times that each is timed')
    parser.add_argument('--json', help='file for the raw figures')
    parser.add_argument('--plot', help='picture of forward time against kernel size')
    return parser.parse_args()


def fft_conv2d(x: Tensor, weight: Tensor) -> Tensor:
    """The same convolution by real FFTs, ``(N, C, H, W)`` to the same, in float32."""
    (kh, kw), (h, w) = weight.shape[-2:], x.shape[-2:]
    size = (h + kh - 1, w + kw - 1)
    spectrum = torch.fft.rfft2(x.float(), s=size) * torch.fft.rfft2(weight[:, 0].float().flip(-1, -2), s=size)
    full = torch.fft.irfft2(spectrum, s=size)
    return full[..., kh // 2:kh // 2 + h, kw // 2:kw // 2 + w].to(x.dtype)


def torch_conv2d(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight, padding=(weight.shape[2] // 2, weight.shape[3] // 2), groups=len(weight))


def channels_last_conv2d(x: Tensor, weight: Tensor) -> Tensor:
    return torch_conv2d(x.to(memory_format=torch.channels_last), weight)


RIVALS = {
    'mmreplk': depthwise_conv2d,
    'torch': torch_conv2d,
    'torch channels_last': channels_last_conv2d,
    'torch.fft': fft_conv2d,
}


def main(args: argparse.Namespace) -> None:
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    dtype = getattr(torch, args.dtype)
    cases = [(n, *stage) for n in args.batch for stage in STAGES]
    cases += [tuple(map(int, case.split(','))) for case in args.case]
    report = dict(environment=environment(args), roofs=roofs(args.device, dtype), results=[])
    print_table_head()
    for case in cases:
        for row in time_case(case, dtype, args.device, args.rounds, PASSES):
            row['share'] = row['useful_tflops'] / report['roofs']['gemm_tflops']
            report['results'].append(row)
            print_table_row(row)
    if args.plot:
        report['kernel_sizes'] = [
            row for k in (3, 5, 7, 9, 13, 17, 21, 25, 31, 39, 51)
            for row in time_case((args.batch[0], 128, 64, k), dtype, args.device, args.rounds, PASSES[:1])]
        plot(report['kernel_sizes'], args.plot)
    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        Path(args.json).write_text(json.dumps(report, indent=1) + '\n')


def time_case(case: tuple, dtype: torch.dtype, device: str, rounds: int, passes: tuple[str, ...]) -> list[dict]:
    """Returns a row for each pass and rival that computes ``case``, ``(N, C, H, K)``, rightly."""
    n, c, h, k = case
    x = torch.randn(n, c, h, h, device=device, dtype=dtype)
    weight = torch.randn(c, 1, k, k, device=device, dtype=dtype) / k
    grad = torch.randn_like(x)
    rivals = {name: rival for name, rival in RIVALS.items() if is_right(rival, x, weight, grad, name)}
    taps = sum(min(h - 1, y + k // 2) - max(0, y - k // 2) + 1 for y in range(h))
    rows = []
    for what in passes:
        flop = 2 * n * c * taps**2 * (3 if what == 'forward+backward' else 1)
        times, peaks = time_rivals({name: work(what, rival, x, weight, grad) for name, rival in rivals.items()},
                                   device, rounds)
        for name, own in times.items():
            low, median, high = statistics.quantiles(own, n=10)[1::3]
            rows.append(dict(n=n, c=c, h=h, k=k, dtype=str(dtype), what=what, rival=name, median_ms=median,
                             percentile20_ms=low, percentile80_ms=high, useful_tflops=flop / median / 1e9,
                             peak_mib=peaks[name], raw_ms=own))  # yapf: disable
    return rows


def is_right(rival: Callable, x: Tensor, weight: Tensor, grad: Tensor, name: str) -> bool:
    """Compares all three passes with float64, on a few of the channels, which do not depend on each other."""
    part = slice(0, 4)
    x, weight, grad = x[:2, part], weight[part].clone().requires_grad_(), grad[:2, part]
    x = x.clone().requires_grad_()
    out = rival(x, weight)
    actual = (out, *torch.autograd.grad(out, (x, weight), grad))
    xd, wd, gd = x.detach().double(), weight.detach().double(), grad.double()
    expected = (reference.forward(xd, wd), reference.grad_input(gd, wd),
                reference.grad_weight(xd, gd, tuple(weight.shape[-2:])))
    errors = [((a.double() - e).abs().max() / e.abs().max()).item() for a, e in zip(actual, expected, strict=True)]
    if max(errors) > TOLERANCE[x.dtype]:
        print(f'{name} is wrong by {max(errors):.1e} at {tuple(x.shape)}, kernel {weight.shape[-1]}: not timed')
        return False
    return True


def work(what: str, rival: Callable, x: Tensor, weight: Tensor, grad: Tensor) -> Callable[[], object]:
    """Returns what is to be timed. The two gradients are timed without the forward that they follow."""
    x, weight = x.detach(), weight.detach()
    if what == 'forward':
        def forward() -> Tensor:
            with torch.no_grad():
                return rival(x, weight)
        return forward
    leaves = [t.requires_grad_() for t, used in ((x, what != 'grad_weight'), (weight, what != 'grad_input')) if used]
    if what == 'forward+backward':
        return lambda: torch.autograd.grad(rival(x, weight), leaves, grad)
    out = rival(x, weight)
    return lambda: torch.autograd.grad(out, leaves, grad, retain_graph=True)


def time_rivals(functions: dict[str, Callable], device: str, rounds: int) -> tuple[dict, dict]:
    """Returns, by name, the milliseconds of every round and the peak extra memory in MiB (None on a CPU)."""
    times, peaks = {name: [] for name in functions}, {}
    for name, function in functions.items():
        if device == 'cuda':
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        function()
        peaks[name] = (torch.cuda.max_memory_allocated() - before) / 2**20 if device == 'cuda' else None
    for _ in range(rounds):
        for name, function in functions.items():
            times[name].append(milliseconds(function, device))
    return times, peaks


def milliseconds(function: Callable, device: str) -> float:
    if device != 'cuda':
        start = time.perf_counter()
        function()
        return (time.perf_counter() - start) * 1e3
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    function()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end)


def roofs(device: str, dtype: torch.dtype) -> dict:
    """Measures the matrix multiplication rate and the copy bandwidth of this very device."""
    size = 8192 if device == 'cuda' else 2048
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    source = torch.empty(2**28 if device == 'cuda' else 2**26, device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    times, _ = time_rivals(dict(gemm=lambda: a @ b, copy=lambda: target.copy_(source)), device, 10)
    return dict(gemm_tflops=2 * size**3 / statistics.median(times['gemm']) / 1e9,
                copy_gb_per_s=2 * source.numel() / statistics.median(times['copy']) / 1e6)  # yapf: disable


def environment(args: argparse.Namespace) -> dict:
    commit = subprocess.run(['git', 'rev-parse', 'HEAD'], capture_output=True, text=True, cwd=Path(__file__).parent)
    name = torch.cuda.get_device_name() if args.device == 'cuda' else f'{platform.machine()} CPU, ' \
        f'{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads'
    return dict(device=name, torch=torch.__version__, cuda=torch.version.cuda, python=platform.python_version(),
                commit=commit.stdout.strip())  # yapf: disable


def print_table_head() -> None:
    columns = ('N,C,H=W,K', 'pass', 'rival', 'median ms', '20 %', '80 %', 'useful TFLOP/s', 'share', 'peak MiB')
    print(f'| {" | ".join(columns)} |\n' + '| --- ' * len(columns) + '|')


def print_table_row(row: dict) -> None:
    peak = '' if row['peak_mib'] is None else f'{row["peak_mib"]:.0f}'
    print(f'| {row["n"]},{row["c"]},{row["h"]},{row["k"]} | {row["what"]} | {row["rival"]} | {row["median_ms"]:.2f} | '
          f'{row["percentile20_ms"]:.2f} | {row["percentile80_ms"]:.2f} | {row["useful_tflops"]:.3f} | '
          f'{row["share"]:.0%} | {peak} |', flush=True)


def plot(rows: list[dict], path: str) -> None:
    """Draws forward time against kernel size: flat where others climb."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout='constrained')
    for name in RIVALS:
        own = [row for row in rows if row['rival'] == name]
        axes.plot([row['k'] for row in own], [row['median_ms'] for row in own], 'o-', label=name)
    shape = f'{rows[0]["n"]}x{rows[0]["c"]}x{rows[0]["h"]}x{rows[0]["h"]}'
    axes.set(xlabel='kernel size', ylabel=f'forward of {shape}, ms', yscale='log', xticks=[r['k'] for r in own])
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == '__main__':
    main(parse_args())
