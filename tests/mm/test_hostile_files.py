"""Files whose sender wants something executed: reading them, and going on from them, executes nothing."""

import pickle
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.fileio import dump, load

from mmreplk.mm.checkpoints import find_resumable
from mmreplk.mm.runner import build_runner
from mmreplk.mm.trust import allow_pickles, refuse_pickled_data
from tests.mm.hooks.toy import toy_config
from tests.tools.processes import ROOT, tool
from tests.weights.hostile import Hostile


def put_everywhere(text, node):
    """Replaces every text in a checkpoint but the names of tensors and statistics."""
    for key, value in node.items():
        if isinstance(value, dict):
            put_everywhere(text, value)
        elif isinstance(value, str):
            node[key] = text


@pytest.mark.parametrize('runner_type', ['Runner', 'FlexibleRunner'])
@pytest.mark.parametrize('text', ['__import__("os").mkdir({!r})', 'this is {!r} no program ('])
def test_resuming_executes_no_text_of_the_checkpoint(tmp_path, runner_type, text):
    marker = tmp_path / 'executed'
    cfg = toy_config(tmp_path / 'run', end=4)
    cfg.train_cfg.max_iters = 2
    build_runner(cfg).train()
    path = find_resumable(str(tmp_path / 'run'))
    saved = torch.load(path, weights_only=False)
    for key in ('config', 'cfg', 'filename', 'gpu_ids'):
        saved['meta'][key] = ''
    put_everywhere(text.format(str(marker)), saved)
    torch.save(saved, path)
    cfg = toy_config(tmp_path / 'run', end=4)
    cfg.update(resume=True, load_from=path)
    if runner_type == 'FlexibleRunner':
        cfg.update(runner_type=runner_type, env_cfg=dict(cudnn_benchmark=False))
    runner = build_runner(cfg)
    runner.train()
    assert runner.iter == 4 and not marker.exists()


@pytest.fixture
def untrusting(monkeypatch):
    for name in ('TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'):
        monkeypatch.setenv(name, '0')
    allow_pickles(False)
    yield
    allow_pickles(True)


ANNOTATIONS = dict(metainfo={}, data_list=[dict(img_path='a.png')])


@pytest.mark.parametrize('name', ['a.pkl', 'a.pickle', 'a.yaml', 'a.yml'])
def test_annotations_execute_nothing(tmp_path, untrusting, name):
    path, marker = tmp_path / name, tmp_path / 'executed'
    if 'p' in name[1:]:
        path.write_bytes(pickle.dumps(Hostile(marker)))
    else:
        path.write_text(f'!!python/object/apply:os.mkdir [{marker}]')
    with pytest.raises(Exception, match=r'say --trust-checkpoint|could not determine a constructor'):
        BaseDataset(str(path))
    assert not marker.exists()
    allow_pickles(True)
    load(path)
    assert marker.exists(), 'the file is hostile'


def test_plain_annotations_are_read_and_pickles_written(tmp_path, untrusting):
    for name in ('a.yaml', 'a.json'):
        dump(ANNOTATIONS, tmp_path / name)
        assert BaseDataset(str(tmp_path / name)).get_data_info(0)['img_path'] == 'a.png'
    dump(ANNOTATIONS, tmp_path / 'a.pkl')
    assert pickle.loads((tmp_path / 'a.pkl').read_bytes()) == ANNOTATIONS


@pytest.mark.parametrize(('loader', 'words'), [
    (dict(pipeline=[dict(type='LoadBiomedicalData', decode_backend='pickle')]), 'pipeline.0.decode_backend'),
    (dict(type='RepeatDataset', dataset=dict(hierarchy_file='tree.npy')), 'dataset.hierarchy_file'),
])
def test_what_the_frameworks_unpickle_themselves_is_refused(loader, words):
    cfg = Config(dict(train_dataloader=dict(dataset=loader), model=dict(decode_backend='pickle')))
    with pytest.raises(ValueError, match=rf'train_dataloader.dataset.*{words}.* is a pickle: .*--trust-checkpoint'):
        refuse_pickled_data(cfg, False)
    refuse_pickled_data(cfg, True)


def test_every_tool_decides_what_files_may_do():
    """Also those that read no checkpoint: a dataset may be hostile too."""
    found = 0
    for path in (ROOT / 'tools').rglob('*.py'):
        text = path.read_text()
        if 'dev' in path.parts or path.name in ('compare.py', 'demo.py'):  # which have other tools do it
            continue
        if 'load_config(' in text or 'add_trust_checkpoint' in text:
            found += 1
            assert re.search(r'(decide_trust|allow_pickles|read_checkpoint)\(.*', text), path
    assert found > 12


DETECTION = """
custom_imports = dict(imports=['mmreplk'])
default_scope = 'mmdet'
model = dict(type='RetinaNet', backbone=dict(type='ResNet', depth=50))
train_dataloader = dict(batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler'), dataset=dict(
    type='BaseDetDataset', ann_file='{path}', pipeline=[]))
"""


def test_a_tool_that_reads_a_dataset_executes_nothing(tmp_path):
    path, marker = tmp_path / 'a.pkl', tmp_path / 'executed'
    path.write_bytes(pickle.dumps(Hostile(marker)))
    (tmp_path / 'config.py').write_text(DETECTION.format(path=path))
    result = tool('analysis_tools/check_dataset.py', tmp_path / 'config.py')
    assert not marker.exists() and result.returncode and 'a pickle: reading it can execute' in result.stderr
