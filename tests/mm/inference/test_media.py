import io

import cv2
import numpy as np
import pytest
from PIL import Image

from mmreplk import InputError
from mmreplk.io import read_image
from mmreplk.mm.inference.media import VideoReader, VideoWriter
from tests.mm.inference.conftest import picture


def encoded(kind, size=(64, 48), **options):
    buffer = io.BytesIO()
    Image.fromarray(picture(size[1], size[0])[..., ::-1].copy()).save(buffer, kind, **options)
    return buffer.getvalue()


def test_pictures_are_read_as_opencv_does(tmp_path):
    path = tmp_path / 'x'  # the name says nothing
    for kind in ('JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF'):
        path.write_bytes(encoded(kind))
        assert np.array_equal(read_image(path), cv2.imread(str(path)))
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    path.write_bytes(encoded('JPEG', exif=exif))
    assert read_image(path).shape == (64, 48, 3)
    assert cv2.imwrite(str(tmp_path / 'deep.png'), np.full((8, 8), 65535, np.uint16))
    assert read_image(tmp_path / 'deep.png').tolist() == np.full((8, 8, 3), 255).tolist()


@pytest.mark.parametrize(('data', 'words'), [
    (None, 'does not exist'),
    (b'', 'is empty'),
    (b'just words, no picture', 'is no picture that OpenCV can read: it begins with'),
    (encoded('JPEG')[:-200], 'is damaged: .*truncated'),
    (encoded('PNG')[:-200], 'is damaged'),
    (encoded('PNG')[:60] + b'?' * 20 + encoded('PNG')[80:], 'is damaged'),
])
def test_what_is_no_picture_is_said(tmp_path, data, words):
    path = tmp_path / 'x.jpg'
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError, match=f"x.jpg' {words}"):
        read_image(path)


def test_limits(tmp_path):
    path = tmp_path / 'x.png'
    path.write_bytes(encoded('PNG'))
    assert read_image(path, ['PNG'], 64 * 48).shape == (48, 64, 3)
    with pytest.raises(InputError, match='has 64x48 pixels, more than the 0.003071 million'):
        read_image(path, ['PNG'], 64 * 48 - 1)
    with pytest.raises(InputError, match='is a picture in PNG format; it must be one of JPEG, WEBP'):
        read_image(path, ['JPEG', 'WEBP'])
    path.write_bytes(b'GIF, not really')
    with pytest.raises(InputError, match='is no picture: it begins with'):
        read_image(path, ['JPEG'])
    # A few bytes that would take 40 GB: what they say is believed before they are decoded.
    bomb = encoded('PNG', (1, 1)).replace((1).to_bytes(4) * 2, (200_000).to_bytes(4) + (70_000).to_bytes(4))
    header = bomb[12:29]
    import zlib
    path.write_bytes(bomb[:29] + zlib.crc32(header).to_bytes(4) + bomb[33:])
    with pytest.raises(InputError, match='has too many pixels'):
        read_image(path, ['PNG'], 25_000_000)


def test_videos_are_written_whole_and_read(tmp_path):
    path, frames = tmp_path / 'new' / 'x.mp4', [picture(48, 65, seed) for seed in range(5)]
    with VideoWriter(path, 12.5) as writer:
        for frame in frames:
            writer.write(frame)
        assert not path.exists()
    with VideoReader(path) as video:
        assert (video.count, video.rate) == (5, 12.5)
        for frame, expected in zip(video, frames, strict=True):
            assert np.abs(frame[:48, :64].astype(int) - expected[:, :64]).mean() < 10
    with pytest.raises(RuntimeError), VideoWriter(tmp_path / 'other.mp4', 10) as writer:
        writer.write(frames[0])
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ['new'] and [p.name for p in path.parent.iterdir()] == ['x.mp4']
    (tmp_path / 'y.mp4').write_bytes(b'no video')
    for name, words in (('y.mp4', 'is no video that OpenCV can read'), ('z.mp4', 'does not exist')):
        with pytest.raises(InputError, match=words):
            VideoReader(tmp_path / name)
