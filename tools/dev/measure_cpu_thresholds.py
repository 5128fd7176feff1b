"""Measures the thresholds of mmreplk/ops/cpu.py on this machine and shows them beside those in use.

With AVX-512, ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 measures what a CPU without
it would take.
"""

import argparse

import torch
from cpu_thresholds import measure_fft, measure_kernel_sizes, measure_work

from mmreplk import InputError
from mmreplk.cli import run
from mmreplk.ops import cpu


def main() -> None:
    if not cpu.IS_SUPPORTED:
        raise InputError('there is nothing to measure: the fast path needs an x86 CPU with AVX2 and oneDNN')
    print(f'{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads\n'
          f'{"threshold":<32} {"in use":>10} {"measured":>10}')
    for name, measured in measure_kernel_sizes().items():
        print(f'{name:<32} {getattr(cpu, name)!s:>10} {measured!s:>10}', flush=True)
    with torch.no_grad():
        for what, measured in measure_fft().items():
            print(f'SMALLEST_FFT[{what}]'.ljust(32), f'{cpu.SMALLEST_FFT[what]:>10.0f} {measured:>10.0f}', flush=True)
        forward = measure_work(trains=False)
    for trains, measured in ((False, forward), (True, measure_work(trains=True))):
        print(f'SMALLEST_WORK[{trains}]'.ljust(32), f'{cpu.SMALLEST_WORK[trains]:>10.2g} {measured:>10.2g}', flush=True)


if __name__ == '__main__':
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    run(main)
