import os

import cv2
import numpy as np
import pytest
from mmengine.model import ImgDataPreprocessor

from mmreplk import InputError
from mmreplk.pictures import ImageFolder


@pytest.fixture
def preprocessor():
    return ImgDataPreprocessor(mean=[10., 20., 30.], std=[1., 2., 4.], bgr_to_rgb=True, pad_size_divisor=8)


def test_pictures_are_read_normalized_and_spread_over_the_folder(tmp_path, preprocessor):
    rng = np.random.default_rng(0)
    for i in range(9):
        path = tmp_path / 'ab'[i % 2] / f'{i}.{["png", "PNG", "bmp"][i % 3]}'
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (16, 24, 3), np.uint8))
    (tmp_path / 'labels.txt').write_text('no picture')
    os.mkfifo(tmp_path / 'pipe.png')
    images = ImageFolder(tmp_path, 3, preprocessor)
    assert [path.name for path in images.paths] == ['0.png', '8.bmp', '7.PNG'] and len(images) == 3
    assert len(ImageFolder(tmp_path, 50, preprocessor)) == 9
    rgb = cv2.imread(str(images.paths[1]))[..., ::-1].astype(np.float64)
    expected = (rgb - [10, 20, 30]) / [1, 2, 4]
    np.testing.assert_allclose(images[1][0].numpy(), expected.transpose(2, 0, 1), rtol=1e-5)
    resized = cv2.resize(cv2.imread(str(images.paths[1])), (32, 40), interpolation=cv2.INTER_CUBIC)[..., ::-1]
    actual = ImageFolder(tmp_path, 3, preprocessor, (40, 32))[1]
    np.testing.assert_allclose(actual[0, 2].numpy(), (resized[..., 2].astype(np.float64) - 30) / 4, rtol=1e-5)


def test_what_cannot_be_read(tmp_path, preprocessor):
    with pytest.raises(InputError, match=r'there is no picture \(.bmp.*\) in .*missing'):
        ImageFolder(tmp_path / 'missing', 3, preprocessor)
    (tmp_path / 'broken.png').write_bytes(b'nothing')
    with pytest.raises(InputError, match=r'broken.png. is not a picture'):
        ImageFolder(tmp_path, 3, preprocessor)[0]
    whole = cv2.imencode('.jpg', np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))[1].tobytes()
    (tmp_path / 'broken.png').write_bytes(whole[:len(whole) // 2])  # of which OpenCV would make up the rest
    with pytest.raises(InputError, match=r'broken.png. is damaged'):
        ImageFolder(tmp_path, 3, preprocessor)[0]
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(InputError, match=r'pads images of \(20, 24\) \(height, width\) to \(24, 24\)'):
        ImageFolder(tmp_path, 1, preprocessor, (20, 24))[0]
    with pytest.raises(InputError, match='must be positive, got 0'):
        ImageFolder(tmp_path, 0, preprocessor)
