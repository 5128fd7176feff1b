"""Every tool on a directory of files that are not what it expects, through every option of its --help."""

import argparse
import logging
import os
import re
import runpy
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from mmreplk.mm.config import load_config
from mmreplk.mm.data import make_mini_ade20k
from tests.tools.conftest import interrupted_in_a_tool
from tests.tools.processes import ROOT
from tests.warm import python

CONFIG = """
_base_ = '{base}'
model = dict(
    backbone=dict(arch=dict(
        _delete_=True, large_kernel_sizes=[7, 5, 5, 3], layers=[1, 1, 1, 1], channels=[4, 8, 8, 8], small_kernel=3)),
    decode_head=dict(in_channels=[4, 8, 8, 8], channels=8))
data = '{data}'
train_dataloader = dict(dataset=dict(data_root=data), batch_size=2, num_workers=0, persistent_workers=False)
val_dataloader = dict(dataset=dict(data_root=data), num_workers=0, persistent_workers=False)
test_dataloader = dict(dataset=dict(data_root=data), num_workers=0, persistent_workers=False)
train_cfg = dict(max_iters=1, val_interval=1)
default_hooks = dict(checkpoint=dict(interval=1))
"""
# Of each tool, command lines that together have every argument and option once. GOOD.py, GOOD.pth and DATA are right,
# JUNK is a folder of files that are not what their names say, FILE a file where a folder would be, and FOLDER the other
# way round.
IMAGES = '--images JUNK'
MODEL = '--model GOOD.py --checkpoint GOOD.pth'
COMMANDS = {
    'train.py': [
        'JUNK/x.py', 'JUNK/x.json', 'FOLDER', 'GOOD.py --work-dir FILE', 'GOOD.py --resume JUNK/x.pth',
        'GOOD.py --resume JUNK', 'GOOD.py --work-dir JUNK/run --resume', 'GOOD.py --launcher slurm --local-rank 7',
        'GOOD.py --launcher pytorch --verbose', 'GOOD.py --amp --cfg-options optim_wrapper.type=JUNK/x.pth',
        'GOOD.py --auto-scale-lr --cfg-options auto_scale_lr=FILE', 'GOOD.py --no-rehearsal --work-dir FILE/x',
        'GOOD.py --trust-checkpoint --cfg-options load_from=JUNK/x.pth', 'GOOD.py --cfg-options data_root=JUNK',
        'GOOD.py --cfg-options train_dataloader.dataset.data_root=JUNK',
    ],
    'test.py': [
        'JUNK/x.py GOOD.pth', 'GOOD.py JUNK/x.pth', 'GOOD.py JUNK', 'GOOD.py GOOD.pth --work-dir FILE',
        'GOOD.py GOOD.pth --out FILE --work-dir OUT', 'GOOD.py JUNK/x.pth --show --verbose --wait-time -1',
        'GOOD.py GOOD.pth --show-dir FILE --work-dir OUT', 'GOOD.py JUNK/empty.pth --tta',
        'GOOD.py JUNK/x.pth --trust-checkpoint', 'GOOD.py GOOD.pth --launcher mpi --local-rank 3 --work-dir OUT',
        'GOOD.py JUNK/x.pth --dtype bfloat16',
        'GOOD.py GOOD.pth --cfg-options test_dataloader.dataset.data_root=JUNK',
    ],
    'predict.py': [
        f'JUNK {MODEL} --out OUT/1', f'JUNK/none.jpg {MODEL} --out OUT/2',
        'JUNK --model JUNK/x.py --checkpoint GOOD.pth --out OUT/3',
        'JUNK --model GOOD.py --checkpoint JUNK/x.pth --out OUT/4', f'JUNK/x.jpg {MODEL} --out FILE',
        f'JUNK {MODEL} --out JUNK --force', f'JUNK {MODEL} --out JUNK --skip-existing',
        f'JUNK {MODEL} --out OUT/5 --batch-size 0', f'JUNK {MODEL} --out OUT/6 --slide 0 -5',
        f'JUNK {MODEL} --out OUT/7 --opacity 7', f'JUNK {MODEL} --out OUT/8 --score nan',
        f'JUNK {MODEL} --out OUT/9 --device JUNK',
        'JUNK --model GOOD.py --checkpoint JUNK/x.pth --out OUT/10 --trust-checkpoint',
        f'JUNK {MODEL} --out OUT/11 --cfg-options test_dataloader=FILE', 'JUNK --model GOOD.py --out OUT/12',
        f'JUNK {MODEL} --out OUT/13 --dtype half',
        'JUNK --model upernet_replknet_tinny_camvid --checkpoint GOOD.pth',
    ],
    'report.py': [
        'JUNK', 'FILE', 'JUNK/none', 'JUNK --out FOLDER', 'JUNK --checkpoint JUNK/x.pth', 'JUNK --no-examples',
        'JUNK --config JUNK/x.py', 'JUNK --device JUNK', 'JUNK --cfg-options x=FILE',
    ],
    'serve.py': [
        'JUNK/x.py GOOD.pth', 'GOOD.py JUNK/x.pth', 'GOOD.py GOOD.pth --examples FILE',
        'GOOD.py GOOD.pth --examples JUNK',
        'GOOD.py GOOD.pth --max-megabytes -1', 'GOOD.py GOOD.pth --max-megapixels nan', 'GOOD.py GOOD.pth --host JUNK',
        'GOOD.py GOOD.pth --port 99999', 'GOOD.py JUNK/x.pth --title JUNK', 'GOOD.py GOOD.pth --slide 5 9',
        'GOOD.py JUNK/x.pth --score 7', 'GOOD.py GOOD.pth --device JUNK', 'GOOD.py JUNK/x.pth --trust-checkpoint',
        'GOOD.py GOOD.pth --cfg-options model.test_cfg.mode=slide', 'GOOD.py JUNK/x.pth --dtype bfloat16',
    ],
    'analysis_tools/benchmark_model.py': [
        'JUNK/x.py', 'GOOD.py JUNK/x.pth', 'GOOD.py --size 0 -1', 'GOOD.py --batch 0', 'GOOD.py --device JUNK',
        'GOOD.py --dtype float16 --channels-last --compile --train --size -3 4', 'GOOD.py --rounds 0',
        'GOOD.py --json JUNK/list.json', 'GOOD.py --json FOLDER', 'GOOD.py --json FILE/x.json',
        'GOOD.py --cfg-options model.backbone=FILE', 'GOOD.py --no-inference --json FOLDER',
        'GOOD.py --parts model --forms packed --rivals JUNK',
    ],
    'analysis_tools/check_dataset.py': [
        'JUNK/x.py', 'GOOD.py --sample -1', 'GOOD.py --cfg-options train_dataloader.dataset.data_root=JUNK',
        'GOOD.py --cfg-options train_dataloader.dataset.data_prefix.img_path=.',
    ],
    'analysis_tools/check_merge.py': [
        f'JUNK/x.py GOOD.pth {IMAGES}', f'GOOD.py JUNK/x.pth {IMAGES}', f'GOOD.py GOOD.pth {IMAGES}',
        'GOOD.py GOOD.pth --images FILE', 'GOOD.py GOOD.pth --images FOLDER', f'GOOD.py GOOD.pth {IMAGES} --count 0',
        f'GOOD.py GOOD.pth {IMAGES} --shape -1 5', f'GOOD.py GOOD.pth {IMAGES} --device JUNK',
        'GOOD.py GOOD.pth --images DATA --out FILE --shape 64 64 --count 1',
        f'GOOD.py JUNK/x.pth {IMAGES} --trust-checkpoint', f'GOOD.py GOOD.pth {IMAGES} --cfg-options model=FILE',
    ],
    'analysis_tools/compare.py': [
        'JUNK/x.py', 'GOOD.py --checkpoints JUNK/x.pth --out OUT', 'GOOD.py --costs-only --out FILE',
        'GOOD.py --iters 0 --out OUT', 'GOOD.py --seeds 0', 'GOOD.py --costs-only --shape 0 -1 --out OUT',
        'GOOD.py --costs-only --device JUNK --out OUT', 'GOOD.py --cfg-options train_cfg=FILE --out OUT',
    ],
    'analysis_tools/contact_sheet.py': [
        'JUNK/x.py JUNK OUT/x.png', 'GOOD.py JUNK OUT/x.png', 'GOOD.py FILE OUT/x.png', 'GOOD.py MAPS FOLDER',
        'GOOD.py MAPS OUT/x.txt', 'GOOD.py MAPS FILE/x.png', 'GOOD.py MAPS OUT/x.png --count 0',
        'GOOD.py MAPS OUT/x.png --cfg-options test_dataloader.dataset.data_root=JUNK',
    ],
    'analysis_tools/erf.py': [
        f'JUNK/x.py {IMAGES}', f'GOOD.py JUNK/x.pth {IMAGES}', '--model a JUNK/x.npy', '--model a',
        'GOOD.py --images FILE',
        f'GOOD.py {IMAGES} --count -1', f'GOOD.py {IMAGES} --shape 0 0', f'GOOD.py {IMAGES} --device JUNK',
        f'GOOD.py {IMAGES} --seed -5', f'GOOD.py {IMAGES} --out FILE', '--model a MATRIX.npy --figure FOLDER --out OUT',
        '--model a MATRIX.npy --figure OUT/x.txt --out OUT', f'GOOD.py JUNK/x.pth {IMAGES} --trust-checkpoint',
        f'GOOD.py {IMAGES} --cfg-options model.backbone=FILE',
    ],
    'analysis_tools/get_flops.py': [
        'JUNK/x.py', 'GOOD.py --shape 0 -1', 'GOOD.py --shape 5 5', 'GOOD.py --merged --json FOLDER --shape 64 64',
        'GOOD.py --json FILE/x --shape 64 64', 'GOOD.py --cfg-options model=FILE',
    ],
    'analysis_tools/show_filters.py': [
        'JUNK/x.py', 'GOOD.py JUNK/x.pth', 'GOOD.py --out FILE', 'GOOD.py JUNK --format svg',
        'GOOD.py JUNK/x.pth --trust-checkpoint', 'GOOD.py --cfg-options model.backbone.arch=FILE',
    ],
    'analysis_tools/benchmark_op.py': [
        '--case 1,2', '--case JUNK/x.py', '--case 1,2,8,4', '--batch 0', '--rounds 1', '--device JUNK',
        '--json FOLDER --batch', '--json JUNK/list.json --precision float32',
        '--json FILE/x.json --batch --case 1,2,8,3',
        '--grid FOLDER', '--grid JUNK/list.json',
        '--grid OUT/grid.jsonl --sample 0', '--grid FILE/x', '--grid JUNK/x.npy', '--runtimes JUNK/list.json',
        '--runtimes FOLDER', '--plot OUT/x.txt', '--rival x', '--rival x=none:none', '--precision JUNK',
    ],
    'analysis_tools/measure_gpu.py': [
        '--out FILE', '--out FILE/x', '--out OUT/gpu --minutes 0', '--out OUT/gpu --minutes nan --tiny',
        '--out OUT/gpu --only JUNK --device cpu',
    ],
    'dataset_converters/make_mini_dataset.py': [
        'coco JUNK', 'ade20k FILE', 'ade20k OUT/a --num-train -1', 'coco OUT/b --num-val -1', 'coco OUT/c --size 3',
        'ade20k OUT/d --seed -1 --num-train 1 --num-val 1',
    ],
    'deployment/export.py': [
        'JUNK/x.py GOOD.pth --out OUT/x.pt2', 'GOOD.py JUNK/x.pth --out OUT/x.pt2', 'GOOD.py GOOD.pth --out OUT/x.txt',
        'GOOD.py GOOD.pth --out FOLDER --force', 'GOOD.py GOOD.pth --out FILE',
        'GOOD.py JUNK/x.pth --out OUT/x --format onnx',
        'GOOD.py GOOD.pth --out OUT/x.onnx --images FILE', f'GOOD.py GOOD.pth --out OUT/x.onnx {IMAGES}',
        'GOOD.py GOOD.pth --out OUT/x.onnx --shape 0 -1 --labels', 'GOOD.py GOOD.pth --out OUT/x.onnx --opset -4',
        'GOOD.py GOOD.pth --out OUT/x.onnx --tolerance nan', 'GOOD.py JUNK/x.pth --out OUT/x.pt2 --trust-checkpoint',
        'GOOD.py GOOD.pth --out OUT/x.onnx --cfg-options model=FILE',
        'GOOD.py GOOD.pth --out OUT/x.onnx --transposed -1',
    ],
    'deployment/quantize.py': [
        'JUNK/x.py JUNK/x.onnx OUT/q.onnx', 'GOOD.py JUNK/x.onnx OUT/q.onnx', 'GOOD.py FOLDER OUT/q.onnx',
        'GOOD.py JUNK/x.onnx FOLDER --force', 'GOOD.py JUNK/x.onnx FILE', 'GOOD.py JUNK/x.onnx OUT/q.onnx --images 0',
        'GOOD.py JUNK/none.onnx OUT/q.onnx --method entropy --float FILE',
        'GOOD.py JUNK/x.onnx OUT/q.onnx --cfg-options train_dataloader.dataset.data_root=JUNK',
    ],
    'deployment/test_onnx.py': [
        'JUNK/x.py JUNK/x.onnx', 'GOOD.py JUNK/x.onnx --work-dir OUT', 'GOOD.py JUNK/none.onnx',
        'GOOD.py FOLDER --work-dir OUT',
        'GOOD.py JUNK/x.onnx --work-dir FILE', 'GOOD.py JUNK/x.onnx --work-dir OUT --shape 0 -1 --rounds 0',
        'GOOD.py JUNK/x.onnx --json JUNK/list.json',
        'GOOD.py JUNK/x.onnx --cfg-options test_dataloader.dataset.data_root=JUNK',
    ],
    'model_converters/convert_checkpoint.py': [
        'JUNK/x.pth', 'JUNK', 'GOOD.pth FOLDER --force', 'GOOD.pth FILE', 'JUNK/list.json OUT/x.pth --trust-checkpoint',
        'JUNK/empty.pth',
    ],
    'model_converters/list_weights.py': ['JUNK', 'JUNK --addresses'],
    'model_converters/reparameterize.py': [
        'JUNK/x.pth OUT/x.pth', 'GOOD.pth FOLDER --force', 'GOOD.pth FILE', 'GOOD.pth OUT/y.pth --ema',
        'GOOD.pth OUT/z.pth --eps nan', 'GOOD.pth OUT/z.pth --eps -1',
        'JUNK/x.jpg OUT/x.pth --fuse-bn --half --trust-checkpoint',
    ],
    'dev/kill_and_resume.py': [
        'JUNK/x.py --work-dir OUT/kill', 'GOOD.py --work-dir OUT/kill --kills 0', 'GOOD.py --processes -1 --seed 3',
        'GOOD.py --work-dir FILE', 'GOOD.py --work-dir OUT/kill --cfg-options train_cfg=FILE',
    ],
    'dev/measure_cpu_thresholds.py': [
        'fit JUNK/x.json', 'measure JUNK/list.json --minutes nan', 'fit FOLDER', 'fit OUT/none.jsonl --worst -1',
        'measure FILE/x.jsonl',
    ],
    'dev/measure_memory.py': [
        'JUNK/x.py', 'GOOD.py --size 0 5', 'GOOD.py --train-batch 0', 'GOOD.py --cycles 0',
        'GOOD.py --json JUNK/list.json', 'GOOD.py --work JUNK', 'GOOD.py --cfg-options model=FILE',
    ],
    'dev/soak.py': [
        'JUNK/x.py --work-dir OUT/soak', 'GOOD.py --work-dir OUT/soak --minutes nan', 'GOOD.py --iterations 0',
        'GOOD.py --work-dir OUT/soak --json JUNK/list.json --plot FOLDER --cfg-options train_cfg=FILE',
    ],
    'dev/try_stand_in.py': [
        'JUNK JUNK JUNK', 'FILE FOLDER JUNK', 'FOLDER FOLDER FOLDER --size 0', 'FOLDER FOLDER FOLDER --batch -1',
        'FOLDER FOLDER FOLDER --rounds 0', 'FOLDER FOLDER FOLDER --json FOLDER',
    ],
}
# What takes no file, or has a test of its own in tests/tools or tests/benchmarks.
ELSEWHERE = {'demo.py', 'analysis_tools/benchmark_acceleration.py'}


@pytest.fixture(scope='module')
def places(tmp_path_factory):
    """What the words in capitals stand for."""
    pytest.importorskip('mmseg')
    root = tmp_path_factory.mktemp('wrong')
    data = make_mini_ade20k(root / 'data', num_train=2, num_val=1, size=64)
    base = ROOT / 'configs/upernet_replknet_tiny_miniade20k.py'
    (root / 'GOOD.py').write_text(CONFIG.format(base=base, data=data))
    cfg = load_config(str(root / 'GOOD.py'))
    init_default_scope(cfg.default_scope)
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), root / 'GOOD.pth')
    np.save(root / 'MATRIX.npy', np.random.default_rng(0).random((32, 32)))
    junk = root / 'JUNK'
    (junk / 'run').mkdir(parents=True)
    for suffix in ('py', 'pth', 'jpg', 'png', 'json', 'npy', 'onnx', 'pkl', 'mp4', 'txt', 'log'):
        (junk / f'x.{suffix}').write_bytes(b'PK\x03\x04 neither this = nor (that')
    (junk / 'list.json').write_text('[1, 2]')
    (junk / 'empty.pth').touch()
    (junk / 'run/iter_1.pth').write_text('no checkpoint')
    (junk / 'run/last_checkpoint').write_text(str(junk / 'x.pth'))
    (root / 'FILE').write_text('text')
    (root / 'FOLDER').mkdir()
    maps = root / 'MAPS'
    maps.mkdir()
    for path in (data / 'annotations/validation').iterdir():
        (maps / path.name).write_bytes(path.read_bytes())
    names = ('GOOD.py', 'GOOD.pth', 'MATRIX.npy', 'JUNK', 'FILE', 'FOLDER', 'MAPS', 'OUT')
    return {name: root / name for name in names} | dict(DATA=data)


def spoken(command, places):
    words = []
    for word in command.split():
        key, equals, value = word.rpartition('=')
        for name, path in places.items():
            if value.startswith(name):
                word = f'{key}{equals}{path}{value.removeprefix(name)}'
        words.append(word)
    return words


@pytest.mark.parametrize(('tool', 'command'), [(tool, command) for tool in COMMANDS for command in COMMANDS[tool]])
def test_it_ends_with_a_sentence(places, tool, command, monkeypatch, capfd, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend((ROOT / 'tools' / tool).parent)
    monkeypatch.setattr(logging, 'raiseExceptions', False)  # of handlers that write to what pytest has closed
    before = dict(os.environ)
    monkeypatch.setattr(sys, 'argv', [tool, *spoken(command, places)])
    monkeypatch.setattr('threading.Event.wait', interrupted_in_a_tool(threading.Event.wait))
    monkeypatch.setattr(sys, 'executable', python('frameworks'))
    try:
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
    said = capfd.readouterr().err
    assert end.value.code == 2 and 'error: ' in said and 'Traceback' not in said, (end.value.code, said)


def options_of(tool, monkeypatch):
    found = []
    monkeypatch.syspath_prepend((ROOT / 'tools' / tool).parent)

    def parse(parser, *_, **__):
        found.extend(action for action in parser._actions if action.dest != 'help')
        raise SystemExit

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', parse)
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
    return found


# What a tool writes to, by the names that such options have; `test.py --out` is a file or a folder by its name.
WRITTEN = {'out', 'json', 'figure', 'plot', 'work_dir', 'show_dir', 'root', 'grid', 'runtimes'}
READ = {('report.py', 'work_dir')}


@pytest.mark.parametrize('tool', sorted({*COMMANDS, *ELSEWHERE} - {'demo.py'}))
def test_places_to_write_to_are_looked_at_before_anything_else(tool, monkeypatch, tmp_path):
    """Also where their folder is still to be made; what is refused is said by the command line itself."""
    (tmp_path / 'FILE').touch()
    actions = options_of(tool, monkeypatch)
    for action in actions:
        says_so = re.search(r'\b(to write|folder for|file for|for the (raw )?figures)\b', action.help or '')
        assert not says_so or action.dest in WRITTEN, action.dest
        if action.dest not in WRITTEN or (tool, action.dest) in READ:
            continue
        assert action.type(f'{tmp_path}/new/newer') == f'{tmp_path}/new/newer'
        for name in ('FILE/x', 'FILE/x/y.pkl'):
            with pytest.raises(argparse.ArgumentTypeError, match='must be a folder, and .*FILE. is a file'):
                action.type(f'{tmp_path}/{name}')


@pytest.mark.parametrize('tool', sorted({*COMMANDS, *ELSEWHERE} - {'demo.py'}))
@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_a_gpu_that_is_not_there(tool, monkeypatch):
    for action in options_of(tool, monkeypatch):
        if action.dest == 'device':
            with pytest.raises(argparse.ArgumentTypeError, match="'cuda' is not a device that can be used: "):
                action.type('cuda')


@pytest.mark.parametrize('tool', COMMANDS)
def test_every_option_is_tried(tool, monkeypatch):
    words = {word for command in COMMANDS[tool] for word in command.split()}
    for action in options_of(tool, monkeypatch):
        assert not action.option_strings or words & {*action.option_strings}, action.option_strings


def test_every_tool_is_tried():
    tools = {path.relative_to(ROOT / 'tools').as_posix() for path in Path(ROOT, 'tools').rglob('*.py')}
    assert {tool for tool in tools if not tool.startswith('dev/')} <= {*COMMANDS, *ELSEWHERE} <= tools
