import dataclasses
import json
import os
import urllib.error
from pathlib import Path

import pytest
import torch

from mmreplk import InputError, RepLKNet
from mmreplk.mm.checks import check_before_testing, check_before_training
from mmreplk.mm.config import load_config
from mmreplk.mm.data import make_mini_coco
from mmreplk.weights import PUBLISHED

ROOT = Path(__file__).parents[3]
ARCH = dict(large_kernel_sizes=[7, 5, 5, 3], layers=[1, 1, 1, 1], channels=[4, 8, 8, 8])
SPLITS = ('images/training', 'annotations/training', 'images/validation', 'annotations/validation')
SUFFIX = dict(im='.jpg', an='.png')


@pytest.fixture
def cfg(tmp_path):
    """The real config with a small backbone, its weights, and a dataset of one file in each folder."""
    for split in SPLITS:
        (tmp_path / split).mkdir(parents=True)
        (tmp_path / split / f'a{SUFFIX[split[:2]]}').touch()
    roots = {f'{name}_dataloader.dataset.data_root': str(tmp_path) for name in ('train', 'val', 'test')}
    weights = {f'backbone.{name}': tensor for name, tensor in RepLKNet(ARCH).state_dict().items()}
    saved = dict(state_dict=weights, meta=dict(iter=1), optimizer={}, message_hub={}, param_schedulers=[{}, {}])
    torch.save(saved, tmp_path / 'weights.pth')
    options = {'model.backbone.init_cfg.checkpoint': str(tmp_path / 'weights.pth')}
    cfg = load_config(str(ROOT / 'configs/upernet_replknet31b_ade20k.py'), {**roots, **options})
    cfg.model.backbone.arch = ARCH
    fit_heads(cfg)
    return cfg


def fit_heads(cfg, channels=ARCH['channels']):
    cfg.model.decode_head.in_channels, cfg.model.auxiliary_head.in_channels = list(channels), channels[2]


def test_nothing_is_missing(cfg):
    check_before_training(cfg)
    cfg.load_from = cfg.model.backbone.init_cfg.checkpoint
    check_before_testing(cfg)


def test_missing_and_empty_data(cfg, tmp_path):
    (tmp_path / SPLITS[3] / 'a.png').unlink()
    with pytest.raises(ValueError, match='for val_dataloader is missing: .*annotations/validation. is empty'):
        check_before_training(cfg)
    (tmp_path / SPLITS[3]).rmdir()
    with pytest.raises(ValueError, match='annotations/validation. does not exist. Download http.*make_mini_dataset'):
        check_before_training(cfg)


def test_relative_data_are_named_by_where_they_were_looked_for(cfg, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('train', 'val', 'test'):
        cfg[f'{name}_dataloader'].dataset.data_root = '.'
    check_before_training(cfg)
    cfg.train_dataloader.dataset.data_root = 'data/mine'
    advice = 'If the data are elsewhere, say where with --cfg-options data_root=FOLDER.'
    for hint, end in (('Ask Ada.', f'Ask Ada. {advice}'), (None, advice)):
        cfg.data_hint = hint
        with pytest.raises(ValueError) as caught:
            check_before_training(cfg)
        path = 'data/mine/images/training'
        assert str(caught.value) == (f"the data of ADE20KDataset for train_dataloader is missing: '{tmp_path}/{path}' "
                                     f"does not exist, where '{path}' of the config is in the current folder. {end}")


@pytest.mark.parametrize(('split', 'words'), [
    (0, "no file in '.*images/training' ends in '.jpg'; 2 end in '.png': then the dataset needs img_suffix='.png'$"),
    (1, "no file in '.*annotations/training' ends in '.png'; 2 end in '.tif': .* needs seg_map_suffix='.tif'$"),
])
def test_pictures_of_another_suffix(cfg, tmp_path, split, words):
    folder = tmp_path / SPLITS[split]
    for path in folder.iterdir():
        path.unlink()
    (folder / 'deep').mkdir()
    names = [folder / f'{name}{".png" if split == 0 else ".tif"}' for name in ('a', 'deep/b')]
    for name in names:
        name.touch()
    with pytest.raises(ValueError, match=words):
        check_before_training(cfg)
    cfg.train_dataloader.dataset['img_suffix' if split == 0 else 'seg_map_suffix'] = names[0].suffix
    check_before_training(cfg)


def test_pictures_of_a_list_need_no_suffix(cfg, tmp_path):
    (tmp_path / SPLITS[0] / 'a.jpg').rename(tmp_path / SPLITS[0] / 'a.png')
    (tmp_path / 'train.txt').write_text('a')
    cfg.train_dataloader.dataset.ann_file = 'train.txt'
    check_before_training(cfg)


@pytest.mark.parametrize(('key', 'path', 'words'), [
    ('test_evaluator.output_dir', 'FILE/maps', "FILE/maps' must be a folder, and '.*FILE' is a file"),
    ('val_evaluator.out_file_path', '.', "' must be a file, it is a folder"),
    ('default_hooks.checkpoint.out_dir', 'FILE', "FILE' must be a folder"),
    ('work_dir', 'FILE/run', "FILE/run' must be a folder"),
])
def test_places_that_cannot_be_written_to(cfg, tmp_path, key, path, words):
    (tmp_path / 'FILE').touch()
    cfg.merge_from_dict({key: str(tmp_path / path)})
    with pytest.raises(ValueError, match=words):
        check_before_training(cfg)


def test_data_inside_wrappers(cfg):
    missing = dict(type='ADE20KDataset', data_root='/nowhere', data_prefix=dict(img_path='images'))
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', dataset=dict(type='ConcatDataset', datasets=[cfg.train_dataloader.dataset, missing]))
    with pytest.raises(ValueError, match='/nowhere/images. does not exist'):
        check_before_training(cfg)


def test_weights_that_cannot_be_downloaded(cfg, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))

    def refuse(*_, **__):
        raise urllib.error.URLError('no network')

    monkeypatch.setattr('urllib.request.urlopen', refuse)
    cfg.model.backbone.init_cfg.checkpoint = 'https://example.org/a/weights.pth'
    with pytest.raises(ValueError, match=r'weights.pth cannot be downloaded \(no network\).*init_cfg=None'):
        check_before_training(cfg)
    (tmp_path / 'checkpoints/weights.pth').touch()
    with pytest.raises(ValueError, match="checkpoints/weights.pth' is empty"):
        check_before_training(cfg)
    os.replace(tmp_path / 'weights.pth', tmp_path / 'checkpoints/weights.pth')
    check_before_training(cfg)


@pytest.mark.parametrize('key', ['init_cfg', 'load_from'])
@pytest.mark.parametrize('rank', ['0', '1'])
def test_weights_are_downloaded_to_where_mmengine_looks_and_checked(cfg, server, torch_cache, monkeypatch, key, rank):
    monkeypatch.setenv('LOCAL_RANK', rank)  # whoever comes first downloads
    server.files['/a/weights.pth?x=1'] = Path(cfg.model.backbone.init_cfg.checkpoint).read_bytes()
    source = f'{server.url}/a/weights.pth?x=1'
    if key == 'init_cfg':
        cfg.model.backbone.init_cfg.checkpoint = source
    else:
        cfg.load_from = source
    check_before_training(cfg)
    assert (torch_cache / 'weights.pth').is_file()
    cfg.model.backbone.arch = dict(ARCH, channels=[4, 8, 8, 16])
    fit_heads(cfg, [4, 8, 8, 16])
    if key == 'load_from':
        cfg.model.backbone.init_cfg = None
    with pytest.raises(ValueError, match='hub/checkpoints/weights.pth.: these weights do not fit'):
        check_before_training(cfg)
    assert len(server.requests) == 1


@pytest.mark.parametrize('key', ['init_cfg', 'load_from'])
def test_weights_by_name(cfg, server, torch_cache, monkeypatch, key):
    data = Path(cfg.model.backbone.init_cfg.checkpoint).read_bytes()
    server.files['/weights.pth'] = data
    entry = dataclasses.replace(PUBLISHED['replknet-31b_in1k'], url=f'{server.url}/weights.pth', sha256=None)
    monkeypatch.setitem(PUBLISHED, 'replknet-31b_in1k', entry)
    for name in ('replknet-31b_in1k', 'replknet-31b_1k'):
        if key == 'init_cfg':
            cfg.model.backbone.init_cfg.checkpoint = name
        else:
            cfg.load_from = name
        if name in PUBLISHED:
            check_before_training(cfg)
            assert (torch_cache / 'weights.pth').read_bytes() == data
        else:
            with pytest.raises(InputError, match="no published weights 'replknet-31b_1k'.*'replknet-31b_in1k'"):
                check_before_training(cfg)


@pytest.mark.parametrize('key', ['init_cfg', 'load_from'])
def test_weights_of_another_architecture(cfg, key):
    path = cfg.model.backbone.init_cfg.checkpoint
    if key == 'load_from':
        cfg.load_from, cfg.model.backbone.init_cfg = path, None
    cfg.model.backbone.arch = '31B'
    fit_heads(cfg, [128, 256, 512, 1024])
    with pytest.raises(ValueError, match=r"weights.pth': .*layers \(1, 1, 1, 1\), not \(2, 2, 18, 2\)"):
        check_before_training(cfg)
    torch.save(torch.nn.Linear(1, 1).state_dict(), path)
    with pytest.raises(ValueError, match="weights.pth'(: these weights do not fit| has nothing)"):
        check_before_training(cfg)


def test_a_prefix_that_is_not_there(cfg):
    torch.save(dict(model=RepLKNet(ARCH).state_dict()), cfg.model.backbone.init_cfg.checkpoint)
    cfg.model.backbone.init_cfg.prefix = 'backbone.'
    with pytest.raises(ValueError, match="nothing whose name begins with the prefix 'backbone.' of init_cfg"):
        check_before_training(cfg)
    cfg.model.backbone.init_cfg.prefix = None
    check_before_training(cfg)


def test_only_checkpoints_of_a_training_can_be_resumed_from(cfg):
    cfg.load_from, cfg.resume = cfg.model.backbone.init_cfg.checkpoint, True
    check_before_training(cfg)
    torch.save(dict(model=RepLKNet(ARCH).state_dict()), cfg.load_from)
    cfg.model.backbone.init_cfg = None
    with pytest.raises(ValueError, match='cannot be resumed from: it does not say after which iteration'):
        check_before_training(cfg)
    cfg.resume = False
    check_before_training(cfg)


@pytest.mark.parametrize(('name', 'change', 'words'), [
    ('stem.0.conv.weight', lambda w: w * float('nan'), 'has numbers that are not finite'),
    ('stages.0.blocks.0.large_kernel.lkb_origin.bn.running_var', lambda w: w / 0, 'has numbers that are not finite'),
    ('stem.1.conv.weight', lambda w: w.int(), 'has the dtype torch.int32, weights must have floating-point numbers'),
    ('stem.1.conv.weight', lambda w: w.to_sparse(), 'is not a plain tensor with numbers'),
])
def test_weights_that_are_no_numbers(cfg, name, change, words):
    path = cfg.model.backbone.init_cfg.checkpoint
    saved = torch.load(path)
    weights = saved['state_dict']
    weights[f'backbone.{name}'] = change(weights[f'backbone.{name}'])
    torch.save(saved, path)
    with pytest.raises(ValueError, match=f"weights.pth. cannot be used: its 'state_dict.backbone.{name}' {words}"):
        check_before_training(cfg)


def test_a_damaged_checkpoint_that_is_named_for_resuming(cfg):
    cfg.load_from, cfg.resume, cfg.model.backbone.init_cfg = cfg.model.backbone.init_cfg.checkpoint, True, None
    content = bytearray(Path(cfg.load_from).read_bytes())
    weight = torch.load(cfg.load_from)['state_dict']['backbone.stem.0.conv.weight']
    content[content.index(weight.numpy().tobytes())] ^= 1
    Path(cfg.load_from).write_bytes(content)
    with pytest.raises(ValueError, match='weights.pth. is damaged or cut short'):
        check_before_training(cfg)


@pytest.mark.parametrize(('part', 'value', 'words'), [
    *(('meta', dict(iter=iteration), 'it does not say after which iteration') for iteration in (-1, 'one', None, 1.5)),
    ('optimizer', None, "it lacks the optimizer's state or the log history, as the best checkpoints do"),
    ('message_hub', 'x', "it lacks the optimizer's state or the log history"),
    ('param_schedulers', [{}], 'it does not hold the states of the 2 entries of param_scheduler'),
])
def test_what_resuming_needs(cfg, part, value, words):
    cfg.load_from, cfg.resume = cfg.model.backbone.init_cfg.checkpoint, True
    torch.save(dict(torch.load(cfg.load_from), **{part: value}), cfg.load_from)
    with pytest.raises(ValueError, match=f'cannot be resumed from: {words}'):
        check_before_training(cfg)


@pytest.mark.parametrize(('options', 'words'), [
    ({'decode_head.in_channels': [4, 8, 8, 16]}, r'decode_head.in_channels must be \[4, 8, 8, 8\], which .* got \['),
    ({'decode_head.in_index': [0, 1, 2, 4]}, r'decode_head.in_index must be among the 4 features .*, got \[0, 1, 2, 4'),
    ({'decode_head.in_index': 'all'}, "decode_head.in_index must be among the 4 features of the backbone, got 'all'"),
    ({'auxiliary_head.in_channels': 4}, 'model.auxiliary_head.in_channels must be 8, which the backbone hands'),
    ({'auxiliary_head': [dict(in_channels=8, in_index=1), dict(in_channels=8, in_index=0)]},
     'model.auxiliary_head.1.in_channels must be 4'),
    ({'backbone.out_indices': [1, 2, 3]}, 'decode_head.in_index must be among the 3 features'),
    ({'backbone.in_channels': 4}, 'in_channels must be 3, the length of model.data_preprocessor.mean, got 4'),
    ({'neck': dict(in_channels=[4, 8])}, r'model.neck.in_channels must be \[4, 8, 8, 8\]'),
])
def test_channels_that_do_not_fit(cfg, options, words):
    cfg.merge_from_dict({f'model.{key}': value for key, value in options.items()})
    with pytest.raises(ValueError, match=words):
        check_before_training(cfg)


def test_stages_of_a_cascade_with_other_classes(cfg):
    cfg.model.roi_head = dict(bbox_head=[dict(num_classes=5), dict(num_classes=5), dict(num_classes=6)])
    with pytest.raises(ValueError, match='model.roi_head.bbox_head.2.num_classes must be 5, as of the first .* got 6'):
        check_before_training(cfg)


def test_channels_that_only_their_reader_knows(cfg):
    cfg.model.decode_head = dict(type='Own')
    cfg.model.auxiliary_head = [dict(in_channels=8, in_index=-1), dict(in_channels=5)]
    check_before_training(cfg)
    cfg.model.neck = dict(in_channels=(4, 8, 8, 8))
    cfg.model.auxiliary_head = dict(in_channels=100, in_index=0)
    check_before_training(cfg)
    cfg.model = dict(type='Own')
    check_before_training(cfg)


def test_annotations_in_cocos_format(cfg, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('mmreplk.mm.checks.preflight.print_log', lambda message, **_: said.append(message))
    # A segmentor stands for a detector.
    monkeypatch.setattr('mmreplk.mm.checks.preflight.check_classes', lambda *_: None)
    annotation = dict(id=1, image_id=1, category_id=7, bbox=[5, 5, 0, 5], area=25)
    labels = dict(images=[dict(id=1, file_name='a.jpg', width=9, height=9)], annotations=[annotation],
                  categories=[dict(id=7, name='box')])
    (tmp_path / 'labels.json').write_text(json.dumps(labels))
    cfg.train_dataloader.dataset = dataset = dict(
        type='CocoDataset', data_root=str(tmp_path), ann_file='labels.json', metainfo=dict(classes=('box', )))
    check_before_training(cfg)
    assert said == [f'{tmp_path}/labels.json: 1 annotations have boxes that are empty or reach out of their image: 1']
    cfg.train_dataloader.dataset = dict(dataset, metainfo=dict(classes=('disc', )))
    with pytest.raises(ValueError, match='labels.json cannot be used: 1 classes of the config are not .*: disc'):
        check_before_training(cfg)
    (tmp_path / 'labels.json').write_text('[]')
    with pytest.raises(ValueError, match="labels.json is not of COCO's format"):
        check_before_training(cfg)
    monkeypatch.setenv('RANK', '1')
    check_before_training(cfg)


def test_evaluators_are_of_the_images_that_are_predicted(tmp_path):
    pytest.importorskip('mmdet')
    root = make_mini_coco(tmp_path / 'coco', num_train=3, num_val=2, size=64)
    options = {f'{name}_dataloader.dataset.data_root': f'{root}/' for name in ('train', 'val', 'test')}
    files = {name: root / f'annotations/instances_{name}.json' for name in ('train', 'val')}

    def check(path):
        evaluators = {f'{name}_evaluator.ann_file': str(path) for name in ('val', 'test')}
        check_before_training(load_config(str(ROOT / 'configs/cascade_mask_rcnn_replknet_tiny_minicoco.py'),
                                          options | evaluators))

    check(files['val'])
    labels = json.loads(files['val'].read_text())
    other = tmp_path / 'other.json'
    other.write_text(json.dumps(dict(labels, images=labels['images'][:1])))
    with pytest.raises(ValueError, match='other.json is of other images: 1 images of .* not in it: 000002.jpg'):
        check(other)
    del labels['annotations'][0]['iscrowd']
    other.write_text(json.dumps(labels))
    with pytest.raises(ValueError, match='val_evaluator.ann_file .*1 annotations lack iscrowd .*: 1$'):
        check(other)
    with pytest.raises(ValueError, match="val_evaluator.ann_file .*none.json' does not exist"):
        check(tmp_path / 'none.json')


def test_missing_checkpoints(cfg):
    cfg.load_from = 'work_dirs/none.pth'
    for check in (check_before_training, check_before_testing):
        with pytest.raises(ValueError, match="checkpoint 'work_dirs/none.pth' does not exist"):
            check(cfg)


def test_unknown_arguments_of_the_backbone(cfg):
    cfg.model.backbone.kernel_sizes = [31]
    with pytest.raises(ValueError, match="no argument 'kernel_sizes'; it takes allow_mismatch, arch, deploy"):
        check_before_training(cfg)
