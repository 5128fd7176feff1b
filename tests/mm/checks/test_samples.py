import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from mmreplk import InputError
from mmreplk.mm import CheckDataHook, ExactResumeHook
from mmreplk.mm.checks.samples import CheckedDataset
from mmreplk.mm.hooks.check_data_hook import _num_classes
from tests.mm.hooks.toy import Toy, make_runner


class Pairs:
    """Images and label maps in files, loaded as MMSegmentation does; three classes."""
    metainfo = dict(classes=('a', 'b', 'c'))
    ignore_index = 255

    def __init__(self, folder, labels, size=(6, 4), mode=np.uint8):
        self.info = dict(img_path=str(folder / 'image.png'), seg_map_path=str(folder / 'labels.png'))
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(self.info['img_path'])
        Image.fromarray(np.asarray(labels, mode)).save(self.info['seg_map_path'])

    def __len__(self):
        return 1

    def get_data_info(self, index):
        return dict(self.info)

    def __getitem__(self, index):
        with Image.open(self.info['seg_map_path']) as image:
            labels = torch.from_numpy(np.array(image).astype(np.uint8)).long()
        labels = labels.permute(2, 0, 1) if labels.ndim == 3 else labels[None]
        return dict(inputs=torch.zeros(3), data_samples=BaseDataElement(gt_sem_seg=PixelData(data=labels)))


def labels(value, shape=(6, 4)):
    out = np.zeros(shape, np.int64)
    out[1, 1] = value
    return out


def test_labels_of_the_classes_and_ignored_ones(tmp_path):
    for value in (0, 2, 255):
        dataset = CheckedDataset(Pairs(tmp_path, labels(value)))
        assert dataset[0]['data_samples'].gt_sem_seg.data.max() == value and len(dataset) == 1
        assert dataset.metainfo == Pairs.metainfo


@pytest.mark.parametrize(('options', 'words'), [
    (dict(labels=labels(3)), 'it has labels 3 .*there are 3 classes, 0 to 2, and 255 is ignored'),
    (dict(labels=np.arange(24).reshape(6, 4)), r'labels 3, 4, 5, 6, 7, \.\.\.'),
    (dict(labels=labels(258), mode=np.uint16), "'I;16' pixels; labels must be of 8 bits"),
    (dict(labels=labels(1, (6, 4, 3))), r'shape \(3, 6, 4\); it must hold one label a pixel, not colours'),
    (dict(labels=labels(1), size=(6, 5)), 'the image has 5x6 pixels, the label map 4x6'),
])
def test_wrong_labels_are_refused_by_name(tmp_path, options, words):
    with pytest.raises(InputError, match=f'image.png with .*labels.png cannot be used: .*{words}'):
        CheckedDataset(Pairs(tmp_path, **options))[0]


@pytest.mark.parametrize(('damage', 'words'), [
    (lambda path: path.write_bytes(b''), 'labels.png is empty'),
    (lambda path: path.write_text('text'), 'UnidentifiedImageError: cannot identify image file'),
    (lambda path: path.write_bytes(path.read_bytes()[:-30]), 'OSError|SyntaxError'),
    (lambda path: path.unlink(), 'FileNotFoundError'),
    (lambda path: Image.new('L', (14000, 14000)).save(path), 'DecompressionBombError'),
], ids=['empty', 'text', 'truncated', 'missing', 'huge'])
def test_broken_files_are_refused_by_name(tmp_path, damage, words):
    dataset = CheckedDataset(Pairs(tmp_path, labels(1)))
    damage(tmp_path / 'labels.png')
    with pytest.raises(InputError, match=f'image.png with .*labels.png cannot be used: .*({words})'):
        dataset[0]


def test_the_name_comes_out_of_a_worker(tmp_path):
    loader = DataLoader(CheckedDataset(Pairs(tmp_path, labels(9))), num_workers=1, collate_fn=list)
    with pytest.raises(InputError, match='labels.png cannot be used: it has labels 9'):
        next(iter(loader))


def test_a_jpeg_that_is_cut_short(tmp_path):
    dataset = Pairs(tmp_path, labels(1, (64, 64)), (64, 64))
    dataset.info['img_path'] = path = str(tmp_path / 'image.jpg')
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    CheckedDataset(dataset)[0]
    with open(path, 'r+b') as file:
        file.truncate(3000)
    with pytest.raises(InputError, match=r'image.jpg with .* cannot be used: OSError: image file is truncated'):
        CheckedDataset(dataset)[0]


def test_a_size_that_the_annotation_contradicts(tmp_path):
    dataset = Pairs(tmp_path, labels(1))
    for width, height in ((4, 6), (6, 4)):  # decoders turn pictures as their EXIF data says
        dataset.info.update(width=width, height=height)
        CheckedDataset(dataset)[0]
    dataset.info.update(width=5)
    with pytest.raises(InputError, match='the image has 4x6 pixels, its annotation says 5x4'):
        CheckedDataset(dataset)[0]


def test_labels_that_the_model_does_not_know(tmp_path):
    CheckedDataset(Pairs(tmp_path, labels(2)), num_classes=3)[0]
    with pytest.raises(InputError, match='it has labels 2 .*; num_classes of the model is 2, 0 to 1, and 255 is'):
        CheckedDataset(Pairs(tmp_path, labels(2)), num_classes=2)[0]
    instances = InstanceData(labels=torch.tensor([0, 4]))
    with pytest.raises(InputError, match='it has labels 4 .*; there are 4 classes, 0 to 3'):
        CheckedDataset([dict(data_samples=BaseDataElement(gt_instances=instances))], num_classes=4)[0]


def test_the_transform_that_failed_is_named():

    class Crop:

        def transform(self, sample):
            assert sample > 5

    class Cropped:

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return Crop().transform(index)

    with pytest.raises(InputError, match='sample 0 cannot be used: Crop: AssertionError: assert 0 > 5$'):
        CheckedDataset(Cropped())[0]


def test_boxes_must_be_finite():
    boxes = torch.tensor([[0., 0, 1, 1], [0, 0, float('nan'), 1]])
    sample = dict(data_samples=BaseDataElement(gt_instances=InstanceData(bboxes=boxes)))
    with pytest.raises(InputError, match='sample 0 cannot be used: boxes must be finite'):
        CheckedDataset([sample])[0]


def test_the_hook_knows_the_heads(tmp_path):
    model = Toy()
    model.decode_head, model.auxiliary_head = nn.Module(), nn.ModuleList([nn.Module()])
    model.decode_head.num_classes, model.auxiliary_head[0].num_classes = 3, 2
    runner = make_runner(tmp_path, CheckDataHook(), ExactResumeHook(), model=model)
    runner._train_dataloader['dataset'] = Pairs(tmp_path, labels(2))
    with pytest.raises(InputError, match='num_classes of the model is 2'):
        runner.train()
    model.auxiliary_head[0].out_channels = 1  # of a sigmoid, for two classes
    model.auxiliary_head[0].num_classes = model.decode_head.num_classes = 1
    assert _num_classes(model) == 1 and _num_classes(model.auxiliary_head[0]) is None


def test_the_hook_checks_training_and_validation(tmp_path):
    broken = Pairs(tmp_path, labels(9))
    for loader in ('train', 'val'):
        runner = make_runner(tmp_path, CheckDataHook(), ExactResumeHook())
        getattr(runner, f'_{loader}_dataloader')['dataset'] = broken
        with pytest.raises(InputError, match='labels.png cannot be used: it has labels 9'):
            runner.val() if loader == 'val' else runner.train()
