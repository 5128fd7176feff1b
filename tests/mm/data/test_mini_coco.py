import json

import cv2
import numpy as np
import pytest

from mmreplk.mm.data import make_mini_coco


def read(root, split):
    return json.loads((root / f'annotations/instances_{split}.json').read_text())


def test_boxes_areas_and_masks_agree(tmp_path):
    coco = pytest.importorskip('pycocotools.mask')
    root = make_mini_coco(tmp_path / 'coco', num_train=12, num_val=2, size=96)
    labels = read(root, 'train')
    assert len(labels['images']) == 12 and len(list((root / 'val').iterdir())) == 2
    assert [a['id'] for a in labels['annotations']] == list(range(1, len(labels['annotations']) + 1))
    assert {a['image_id'] for a in labels['annotations']} == set(range(1, 13))
    seen = np.zeros((13, 96, 96), int)
    for annotation in labels['annotations']:
        mask = coco.decode(coco.frPyObjects(annotation['segmentation'], 96, 96))
        ys, xs = np.nonzero(mask)
        assert annotation['area'] == mask.sum() >= 40
        assert annotation['bbox'] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
        seen[annotation['image_id']] += mask
    assert seen.max() == 1, 'what one shape hides of another is not part of its mask'


def test_made_once_reproducible_and_careful(tmp_path):
    first = make_mini_coco(tmp_path / 'a', num_train=2, num_val=1)
    stamp = (first / 'train/000001.jpg').stat().st_mtime_ns
    assert make_mini_coco(tmp_path / 'a', num_train=2, num_val=1) == first
    assert (first / 'train/000001.jpg').stat().st_mtime_ns == stamp
    second, other = (make_mini_coco(tmp_path / name, 2, 1, seed=seed) for name, seed in (('b', 0), ('c', 1)))
    pictures = [cv2.imread(str(root / 'train/000001.jpg')) for root in (first, second, other)]
    assert (pictures[0] == pictures[1]).all() and (pictures[0] != pictures[2]).any()
    assert read(first, 'val') == read(second, 'val') != read(other, 'val')
    (tmp_path / 'd').mkdir()
    (tmp_path / 'd/train2017').touch()
    with pytest.raises(ValueError, match='is not a mini COCO'):
        make_mini_coco(tmp_path / 'd')
    with pytest.raises(ValueError, match='at least 64 pixels, got 32'):
        make_mini_coco(tmp_path / 'e', size=32)
