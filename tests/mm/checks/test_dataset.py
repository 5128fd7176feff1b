import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from mmreplk.mm.checks import check_coco
from mmreplk.mm.checks.dataset import without_images
from mmreplk.mm.data import make_mini_ade20k, make_mini_coco
from tests.tools.conftest import TINY, tool


def options(root):
    return [f'{name}_dataloader.dataset.data_root={root}' for name in ('train', 'val', 'test')]


def test_a_whole_dataset_passes(tmp_path):
    pytest.importorskip('mmseg')
    root = make_mini_ade20k(tmp_path / 'ade', num_train=6, num_val=2)
    result = tool('analysis_tools/check_dataset.py', TINY, '--cfg-options', *options(root),
                  'data_counts.train=6', 'data_counts.val=2')
    assert result.returncode == 0, result.stdout + result.stderr
    assert 'train: 6 images, as they should be' in result.stdout


def test_what_is_wrong_with_labels_is_said(tmp_path):
    pytest.importorskip('mmseg')
    root = make_mini_ade20k(tmp_path / 'ade', num_train=6, num_val=2)
    labels = root / 'annotations/training'
    (labels / 'ADE_train_00000001.png').unlink()
    cv2.imwrite(str(labels / 'ADE_train_00000002.png'), np.full((128, 128), 151, np.uint8))
    cv2.imwrite(str(labels / 'ADE_train_00000003.png'), np.ones((64, 128), np.uint8))
    (labels / 'ADE_train_00000004.png').write_bytes(b'')
    result = tool('analysis_tools/check_dataset.py', TINY, '--cfg-options', *options(root),
                  'data_counts.train=7', 'data_counts.val=2')
    assert result.returncode == 2 and '5 problems in the data of' in result.stderr, result.stdout + result.stderr
    assert 'val: 2 images, as they should be' in result.stdout
    for problem in ('6 images, expected 7', '1 files are missing: ', 'ADE_train_00000001.png\n',
                    '1 label maps hold labels other than 1 to 150 and 255: ', 'ADE_train_00000002.png has [151]',
                    'ADE_train_00000003.png (64, 128) for (128, 128)', '1 files cannot be read as pictures: ',
                    'ADE_train_00000004.png'):  # yapf: disable
        assert problem in result.stdout, problem


class Segmentation:
    """Lists the images of a folder, as MMSegmentation does."""
    seg_map_suffix, ann_file = '.png', ''

    def __init__(self, root):
        self.data_prefix = dict(img_path=str(root / 'images/training'), seg_map_path=str(root / 'annotations/training'))
        self.names = sorted(path.stem for path in (root / 'images/training').iterdir())

    def __len__(self):
        return len(self.names)

    def get_data_info(self, i):
        return dict(seg_map_path=f'{self.data_prefix["seg_map_path"]}/{self.names[i]}.png')


def test_label_maps_without_images_are_said(tmp_path):
    root = make_mini_ade20k(tmp_path / 'ade', num_train=3, num_val=1, size=64)
    assert not list(without_images(Segmentation(root)))
    (root / 'images/training/ADE_train_00000002.jpg').unlink()
    wrapped = SimpleNamespace(datasets=[SimpleNamespace(dataset=Segmentation(root))])
    assert list(without_images(wrapped)) == [
        f'1 label maps have no image and are left out: {root}/annotations/training/ADE_train_00000002.png'
    ]


def test_what_is_wrong_with_annotations_is_said(tmp_path):
    root = make_mini_coco(tmp_path / 'coco', num_train=3, num_val=1)
    labels, images = json.loads((root / 'annotations/instances_train.json').read_text()), root / 'train'
    assert list(check_coco(labels, images, ['shape'])) == []
    annotations = labels['annotations']
    annotations[0]['bbox'][2] = 200
    annotations[1]['image_id'] = 77
    annotations[2]['category_id'] = 2
    annotations[3]['segmentation'] = []
    labels['images'][0]['height'] = 120
    (images / '000002.jpg').unlink()
    cut = (images / '000003.jpg').read_bytes()
    (images / '000003.jpg').write_bytes(cut[:len(cut) // 2])
    assert list(check_coco(labels, images, ['shape', 'person'])) == [
        f'1 files are missing: {images}/000002.jpg',
        f'1 files cannot be read as pictures: {images}/000003.jpg',
        f'1 images are not of the size that the file says (height, width): {images}/000001.jpg (128, 128) for '
        '(120, 128)',
        '1 classes of the config are not categories of the file: person',
        '1 annotations have no mask: 4',
        '1 annotations are of images that the file does not list: 2',
        '1 annotations are of categories that the file does not list: 3',
        '1 annotations have boxes that are empty or reach out of their image: 1'
    ]
