from pathlib import Path

import pytest

from mmreplk import InputError
from mmreplk.mm.config import load_config
from tests.beside_torchvision import import_mmpretrain

ROOT = Path(__file__).parents[3]
CONFIGS = [path.stem for path in sorted((ROOT / 'configs').glob('*.py'))]


def config(name, **options):
    if 'convnext' in name:
        import_mmpretrain()
    return load_config(str(ROOT / f'configs/{name}.py'), options)


@pytest.mark.parametrize('name', CONFIGS)
def test_one_key_moves_the_data_of_every_config(name):
    before, cfg = config(name), config(name, data_root='/my data/x')
    for split in ('train', 'val', 'test'):
        assert cfg[f'{split}_dataloader'].dataset.data_root == '/my data/x'
        for key in ('ann_file', 'data_prefix'):
            assert cfg[f'{split}_dataloader'].dataset.get(key) == before[f'{split}_dataloader'].dataset.get(key)
        file = cfg.get(f'{split}_evaluator', {}).get('ann_file')
        if file:
            assert file == f'/my data/x/annotations/{Path(file).name}'


def test_what_else_is_said_goes_on_top():
    options = {'data_root': '/a', 'test_dataloader.dataset.data_root': '/b', 'val_evaluator.ann_file': '/c/x.json'}
    cfg = config('cascade_mask_rcnn_replknet_tiny_nuclei', **options)
    assert [cfg[f'{split}_dataloader'].dataset.data_root for split in ('train', 'val', 'test')] == ['/a', '/a', '/b']
    assert cfg.val_evaluator.ann_file == '/c/x.json'
    assert cfg.test_evaluator.ann_file == '/a/annotations/instances_test.json'


def test_data_in_several_places(tmp_path):
    (tmp_path / 'both.py').write_text(f"""
_base_ = '{ROOT}/configs/upernet_replknet_tiny_camvid.py'
one = _base_.train_dataloader.dataset
train_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', datasets=[one, dict(one, data_root='b')]))
""")
    with pytest.raises(InputError, match='data_root=/a is for data that are all in one folder, .* have b, data/camvid'):
        load_config(str(tmp_path / 'both.py'), dict(data_root='/a'))
    (tmp_path / 'model.py').write_text("model = dict(type='X')")
    with pytest.raises(InputError, match='the datasets of the config have none'):
        load_config(str(tmp_path / 'model.py'), dict(data_root='/a'))


def test_palettes_of_lists_become_what_both_frameworks_draw(tmp_path):
    (tmp_path / 'mine.py').write_text(f"""
_base_ = '{ROOT}/configs/cascade_mask_rcnn_replknet_tiny_nuclei.py'
mine = dict(metainfo=dict(classes=('a', 'b'), palette=[[1, 2, 3], (4, 5, 6)]))
train_dataloader = dict(dataset=dict(_delete_=True, type='RepeatDataset', dataset=mine))
test_dataloader = dict(dataset=mine)
""")
    cfg = load_config(str(tmp_path / 'mine.py'))
    for dataset in (cfg.train_dataloader.dataset.dataset, cfg.test_dataloader.dataset):
        assert dataset.metainfo.palette == [(1, 2, 3), (4, 5, 6)]
        assert all(type(colour) is tuple for colour in dataset.metainfo.palette)
