import json
import os
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from mmreplk.mm.checks import check_coco, check_segmentation, check_split
from mmreplk.mm.checks.label_maps import classes_seen, without_images
from mmreplk.mm.data import make_mini_ade20k, make_mini_coco
from tests.tools.conftest import TINY
from tests.tools.processes import tool


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
                    'ADE_train_00000004.png'):
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


class Masks:
    """Label maps of three classes with their images, as MMSegmentation lists them."""
    data_prefix, reduce_zero_label = {}, False

    def __init__(self, folder, maps, classes=('ground', 'wall', 'sky'), label_map=None):
        self.metainfo, self.label_map, self.paths = dict(classes=classes), label_map, []
        for i, labels in enumerate(maps):
            labels = np.asarray(labels, np.uint8)
            cv2.imwrite(str(folder / f'{i}.png'), labels)
            cv2.imwrite(str(folder / f'{i}.jpg'), np.zeros((*labels.shape, 3), np.uint8))
            self.paths.append(folder / f'{i}')

    def __len__(self):
        return len(self.paths)

    def get_data_info(self, i):
        return dict(img_path=f'{self.paths[i]}.jpg', seg_map_path=f'{self.paths[i]}.png', label_map=self.label_map,
                    reduce_zero_label=self.reduce_zero_label)


@pytest.mark.parametrize(('labels', 'reduced', 'words'), [
    ([[0, 255], [0, 0]], False, "the only class is 'ground' (0); the files hold 0 75.0%, 255 25.0%. 255 is ignored: "
     'masks of 0 and 255 must become masks of 0 and 1'),
    ([[0, 1], [1, 1]], True, "the only class is 'ground' (0); the files hold 1 75.0%, 0 25.0%. 255 is ignored, and so "
     'is 0, by reduce_zero_label'),
    ([[255, 255], [255, 255]], False, 'the only class is none; the files hold 255 100.0%. 255 is ignored'),
    ([[1, 1], [2, 2]], False, '1 of 3 classes are in none of 2 label maps: ground; are labels counted from 1? They '
     'must be counted from 0. The pixels are wall 50.0%, sky 50.0%'),
    ([[0, 1], [1, 1]], False, '1 of 3 classes are in none of 2 label maps: sky. The pixels are wall 75.0%, ground 25'),
])
def test_masks_that_mean_something_else(tmp_path, labels, reduced, words):
    dataset = Masks(tmp_path, [labels, labels])
    dataset.reduce_zero_label = reduced
    said = list(classes_seen(dataset))
    assert len(said) == 1 and words in said[0]
    assert list(classes_seen(SimpleNamespace(datasets=[SimpleNamespace(dataset=dataset)]))) == said


def test_masks_that_are_right(tmp_path):
    assert not list(classes_seen(Masks(tmp_path, [[[0, 1], [2, 255]]])))
    some = Masks(tmp_path, [[[0, 1]], [[0, 1]], [[2, 0]]])
    assert not list(classes_seen(some, 2)), 'a class that is in few files may be in others'
    assert not list(classes_seen([1, 2])) and not list(classes_seen(Masks(tmp_path, [], ())))


def test_a_subset_of_the_classes(tmp_path):
    """As MMSegmentation maps the labels of the others to the one that is ignored."""
    dataset = Masks(tmp_path, [[[0, 1], [2, 255]]], classes=('sky', 'wall'), label_map={0: 255, 1: 1, 2: 0})
    assert not list(check_segmentation(dataset)) and not list(classes_seen(dataset))
    cv2.imwrite(f'{dataset.paths[0]}.png', np.array([[0, 3], [2, 255]], np.uint8))
    assert list(check_segmentation(dataset)) == [
        f'1 label maps hold labels other than 0 to 2 and 255: {dataset.paths[0]}.png has [3]'
    ]


def test_images_that_are_huge_or_without_labels(tmp_path, monkeypatch):
    dataset = Masks(tmp_path, [[[0, 1], [2, 255]]])
    monkeypatch.setattr('PIL.Image.MAX_IMAGE_PIXELS', 1)
    assert list(check_segmentation(dataset)) == [
        f'2 files cannot be read as pictures: {dataset.paths[0]}.jpg, {dataset.paths[0]}.png'
    ]
    monkeypatch.undo()
    dataset.get_data_info = lambda i: dict(img_path=f'{dataset.paths[i]}.jpg')
    assert not list(check_segmentation(dataset)) and not list(classes_seen(dataset))


def test_label_maps_that_are_no_files_or_not_of_their_image_are_not_read(tmp_path, monkeypatch):
    dataset, read = Masks(tmp_path, [[[0, 1], [2, 255]]] * 3), []
    os.remove(f'{dataset.paths[0]}.png')
    os.mkfifo(f'{dataset.paths[0]}.png')  # which would be waited for
    cv2.imwrite(f'{dataset.paths[1]}.png', np.zeros((3000, 3000), np.uint8))
    asarray = np.asarray
    monkeypatch.setattr(np, 'asarray', lambda image: read.append(image.size) or asarray(image))
    list(classes_seen(dataset))
    assert read == [(2, 2)]


def test_datasets_in_wrappers_and_without_labels(tmp_path):
    pytest.importorskip('mmseg')
    from mmengine.registry import init_default_scope
    init_default_scope('mmseg')
    root = make_mini_ade20k(tmp_path / 'ade', num_train=3, num_val=2, size=64)

    def part(split, **prefix):
        return dict(type='ADE20KDataset', data_root=str(root), data_prefix=dict(img_path=f'images/{split}', **prefix),
                    pipeline=[])

    labelled = part('training', seg_map_path='annotations/training')
    wrapped = dict(type='RepeatDataset', times=5, dataset=dict(
        type='ConcatDataset', datasets=[labelled, part('validation', seg_map_path='annotations/validation')]))
    count, problems, notes = check_split(wrapped)
    assert (count, problems) == (5, []) and all('classes are in none of' in note for note in notes)
    assert check_split(part('validation')) == (2, [], ['there are no label maps'])


def test_annotations_of_a_test_split(tmp_path):
    pytest.importorskip('mmdet')
    from mmengine.registry import init_default_scope
    init_default_scope('mmdet')
    root = make_mini_coco(tmp_path / 'coco', num_train=3, num_val=1, size=64)
    path = root / 'annotations/instances_train.json'
    labels = json.loads(path.read_text())
    del labels['annotations']
    path.write_text(json.dumps(labels))
    dataset = dict(type='CocoDataset', data_root=str(root), ann_file='annotations/instances_train.json',
                   data_prefix=dict(img='train/'), metainfo=dict(classes=('shape', )), pipeline=[])
    assert check_split(dataset) == (3, [], [f'{path} has no annotations'])


def test_classes_without_an_annotation(tmp_path):
    root = make_mini_coco(tmp_path / 'coco', num_train=3, num_val=1, size=64)
    labels = json.loads((root / 'annotations/instances_train.json').read_text())
    labels['categories'].append(dict(id=2, name='person'))
    assert list(check_coco(labels, root / 'train', ['shape', 'person'])) == [
        '1 classes of the config have no annotation: person'
    ]
