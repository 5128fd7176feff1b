"""Times forms of a large-kernel convolution in an ONNX file, in ONNX Runtime and OpenVINO on this CPU.

``conv`` is the ordinary convolution, which the exporter writes; ``transposed`` the transposed convolution with the
flipped filter; ``rows`` and ``columns`` split the filter into strips, whose convolutions are added.
"""

import argparse
import functools
import itertools
import statistics

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

from mmreplk.benchmarks import environment
from mmreplk.benchmarks.measure import time_in_turns
from mmreplk.benchmarks.runtimes import RUNTIMES, TOLERANCE, versions
from mmreplk.cli import file_to_write, run
from mmreplk.io import markdown_table, write_json

CASES = [(128, 128, 31), (256, 64, 29), (512, 32, 27), (1024, 16, 13), (160, 64, 13)]  # channels, side, kernel
RUNS = [('onnxruntime', torch.float32), ('openvino', torch.float32), ('openvino', torch.bfloat16)]
STRIP = 8  # rows or columns of a strip, about


def graph_of(form: str, weight: np.ndarray, side: int) -> bytes:
    """Returns an ONNX file of one convolution, "same" padding, of an image ``(1, C, side, side)``."""
    channels, _, size, _ = weight.shape
    half, tensors, nodes = size // 2, {}, []
    if form in ('conv', 'transposed'):
        tensors['w'] = weight if form == 'conv' else weight[:, :, ::-1, ::-1]
        kind = 'Conv' if form == 'conv' else 'ConvTranspose'
        nodes.append(helper.make_node(kind, ['images', 'w'], ['out'], group=channels, pads=[half] * 4))
    else:
        axis = 2 if form == 'rows' else 3
        pads = [half if i % 4 == axis else 0 for i in range(8)]
        tensors.update(pads=np.array(pads, np.int64), axis=np.array([axis], np.int64))
        nodes.append(helper.make_node('Pad', ['images', 'pads'], ['padded']))
        cuts, parts = np.linspace(0, size, -(-size // STRIP) + 1).astype(int), []
        for begin, end in itertools.pairwise(cuts):
            name = f'_{begin}'
            tensors |= {f'w{name}': weight.take(range(begin, end), axis), f'from{name}': np.array([begin], np.int64),
                        f'to{name}': np.array([side + end - 1], np.int64)}
            other = [half if i % 2 != axis - 2 else 0 for i in range(4)]
            nodes += [helper.make_node('Slice', ['padded', f'from{name}', f'to{name}', 'axis'], [f'x{name}']),
                      helper.make_node('Conv', [f'x{name}', f'w{name}'], [f'y{name}'], group=channels, pads=other)]
            parts.append(f'y{name}')
        nodes.append(helper.make_node('Sum', parts, ['out']))
    shape = [1, channels, side, side]
    graph = helper.make_graph(
        nodes, form, [helper.make_tensor_value_info('images', TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info('out', TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in tensors.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def measure(channels: int, side: int, size: int, rounds: int) -> list[dict]:
    """Returns a row for each runtime, dtype and form."""
    x, weight = torch.randn(1, channels, side, side), torch.randn(channels, 1, size, size) / size
    expected = F.conv2d(x[:, :2].double(), weight[:2].double(), padding=size // 2, groups=2)
    rows, work = [], {}
    for form in ('conv', 'transposed', 'rows', 'columns'):
        file = graph_of(form, weight.numpy(), side)
        for runtime, dtype in RUNS:
            execute = RUNTIMES[runtime](file, dtype)
            out = torch.as_tensor(execute(x.numpy())[0])[:, :2]
            row = dict(c=channels, h=side, k=size, runtime=runtime, exported_form=form,
                       dtype=str(dtype).removeprefix('torch.'),
                       error=((out - expected).abs().max() / expected.abs().max()).item())
            rows.append(row)
            if row['error'] <= TOLERANCE[dtype]:
                work[len(rows) - 1] = functools.partial(execute, x.numpy())
    for i, times in time_in_turns(work, rounds=rounds).items():
        rows[i].update(median_ms=statistics.median(times), raw_ms=times)
    return rows


def main(args: argparse.Namespace) -> None:
    found = dict(environment=environment('cpu'), runtimes=versions(), rounds=args.rounds, results=[])
    for case in CASES:
        rows = measure(*case, args.rounds)
        found['results'] += rows
        print(markdown_table(['runtime', 'dtype', 'form', 'error', 'ms'],
                             [[r['runtime'], r['dtype'], r['exported_form'], f'{r["error"]:.0e}',
                               f'{r.get("median_ms", float("nan")):.1f}'] for r in rows]), flush=True)
    if args.json:
        write_json(found, args.json)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=7, help='how many times each is timed')
    parser.add_argument('--json', type=file_to_write, help='file for the raw figures')
    arguments = parser.parse_args()
    run(lambda: main(arguments))
