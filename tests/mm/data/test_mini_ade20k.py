import cv2
import numpy as np
import pytest

from mmreplk.mm.data import CLASS_NAMES, NEED_SURROUNDINGS, make_mini_ade20k, make_mini_surroundings


def read(root, kind, split):
    return [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted((root / kind / split).iterdir())]


def test_layout_and_labels_are_those_of_ade20k(tmp_path):
    root = make_mini_ade20k(tmp_path / 'ade', num_train=40, num_val=5, size=96)
    assert [p.name for p in sorted((root / 'images/training').iterdir())][:2] == \
        ['ADE_train_00000001.jpg', 'ADE_train_00000002.jpg']
    assert (root / 'annotations/validation/ADE_val_00000005.png').is_file()
    labels = read(root, 'annotations', 'training')
    assert all(label.shape == (96, 96) and label.dtype == np.uint8 for label in labels)
    assert {image.shape for image in read(root, 'images', 'validation')} == {(96, 96, 3)}
    found = set(np.unique(labels))
    assert 0 in found and found - {0} == set(CLASS_NAMES), 'unlabelled pixels and every class occur'


def test_pale_objects_look_the_same_in_every_scene(tmp_path):
    root = make_mini_ade20k(tmp_path / 'ade', num_train=60, num_val=1)
    means = {}
    for image, label in zip(read(root, 'images', 'training'), read(root, 'annotations', 'training'), strict=True):
        for name in (24, 26, 77, 81):  # sofa, house, boat, bus
            if (label == name).sum() > 200:
                means.setdefault(name, []).append(image[label == name].mean(0))
    spread = np.ptp([np.mean(values, 0) for values in means.values()], 0)
    assert len(means) == 4 and (spread < 20).all()


def test_made_once_and_reproducible(tmp_path):
    first = make_mini_ade20k(tmp_path / 'a', num_train=2, num_val=1)
    stamp = (first / 'images/training/ADE_train_00000001.jpg').stat().st_mtime_ns
    assert make_mini_ade20k(tmp_path / 'a', num_train=2, num_val=1) == first
    assert (first / 'images/training/ADE_train_00000001.jpg').stat().st_mtime_ns == stamp
    second = make_mini_ade20k(tmp_path / 'b', num_train=2, num_val=1)
    other = make_mini_ade20k(tmp_path / 'c', num_train=2, num_val=1, seed=1)
    pictures = [np.stack(read(root, 'images', 'training')) for root in (first, second, other)]
    assert (pictures[0] == pictures[1]).all() and (pictures[0] != pictures[2]).any()
    assert len(list((make_mini_ade20k(tmp_path / 'a', num_train=3, num_val=1) / 'images/training').iterdir())) == 3


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / 'objectInfo150.txt').write_text('the real ADE20K')
    with pytest.raises(ValueError, match='is not a mini ADE20K'):
        make_mini_ade20k(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ['objectInfo150.txt']
    with pytest.raises(ValueError, match='at least 64 pixels, got 32'):
        make_mini_ade20k(tmp_path / 'small', size=32)


def test_in_the_mini_surroundings_outlines_tell_nothing(tmp_path):
    """Scenes are drawn alike; what was a disc is of the class of boxes in its scene."""
    discs = set()
    for seed in range(30):
        options = dict(num_train=1, num_val=1, size=64, seed=seed)
        outlines, none = (make(tmp_path / f'{make.__name__}{seed}', **options)
                          for make in (make_mini_ade20k, make_mini_surroundings))
        labels, merged = (read(root, 'annotations', 'training')[0] for root in (outlines, none))
        for box, disc in ((81, 88), (77, 35), (24, 37), (26, 120)):  # bus, boat, sofa, house
            discs |= {disc} & set(labels.flat)
            labels[labels == disc] = box
        assert (labels[2:] == merged[2:]).all(), 'below the rows that may be unlabelled'
    assert discs == {88, 35, 37, 120} and set(NEED_SURROUNDINGS) == {81, 77, 24, 26}
    with pytest.raises(ValueError, match='is not a mini surroundings'):
        make_mini_surroundings(outlines)
