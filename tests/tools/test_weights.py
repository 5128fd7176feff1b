"""Other people's checkpoints, good and bad, on the command lines."""

import re

import pytest
import torch

from mmreplk import RepLKNet
from mmreplk.weights import read_checkpoint
from tests.networks.layouts import mmpretrain, official_classification
from tests.tools.conftest import TINY, miou
from tests.tools.processes import tool
from tests.weights.hostile import Hostile


def backbone_of(path):
    weights = read_checkpoint(path)['state_dict']
    return {name.removeprefix('backbone.'): t for name, t in weights.items() if name.startswith('backbone.')}


@pytest.fixture(scope='session')
def old_segmentor(trained, tmp_path_factory):
    """The trained segmentor as MMSegmentation 0.x would have saved it."""
    path = tmp_path_factory.mktemp('old') / 'upernet_replknet.pth'
    meta = dict(epoch=1, iter=160000, mmcv_version='1.6.0', mmseg_version='0.27.0', CLASSES=('wall', 'sky'))
    torch.save(dict(meta=meta, state_dict=read_checkpoint(trained / 'iter_4.pth')['state_dict'], optimizer={}), path)
    return path


def test_an_old_segmentor_is_evaluated_and_fine_tuned(trained, old_segmentor, short_options, data_options, tmp_path):
    result = tool('test.py', TINY, old_segmentor, '--work-dir', tmp_path, '--cfg-options', *data_options)
    assert result.returncode == 0, result.stderr
    assert miou(result.stdout) == miou(next(trained.glob('*/*.log')).read_text())
    assert result.stdout.count('RepLKNet: 336 of its 336 tensors loaded from ') == 1
    result = tool('train.py', TINY, '--work-dir', tmp_path, '--cfg-options', *short_options, 'train_cfg.max_iters=1',
                  f'load_from={old_segmentor}')
    assert result.returncode == 0 and result.stdout.count('RepLKNet: 336 of its 336 tensors') == 1, result.stderr


@pytest.mark.parametrize(('option', 'layout', 'words'), [
    ('load_from', official_classification, r"classification checkpoint; left out: norm.weight and 4 more \(the cl"),
    ('init_cfg', mmpretrain, "loaded from mmpretrain's conversion of a classification checkpoint; left out: backbone."),
])
def test_a_classifier_is_fine_tuned(trained, short_options, tmp_path, option, layout, words):
    path = tmp_path / 'classifier.pth'
    torch.save(layout(backbone_of(trained / 'iter_4.pth')), path)
    options = [f'load_from={path}'] if option == 'load_from' else [
        'model.backbone.init_cfg.type=Pretrained', f'model.backbone.init_cfg.checkpoint={path}']
    result = tool('train.py', TINY, '--work-dir', tmp_path / 'run', '--cfg-options', *short_options,
                  'train_cfg.max_iters=1', *options)
    assert result.returncode == 0, result.stderr
    assert re.search(words, result.stdout) and result.stdout.count('RepLKNet: 336 of its 336') == 1, result.stdout


@pytest.mark.parametrize(('tool_name', 'kind', 'words'), [
    ('test.py', 'truncated', "checkpoint '{path}' is damaged or cut short"),
    ('test.py', 'empty', "checkpoint '{path}' is empty"),
    ('train.py', 'html', "checkpoint '{path}' is a web page, not weights"),
    ('train.py', 'hostile', r"checkpoint '{path}' holds \S*open, which is not a plain value.*--trust-checkpoint"),
    ('test.py', 'other network', "checkpoint '{path}': these weights do not fit this RepLKNet"),
    ('train.py', 'other channels', r"checkpoint '{path}': .*channels \(8, 64, 128, 256\), not \(32, 64"),
])
def test_bad_checkpoints_end_with_one_sentence(data_options, trained, tmp_path, tool_name, kind, words):
    path, work_dir, trace = tmp_path / 'x.pth', tmp_path / 'run', tmp_path / 'executed'
    whole = (trained / 'iter_4.pth').read_bytes()
    if kind == 'hostile':
        torch.save(dict(state_dict=dict(payload=Hostile(trace))), path)
    elif kind == 'other network':
        torch.save(dict(state_dict=torch.nn.Linear(1, 1).state_dict()), path)
    elif kind == 'other channels':
        arch = dict(large_kernel_sizes=[31, 29, 27, 13], layers=[1, 1, 3, 1], channels=[8, 64, 128, 256])
        torch.save(RepLKNet(dict(arch, small_kernel=5)).state_dict(), path)
    else:
        path.write_bytes(dict(truncated=whole[:len(whole) // 2], empty=b'', html=b'<html>404</html>')[kind])
    given = [path] if tool_name == 'test.py' else []
    options = data_options if given else [*data_options, f'load_from={path}']
    result = tool(tool_name, TINY, *given, '--work-dir', work_dir, '--cfg-options', *options)
    assert result.returncode == 2 and 'Traceback' not in result.stderr, result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith('error: ')]
    assert len(errors) == 1 and re.search(words.format(path=re.escape(str(path))), errors[0]), result.stderr
    assert not work_dir.exists() and not trace.exists()


def test_converting_on_the_command_line(trained, tmp_path):
    source, out = tmp_path / 'classifier.pth', tmp_path / 'out.pth'
    torch.save(official_classification(backbone_of(trained / 'iter_4.pth')), source)
    result = tool('model_converters/convert_checkpoint.py', source, out)
    assert result.returncode == 0, result.stderr
    assert re.search(r'^source +official classification checkpoint$', result.stdout, re.M)
    assert re.search(rf'^written +{out}$', result.stdout, re.M)
    assert list(read_checkpoint(out)['state_dict']) == list(backbone_of(trained / 'iter_4.pth'))
    before = source.read_bytes()
    for target, words in ((source, 'is the checkpoint to read'), (out, 'exists; --force replaces it')):
        result = tool('model_converters/convert_checkpoint.py', source, target,
                      *(['--force'] if target == source else []))
        assert result.returncode == 2 and words in result.stderr and 'Traceback' not in result.stderr, result.stderr
    assert source.read_bytes() == before
    assert tool('model_converters/convert_checkpoint.py', source, out, '--force').returncode == 0
