import re

import torch

from tests.tools.conftest import TINY
from tests.tools.processes import tool


def miou(*arguments):
    result = tool('test.py', TINY, *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return float(re.findall(r'mIoU: ([0-9.]+)', result.stdout)[-1]), result.stdout


def test_a_deploy_checkpoint_evaluates_to_the_same(trained, data_options, tmp_path):
    checkpoint = trained / 'iter_4.pth'
    expected, log = miou(checkpoint, '--work-dir', tmp_path, '--cfg-options', *data_options)
    assert 'evaluating with 6 large-kernel layers merged' in log
    for name, options in (('merged', []), ('folded', ['--fuse-bn'])):
        out = tmp_path / f'{name}.pth'
        result = tool('model_converters/reparameterize.py', checkpoint, out, *options)
        assert result.returncode == 0 and f'{out}: {name}, ' in result.stdout, result.stderr
        deploy = ['model.backbone.deploy=True', *['model.backbone.fuse_bn=True'][:len(options)]]
        assert result.stdout.strip().endswith(' '.join(deploy))
        actual, log = miou(out, '--work-dir', tmp_path, '--cfg-options', *data_options, *deploy)
        assert actual == expected
        # What is left to fold is the head's.
        assert f'evaluating with 0 large-kernel layers merged and {12 if options else 58} BatchNorms folded' in log
    again = tool('model_converters/reparameterize.py', checkpoint, out)
    assert again.returncode == 2 and '--force replaces it' in again.stderr


def test_it_never_loses_its_input(trained, tmp_path):
    checkpoint = trained / 'iter_4.pth'
    before = checkpoint.read_bytes()
    result = tool('model_converters/reparameterize.py', checkpoint, checkpoint, '--force')
    assert result.returncode == 2 and 'never overwritten' in result.stderr
    assert checkpoint.read_bytes() == before
    other = tmp_path / 'other.pth'
    torch.save(dict(state_dict=torch.nn.Linear(2, 2).state_dict()), other)
    result = tool('model_converters/reparameterize.py', other, tmp_path / 'out.pth')
    refused = 'it holds none of RepLKNet, UniRepLKNet, SLaK' in result.stderr
    assert result.returncode == 2 and refused and str(other) in result.stderr
    assert not (tmp_path / 'out.pth').exists()
