import json
import pickle

import cv2
import numpy as np
import pytest

from mmreplk.pictures import contact_sheet, instance_sheet
from tests.weights.hostile import Hostile


class Pair:
    """Two pictures of 4x6 in ADE20K's convention."""
    metainfo = dict(palette=[[255, 0, 0], [0, 255, 0]])

    def __init__(self, root):
        self.root = root
        for name in ('a', 'b'):
            cv2.imwrite(str(root / f'{name}.jpg'), np.full((4, 6, 3), 90, np.uint8))
            cv2.imwrite(str(root / f'{name}_truth.png'), np.array([[1, 2, 0, 0, 0, 0]] * 4, np.uint8))

    def __len__(self):
        return 2

    def get_data_info(self, i):
        name = 'ab'[i]
        return dict(img_path=str(self.root / f'{name}.jpg'), seg_map_path=str(self.root / f'{name}_truth.png'),
                    reduce_zero_label=True)


def test_contact_sheet(tmp_path):
    dataset = Pair(tmp_path)
    (tmp_path / 'maps').mkdir()
    cv2.imwrite(str(tmp_path / 'maps/a.png'), np.array([[2, 2, 1, 1, 1, 1]] * 4, np.uint8))
    with pytest.raises(ValueError, match=r'b.png is missing or not a label map of 6x4 pixels'):
        contact_sheet(dataset, tmp_path / 'maps')
    sheet = contact_sheet(dataset, tmp_path / 'maps', count=1)
    assert sheet.shape == (4, 3 * 6 + 2 * 4, 3)
    red, green, black, white = (0, 0, 255), (0, 255, 0), (0, 0, 0), (255, 255, 255)
    assert [tuple(p) for p in sheet[0, 6:]] == [
        white, white, white, white, red, green, black, black, black, black,
        white, white, white, white, green, green, black, black, black, black
    ]


class Objects:
    """One picture of 4x6 with an object in its left half."""

    def __init__(self, root):
        self.path = str(root / 'a.png')
        cv2.imwrite(self.path, np.full((4, 6, 3), 90, np.uint8))

    def __len__(self):
        return 1

    def get_data_info(self, i):
        return dict(img_path=self.path, img_id=7, instances=[dict(mask=[[0., 0., 3., 0., 3., 4., 0., 4.]])])


def test_masks_are_read_as_coco_writes_results(tmp_path):
    half = dict(size=[4, 6], counts='<<')  # twelve pixels without, twelve with, column by column
    found = [dict(image_id=7, category_id=1, score=score, segmentation=dict(half)) for score in (.9, .1)]
    (tmp_path / 'predictions.segm.json').write_text(json.dumps(found))
    sheet = instance_sheet(Objects(tmp_path), tmp_path)
    true, predicted = sheet[:, 10:16], sheet[:, 20:26]
    assert (true[:, :3] != 90).any(-1).all() and (true[:, 3:] == 90).all()
    assert (predicted[:, :3] == 90).all() and (predicted[:, 3:] != 90).any(-1).all()


@pytest.mark.parametrize(('content', 'words'), [
    (None, 'cannot be read: No such file'), ('{}x', 'does not hold masks in COCO.s format: JSONDecodeError'),
    ('[{"score": "high"}]', 'does not hold masks'), ('[{"score": 1}]', "does not hold masks.*'image_id'"),
    ('[{"score": 1, "image_id": 7, "segmentation": {"size": [9, 9], "counts": "<<"}}]', r'a mask of \[9, 9\] pixels'),
])
def test_masks_that_are_none(tmp_path, content, words):
    if content is not None:
        (tmp_path / 'predictions.segm.json').write_text(content)
    with pytest.raises(ValueError, match=words):
        instance_sheet(Objects(tmp_path), tmp_path)


def test_predictions_execute_nothing(tmp_path):
    (tmp_path / 'predictions.segm.json').write_bytes(pickle.dumps(Hostile(tmp_path / 'executed')))
    with pytest.raises(ValueError, match='does not hold masks'):
        instance_sheet(Objects(tmp_path), tmp_path)
    assert not (tmp_path / 'executed').exists()
