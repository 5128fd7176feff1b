import cv2
import numpy as np
import pytest

from mmreplk.pictures import contact_sheet


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
                    reduce_zero_label=True)  # yapf: disable


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
    ]  # yapf: disable
