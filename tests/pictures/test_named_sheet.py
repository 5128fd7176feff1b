import cv2
import numpy as np
import pytest

from mmreplk.pictures import contact_sheet, draw_named, named_sheet, read_maps
from mmreplk.pictures.named_sheet import HEADING

NAMES, PALETTE = ('sea', 'sand'), [[0, 0, 255], [255, 255, 0]]
SEA, SAND = (255, 0, 0), (0, 255, 255)  # BGR


class Chosen:
    """Two pictures whose config has two of the dataset's four classes, numbered anew."""
    metainfo = dict(classes=NAMES, palette=PALETTE)

    def __init__(self, root, size=(60, 80)):
        self.root = root
        labels = np.full(size, 4, np.uint8)  # sand; the files count from 1
        labels[:, :40], labels[:5] = 2, 3  # sea, and a class that was not chosen
        labels[-5:] = 0  # unlabelled
        for name in 'ab':
            cv2.imwrite(str(root / f'{name}.jpg'), np.full((*size, 3), 90, np.uint8))
            cv2.imwrite(str(root / f'{name}_truth.png'), labels)

    def __len__(self):
        return 2

    def get_data_info(self, i):
        return dict(img_path=str(self.root / f'{"ab"[i]}.jpg'), seg_map_path=str(self.root / f'{"ab"[i]}_truth.png'),
                    reduce_zero_label=True, label_map={0: 255, 1: 0, 2: 255, 3: 1})


@pytest.fixture
def dataset(tmp_path):
    for folder, label in (('all_sea', 1), ('all_sand', 2)):
        (tmp_path / folder).mkdir()
        for name in 'ab':
            cv2.imwrite(str(tmp_path / folder / f'{name}.png'), np.full((60, 80), label, np.uint8))
    return Chosen(tmp_path)


def test_labels_are_those_of_the_chosen_classes(dataset, tmp_path):
    image, truth, sea, sand = read_maps(dataset, 0, tmp_path / 'all_sea', tmp_path / 'all_sand')
    assert image.shape == (60, 80, 3) and (sea == 0).all() and (sand == 1).all()
    assert (truth[5:55, :40] == 0).all() and (truth[5:55, 40:] == 1).all()
    assert (truth[:5] == 255).all() and (truth[55:] == 255).all()
    sheet = contact_sheet(dataset, tmp_path / 'all_sea', count=1)
    assert sheet[30, 85].tolist() == list(SEA) and sheet[30, 150].tolist() == list(SAND)


def test_rows_of_image_truth_and_every_model(dataset, tmp_path):
    folders = dict(one=tmp_path / 'all_sea', two=tmp_path / 'all_sand')
    sheet = named_sheet(dataset, folders, [0, 1])
    assert sheet.shape == (HEADING + 2 * 64, 4 * 84, 3)
    first = sheet[HEADING:HEADING + 60]
    corners = [first[10, 84 * column + x].tolist() for column in (1, 2, 3) for x in (1, 79)]
    assert corners == [list(colour) for colour in (SEA, SAND, SEA, SEA, SAND, SAND)]
    assert (first[57, 84:164] == 0).all(), 'what is not labelled is black'
    headings = sheet[:HEADING].reshape(HEADING, 4, 84, 3)
    assert all((headings[:, column] < 128).any() for column in range(4)), 'every column has its title'
    with pytest.raises(ValueError, match='got 0 pictures'):
        named_sheet(dataset, folders, [])
    cv2.imwrite(str(tmp_path / 'all_sand/b.png'), np.zeros((9, 9), np.uint8))
    with pytest.raises(ValueError, match='b.png is missing or not a label map of 80x60'):
        named_sheet(dataset, folders, [1])


def test_names_lie_in_their_regions():
    labels = np.zeros((120, 200), np.uint8)
    labels[20:100, 110:190] = 1
    labels[5:8, 5:8] = 1  # too small for a name
    drawn = draw_named(labels, NAMES, PALETTE)
    named = (drawn == (255, 255, 255)).all(-1)
    assert named[20:100, 110:190].any() and named[:, :110].any()
    assert not named[:20, :20].any() and tuple(drawn[6, 6]) == SAND
    text = named[20:100, 110:190].nonzero()
    assert abs(text[0].mean() - 40) < 8 and abs(text[1].mean() - 40) < 8, 'in the middle'
    assert (named.sum(0)[[0, -1]] == 0).all()
    edge = np.zeros((40, 300), np.uint8)
    edge[:, 270:] = 1
    assert not (draw_named(edge, ('x', 'streetlight'), PALETTE) == 255).all(-1)[:, -1].any(), 'no name is cut off'
