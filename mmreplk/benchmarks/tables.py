"""Makes tables of benchmarks from their raw figures alone."""

import json
import statistics
from pathlib import Path

from ..io import markdown_table

PASSES = {'forward': 'forward', 'grad_input': 'gradient of the input', 'grad_weight': 'gradient of the filter',
          'forward+backward': 'forward and backward'}
OURS, BASELINE = 'mmreplk', 'torch'
RUNTIMES = ('onnxruntime', 'openvino')


def benchmark_tables(folder: str | Path) -> str:
    """Makes Markdown of every file that a benchmark among the tools wrote.

    Args:
        folder: The folder of the ``.json`` files, which may be in subfolders.

    Returns:
        A section for each file: what it was measured with, and the medians.
    """
    sections = []
    for path in sorted(Path(folder).rglob('*.json')):
        report = json.loads(path.read_text())
        rows = report.get('results') or [{}]
        table = next((make for field, make in TABLES.items() if field in rows[0]), None)
        if table is not None:
            versions = report['environment'] | (report.get('runtimes') or {})
            made_with = ', '.join(f'{name} {value}' for name, value in versions.items() if value)
            name = path.relative_to(folder).as_posix()
            sections.append(f'## {path.stem}\n\n[{name}]({Path(folder).name}/{name}): {made_with}.\n\n{table(report)}')
    return '\n'.join(sections)


def _operator(report: dict) -> str:
    cases: dict[tuple, dict[tuple, float]] = {}
    rows = [row for row in report['results'] if row.get('series', 'cases') == 'cases']  # the others are in the picture
    for row in rows:
        case = cases.setdefault((row['n'], row['c'], row['h'], _kernel(row), row['precision']), {})
        if 'what' in row:  # a rival that is wrong was not timed
            case[row['what'], row['rival']] = row['median_ms']
    rivals = [r for r in dict.fromkeys(row['rival'] for row in rows) if r not in (OURS, BASELINE)]
    head = ['N,C,H=W,K', 'precision', 'pass', 'PyTorch, ms', 'ours, ms', 'ratio', *(f'{rival}, ms' for rival in rivals)]
    lines = []
    for (*shape, precision), times in cases.items():
        for what, title in PASSES.items():
            theirs, ours = times.get((what, BASELINE)), times.get((what, OURS))
            ratio = f'{theirs / ours:.1f}' if theirs and ours else '-'
            lines.append([','.join(map(str, shape)), precision, title, _ms(theirs), _ms(ours), ratio,
                          *(_ms(times.get((what, rival))) for rival in rivals)])
    return markdown_table(head, lines) + _grid(report.get('grid', []))


def _kernel(row: dict) -> str:
    return f'{row["k"]}x{row["kw"]}' if row.get('kw') else str(row['k'])


def _grid(grid: list[dict]) -> str:
    text = ''
    for what in dict.fromkeys(row['what'] for row in grid):
        ratios = [row['ratio'] for row in grid if row['what'] == what]
        text += (f'\nGrid, {PASSES[what]}: over {len(ratios)} shapes, PyTorch takes {min(ratios):.2f} to '
                 f'{max(ratios):.0f} times as long.\n')
    return text


def _model(report: dict) -> str:
    head = ['part', 'form', 'batch', 'size', 'dtype', 'ms', 'ratio', 'in large kernels']
    lines, first = [], {}
    for row in report['results']:
        setting = (row['part'], row['batch'], *row['size'], row['dtype'])
        base = first.setdefault(setting, row['median_ms'])
        share = row.get('large_kernel_share')
        form = row['form'] + ', channels-last' * row['channels_last'] + ', compiled' * row['compiled']
        lines.append([row['part'], form, row['batch'], 'x'.join(map(str, row['size'])), row['dtype'],
                      _ms(row['median_ms']), f'{row["median_ms"] / base:.3f}', f'{share:.0%}' if share else ''])
    return f'{report["config"]}\n\n{markdown_table(head, lines)}'


def _acceleration(report: dict) -> str:
    head = ['model', 'layers', 'work', 'batch', 'size', 'dtype', '`nn.Conv2d`, ms', 'ours, ms', 'times as fast',
            'error of outputs', 'of gradients']
    lines = []
    for row in report['results']:
        errors = [f'{row["errors"]["fast"][what]:.0e}' + (f' ({plain:.0e})' if plain else '')
                  for what, plain in row['errors']['plain'].items()]
        lines.append([row['model'], row['layers'], row['work'], row['batch'], 'x'.join(map(str, row['size'])),
                      row['dtype'], _ms(statistics.median(row['plain_ms'])), _ms(statistics.median(row['fast_ms'])),
                      f'{row["ratio"]:.2f}', *errors])
    return markdown_table(head, lines)


def runtimes_table(report: dict) -> str:
    """Returns the table of a comparison with the runtimes of CPUs."""
    cases: dict[tuple, dict[str, float]] = {}
    for row in report['results']:
        case = row['network'], row['n'], row['c'], row['h'], f'{row["kh"]}x{row["kw"]}', row['dtype']
        cases.setdefault(case, {})[row['rival']] = row.get('median_ms')
    lines = []
    for (network, *shape, dtype), times in cases.items():
        theirs = [times[name] for name in RUNTIMES if times.get(name)]
        ratio = f'{min(theirs) / times[OURS]:.2f}' if theirs and times.get(OURS) else '-'
        lines.append([network, ','.join(map(str, shape)), dtype, _ms(times.get(OURS)),
                      *(_ms(times.get(name)) for name in (*RUNTIMES, BASELINE)), ratio])
    return markdown_table(['network', 'N,C,H=W,KHxKW', 'dtype', 'ours, ms', 'ONNX Runtime, ms', 'OpenVINO, ms',
                           'PyTorch, ms', 'better of the two / ours'], lines)


def _exported_forms(report: dict) -> str:
    cases: dict[tuple, dict[str, float]] = {}
    for row in report['results']:
        case = cases.setdefault((f'1,{row["c"]},{row["h"]},{row["k"]}', row['runtime'], row['dtype']), {})
        case[row['exported_form']] = row.get('median_ms')
    forms = list(next(iter(cases.values())))
    lines = [[*case, *(_ms(times.get(form)) for form in forms)] for case, times in cases.items()]
    return markdown_table(['N,C,H=W,K', 'runtime', 'dtype', *(f'{form}, ms' for form in forms)], lines)


# The function that makes a report's table, by a field of its rows.
TABLES = {'network': runtimes_table, 'exported_form': _exported_forms, 'rival': _operator, 'form': _model,
          'plain_ms': _acceleration}


def _ms(value: float | None) -> str:
    return '' if value is None else f'{value:.0f}' if value >= 100 else f'{value:.2g}' if value < 1 else f'{value:.1f}'
