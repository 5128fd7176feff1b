"""One page with the results of a GPU measurement, made from the files that its parts have written so far."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from ..io import markdown_table
from .gpu_tests import ENDED
from .schedule import STATE

OURS = 'mmreplk'


def gpu_page(folder: Path) -> str:
    """Returns Markdown: what was measured with, how each part ended, and the figures of the parts that have some."""
    read = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob('*.json'))}
    parts = read.pop(Path(STATE).stem, {})
    lines = _environment(read.get('environment', {}))
    lines += _table(['part', 'ended', 'seconds'],
                    [[name, part['status'], part.get('seconds', '')] for name, part in parts.items()])
    lines += _compiled(read.get('compile', {}))
    log = folder / 'tests.log'
    lines += _tests(log.read_text()) if log.exists() else []
    for name, report in read.items():
        rows = report.get('results', [])
        if rows and 'rival' in rows[0]:
            lines += [f'## {name}', '', *_operator(rows)]
        elif rows and 'form' in rows[0]:
            lines += [f'## {name}', '', *_models(rows)]
    return '\n'.join(lines + _pointwise(read.get('pointwise', {}).get('pointwise', []))) + '\n'


def _environment(found: dict[str, Any]) -> list[str]:
    made_with = [f'{name} {value}' for name, value in found.get('environment', {}).items() if value]
    rates = _table(['precision', 'matrix products, TFLOP/s', 'copies, GB/s'],
                   [[precision, f'{roof["gemm_tflops"]:.3g}', f'{roof["copy_gb_per_s"]:.3g}']
                    for precision, roof in found.get('roofs', {}).items()])
    return [', '.join(made_with), '', *rates]


def _compiled(found: dict[str, Any]) -> list[str]:
    rows = found.get('compiled', [])
    if not rows:
        return []
    tried = [f'{kernel} {"works" if works else "does not work"} with tensor descriptors.'
             for kernel, works in found.get('descriptors', {}).items()]
    seconds = sum(row['seconds'] for row in rows)
    problems = ['{kernel} {tile}, {precision}: {problem}'.format(**row) for row in rows if row['problem']]
    return [f'{len(rows)} kernels compiled in {seconds:.0f} s of a core; {len(problems)} failed.', '',
            *(f'- {text}' for text in (*problems[:5], *tried)), '']


def _tests(log: str) -> list[str]:
    ended = dict(ENDED.findall(log))
    counts = Counter(end.lower() for end in ended.values())
    told = ', '.join(f'{count} {end}' for end, count in sorted(counts.items())) or 'none ended'
    failed = [name for name, end in ended.items() if end in ('FAILED', 'ERROR')]
    return [f'Tests: {told}.', '', *(f'- {name}' for name in failed[:20]), '']


def _operator(rows: list[dict]) -> list[str]:
    """A line for each case and pass: our time beside the predicted one and that of the fastest rival."""
    untimed = [f'- {row["rival"]} on {_case(row)}: {row.get("raised") or "wrong by {error:.1e}".format(**row)}'
               for row in rows if 'what' not in row and (row['rival'] == OURS or 'error' in row)]
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        if 'what' in row:
            groups.setdefault((_case(row), row['precision'], row['what']), []).append(row)
    lines = []
    for (case, precision, what), group in groups.items():
        ours = next((row for row in group if row['rival'] == OURS), None)
        others = [row for row in group if row['rival'] != OURS]
        best = min(others, key=lambda row: row['median_ms']) if others else None
        disturbed = sorted(group[0]['canary'])[len(group[0]['canary']) // 2] > 1.1
        lines.append([
            case, precision, what, _ms(ours), _ms(ours, 'predicted_ms'), best['rival'] if best else '', _ms(best),
            f'{best["median_ms"] / ours["median_ms"]:.2f}' if best and ours else '',
            f'{ours["useful_tflops"]:.3g}' if ours else '', 'yes' if disturbed else ''
        ])
    head = ['N,C,H=W,K', 'precision', 'pass', 'ours, ms', 'predicted', 'fastest rival', 'its ms', 'ratio',
            'useful TFLOP/s', 'disturbed']
    return [*untimed, *([''] if untimed else []), *_table(head, lines)]


def _models(rows: list[dict]) -> list[str]:
    """A line for each form, with its time relative to that of the network with 3x3 kernels."""
    small = {row['part']: row['median_ms'] for row in rows if row['form'].endswith('3x3')}
    lines = [[*(row[name] for name in ('part', 'form', 'batch', 'dtype')), f'{row["median_ms"]:.2f}',
              f'{row["images_per_s"]:.4g}', f'{row["median_ms"] / small.get(row["part"], math.nan):.3f}']
             for row in rows]
    return _table(['part', 'form', 'batch', 'dtype', 'ms', 'images/s', 'of 3x3'], lines)


def _pointwise(rows: list[dict]) -> list[str]:
    if not rows:
        return []
    lines = [[row['what'], row['way'], f'{row["n"]},{row["c"]},{row["h"]}', row['precision'],
              _ms(row) if 'median_ms' in row else row.get('raised', 'differs')] for row in rows]
    return ['## pointwise', '', *_table(['what', 'way', 'N,C,H=W', 'precision', 'ms'], lines)]


def _case(row: dict) -> str:
    return ('{n},{c},{h},{k}x{kw}' if row.get('kw') else '{n},{c},{h},{k}').format(**row)


def _ms(row: dict | None, name: str = 'median_ms') -> str:
    return '' if row is None or row.get(name) is None else f'{row[name]:.3g}'


def _table(head: list, lines: list[list]) -> list[str]:
    return [*markdown_table(head, lines).splitlines(), '']
