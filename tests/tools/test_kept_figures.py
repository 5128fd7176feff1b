"""A measurement that was interrupted goes on where it was."""

import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmreplk.benchmarks import benchmark_tables
from tests.tools.conftest import TINY
from tests.tools.processes import ROOT


def call(monkeypatch, tool, command, function, interrupt, **constants):
    """Runs a tool in which ``function`` is interrupted when ``interrupt`` says so; returns what it was called with."""
    monkeypatch.setattr(sys, 'argv', [tool, *map(str, command)])
    namespace = runpy.run_path(str(ROOT / 'tools/analysis_tools' / tool), run_name='tool')
    original, main, made = namespace[function], namespace['main'], []

    def counted(*arguments, **options):
        if interrupt(*arguments):
            raise KeyboardInterrupt
        made.append(arguments)
        return original(*arguments, **options)

    main.__globals__.update({function: counted}, **constants)
    try:
        main(namespace['parse_args']())
    except KeyboardInterrupt:
        made.append('interrupted')
    return made


def test_benchmark_model_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    pytest.importorskip('mmseg')
    monkeypatch.chdir(ROOT)
    out, made = tmp_path / 'figures.json', []
    command = ['benchmark_model.py', TINY, '--size', '64', '64', '--rounds', '2', '--json', str(out)]

    def main():
        monkeypatch.setattr(sys, 'argv', command)
        namespace = runpy.run_path('tools/analysis_tools/benchmark_model.py', run_name='tool')
        measure, main = namespace['measure'], namespace['main']

        def counted(part, *arguments):
            if part == 'model' and made[:1] != ['done']:
                made.append('done')
                raise KeyboardInterrupt
            made.append(part)
            return measure(part, *arguments)

        main.__globals__['measure'] = counted
        main(namespace['parse_args']())

    with pytest.raises(KeyboardInterrupt):
        main()
    before = json.loads(out.read_text())['results']
    assert {row['part'] for row in before} == {'backbone'} and len(before) == 7
    made[:] = ['done']
    main()
    after = json.loads(out.read_text())['results']
    assert made == ['done', 'model'] and after[:7] == before and len(after) == 14
    assert all(row['ratio'] == 1 for row in after if row['form'] == 'plain')
    printed = capsys.readouterr().out
    assert printed.count('| backbone | plain |') == 2 and printed.count('| model | plain |') == 1


def test_erf_goes_on_with_the_models_that_are_missing(tmp_path, monkeypatch):
    pytest.importorskip('mmseg')
    images, out = tmp_path / 'images', tmp_path / 'out'
    images.mkdir()
    cv2.imwrite(str(images / 'a.png'), np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    names = 'first', 'second', 'third'
    configs = {name: tmp_path / f'{name}.py' for name in names}
    for name in names:
        configs[name].write_text(f"_base_ = '{ROOT / TINY}'\n# {name}\n")
    models = [word for name in names for word in ('--model', name, configs[name])]
    command = ['--images', images, '--shape', 64, 64, '--out', out, *models]

    def run(interrupt=lambda *_: False):
        made = call(monkeypatch, 'erf.py', command, 'measure', interrupt)
        return [one if one == 'interrupted' else Path(one[1]).stem for one in made]

    assert run(lambda _, config, __: 'third' in config) == ['first', 'second', 'interrupted']
    report = json.loads((out / 'erf.json').read_text())
    assert [model['name'] for model in report['models']] == ['first', 'second']
    matrix = (out / 'second.npy').read_bytes()
    assert run() == ['third'] and (out / 'erf.png').is_file()
    after = json.loads((out / 'erf.json').read_text())
    assert after['models'][:2] == report['models'] and len(after['models']) == 3
    assert run() == [] and (out / 'second.npy').read_bytes() == matrix
    assert json.loads((out / 'erf.json').read_text()) == after
    # What a matrix is made of has changed: a config, a picture, the matrix itself is gone.
    configs['first'].write_text(f"_base_ = '{ROOT / TINY}'\nmodel = dict(backbone=dict(drop_path_rate=0.25))\n")
    assert run(lambda _, config, __: 'first' in config) == ['interrupted']
    assert [model['name'] for model in json.loads((out / 'erf.json').read_text())['models']] == ['second', 'third']
    (out / 'third.npy').unlink()
    assert run() == ['first', 'third']
    cv2.imwrite(str(images / 'a.png'), np.zeros((64, 64, 3), np.uint8))
    assert run(lambda _, config, __: 'second' in config) == ['first', 'interrupted']


def test_benchmark_acceleration_goes_on_with_the_dtypes_and_models_that_are_missing(tmp_path, monkeypatch):
    pytest.importorskip('mmseg')
    small, out = tmp_path / 'small.py', tmp_path / 'figures.json'
    small.write_text("default_scope = 'mmseg'\nmodel = dict(backbone=dict(type='MSCAN', in_channels=1, "
                     "embed_dims=[8] * 4, mlp_ratios=[2] * 4, depths=[1] * 4))\n")
    other = tmp_path / 'other.py'
    other.write_text(small.read_text())
    command = [small, other, '--size', 64, 64, '--rounds', 1, '--dtype', 'float32', 'bfloat16', '--json', out]

    def run(interrupt=lambda *_: False):
        made = call(monkeypatch, 'benchmark_acceleration.py', command, 'compare', interrupt)
        return [one if one == 'interrupted' else str(one[2].dtype) for one in made]

    assert run(lambda plain, fast, images, rounds: images.dtype == torch.bfloat16) == ['torch.float32', 'interrupted']
    before = json.loads(out.read_text())['results']
    assert [(row['model'], row['work']) for row in before] == [('MSCAN (small)', 'inference'),
                                                              ('MSCAN (small)', 'training')]
    assert run() == ['torch.bfloat16', 'torch.float32', 'torch.bfloat16']
    after = json.loads(out.read_text())['results']
    assert after[:2] == before and len(after) == 8 and run() == []


def test_benchmark_op_goes_on_with_the_cases_and_kernel_sizes_that_are_missing(tmp_path, monkeypatch, capsys):
    out, plot = tmp_path / 'figures.json', tmp_path / 'plot.png'
    command = ['--device', 'cpu', '--batch', '--case', '1,2,8,3', '1,2,8,5', '--rounds', 2, '--json', out,
               '--plot', plot]
    sizes, timed = [3, 5, 7, 9, 13], []

    def run(interrupt=lambda *_: False):
        made = call(monkeypatch, 'benchmark_op.py', command, 'benchmark', interrupt, KERNEL_SIZES=sizes)
        timed[:] = [one if one == 'interrupted' else one[0].k for one in made]
        return timed

    monkeypatch.setattr('mmreplk.benchmarks.operator.roofs', lambda *_: dict(gemm_tflops=.5, copy_gb_per_s=5.))
    assert run(lambda case, *_: case.k == 5) == [3, 'interrupted']
    before = json.loads(out.read_text())
    assert before['rivals'] == ['mmreplk', 'torch', 'torch channels_last', 'torch.fft'] and before['results']
    monkeypatch.setattr('mmreplk.benchmarks.operator.roofs', None)  # those of the first run are taken
    assert run(lambda case, *_: case.k == 9) == [5, 3, 5, 7, 'interrupted']
    capsys.readouterr()
    assert run() == sizes[3:] and plot.is_file()
    printed = capsys.readouterr().out
    for case in ('1,2,8,3', '1,2,8,5'):
        assert printed.count(f'| {case} | float32 | forward | mmreplk | ') == 1
    after = json.loads(out.read_text())['results']
    assert after[:len(before['results'])] == before['results'] and run() == []
    assert all(row['gemm_tflops'] == .5 for row in after if row['series'] == 'cases')
    assert sorted({row['k'] for row in after if row['series'] == 'kernel sizes'}) == sizes
    table = benchmark_tables(tmp_path)
    assert table.count('| 1,2,8,3 | float32 | forward |') == 1 and '1,128,64' not in table
