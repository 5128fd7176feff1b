"""The first lines of a bug report, on machines where something is broken above all."""

import importlib
import importlib.metadata
import platform
import re
from types import SimpleNamespace

import pytest
import torch

from mmreplk import __version__, about, shipped
from mmreplk.about import PACKAGES, describe


def rows():
    return dict(re.split('  +', line, maxsplit=1) for line in describe().splitlines())


def broken(*_, **__):
    raise OSError('out of order\nand more')


def test_it_says_what_is_here():
    found = rows()
    assert found['mmreplk'].startswith(f'{__version__}, in ') and found['torch'] == torch.__version__
    assert {*PACKAGES} < {*found} and found['backend torch'] == 'yes'
    assert found['configs'] == f'{len(shipped.config_names())} in {shipped.CONFIGS}'
    assert found['tools'] == f'{len(shipped.tool_names())} in {shipped.TOOLS}'


def test_reasons_are_those_of_the_operator(monkeypatch):
    monkeypatch.setattr(about, 'backends', lambda: dict(torch=None, cpu='a reason', triton='another'))
    found = rows()
    assert [found[f'backend {name}'] for name in ('torch', 'cpu', 'triton')] == ['yes', 'no: a reason', 'no: another']


@pytest.mark.parametrize(('owner', 'name', 'row', 'lost'), [
    (about, 'processor', 'processor', {'processor'}),
    (about, 'backends', 'backends', {'backend torch', 'backend cpu', 'backend triton'}),
    (shipped, 'config_names', 'configs', {'configs'}),
    (torch.cuda, 'is_available', 'GPU', {'GPU', 'backend torch', 'backend cpu', 'backend triton'}),
    (importlib.metadata, 'version', 'torch', {*PACKAGES}),
    (platform, 'platform', 'system', {'system'}),
])
def test_what_is_broken_costs_its_own_line(monkeypatch, owner, name, row, lost):
    whole = rows()
    monkeypatch.setattr(owner, name, broken)
    found = rows()
    assert found[row] == 'OSError: out of order'
    assert {title for title in whole if found.get(title) != whole[title]} <= lost


def test_a_damaged_list_of_distributions_costs_the_versions(monkeypatch):
    monkeypatch.setattr(importlib.metadata, 'packages_distributions', broken)
    assert rows()['torch'].startswith('without a version, in ')


def test_two_distributions_of_one_package_are_both_named(monkeypatch):
    monkeypatch.setattr(importlib.metadata, 'packages_distributions', lambda: dict(torch=['torch', 'other-torch']))
    monkeypatch.setattr(importlib.metadata, 'version', dict(torch='2.13.0').get)
    assert rows()['torch'] == 'other-torch None and torch 2.13.0'


def test_a_gpu_is_named(monkeypatch):
    properties = SimpleNamespace(name='A100', major=8, minor=0, total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda device: properties)
    assert about._gpu() == '; '.join(['A100, compute capability 8.0, 80 GiB'] * 2)


def test_operators_of_mmcv_that_were_compiled_for_another_pytorch(monkeypatch):
    pytest.importorskip('mmcv._ext')
    assert rows()['mmcv'].endswith(', with compiled operators')

    def refuse(name):
        raise ImportError(f'{name}.so: undefined symbol: _ZN2at4_ops')

    monkeypatch.setattr(importlib, 'import_module', refuse)
    assert rows()['mmcv'].endswith(', whose compiled operators do not load: ImportError: mmcv._ext.so: undefined '
                                   'symbol: _ZN2at4_ops')
