import errno
import fcntl
import io
import json
import os
import threading
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from mmreplk import InputError
from mmreplk.io import markdown_table, read_image, write_json, write_whole


@pytest.mark.parametrize('failure', [OSError(errno.ENOSPC, 'No space left on device'), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize('moment', ['fsync', 'replace'])
def test_an_interrupted_write_changes_nothing(tmp_path, monkeypatch, moment, failure):
    path = tmp_path / 'iter_1.pth'
    write_whole(b'whole', path)

    def fail(*_):
        raise failure

    monkeypatch.setattr(os, moment, fail)
    with pytest.raises(type(failure)):
        write_whole(b'half of a newer one', path)
    assert path.read_bytes() == b'whole' and os.listdir(tmp_path) == ['iter_1.pth']


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole(b'', tmp_path / 'new/x')
    finally:
        os.umask(before)
    assert (tmp_path / 'new/x').stat().st_mode & 0o777 == 0o640


def test_threads_that_write_change_nothing_for_others(tmp_path):
    """Each thread's file is whole, and what others create meanwhile has the permissions that it should."""
    before, modes, is_over = os.umask(0o027), set(), threading.Event()

    def create():
        number = 0
        while not is_over.is_set():
            number += 1
            (tmp_path / f'other{number}').touch()
            modes.add((tmp_path / f'other{number}').stat().st_mode & 0o777)

    def write(number):
        for i in range(20):
            write_whole(bytes([number]) * 1000, tmp_path / f'own{i % 3}')

    threads = [threading.Thread(target=write, args=(number, )) for number in range(4)]
    other = threading.Thread(target=create)
    try:
        for thread in (other, *threads):
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        is_over.set()
        other.join()
        os.umask(before)
    assert modes == {0o640}
    contents = [(tmp_path / f'own{i}').read_bytes() for i in range(3)]
    assert all(len(content) == 1000 and len({*content}) == 1 for content in contents)
    assert not list(tmp_path.glob('*.part'))


@pytest.mark.parametrize('moment', ['created', 'cleared'])
def test_a_file_that_is_cleared_away_before_it_is_locked_is_begun_again(tmp_path, monkeypatch, moment):
    """By another run, which has locked the file before, or is even done with it."""
    lock, others = fcntl.flock, []

    def flock(descriptor, operation):
        if not others:
            part = next(tmp_path.glob('*.part'))
            others.append(os.open(part, os.O_RDONLY))
            if moment == 'created':
                lock(others[0], fcntl.LOCK_EX)
            else:
                part.unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, 'flock', flock)
    write_whole(b'whole', tmp_path / 'x')
    os.close(others[0])
    assert os.listdir(tmp_path) == ['x'] and (tmp_path / 'x').read_bytes() == b'whole'


def test_figures_as_json_and_as_a_table(tmp_path):
    write_json(dict(a=[1, 2.5]), tmp_path / 'new/x.json', indent=1)
    text = (tmp_path / 'new/x.json').read_text()
    assert json.loads(text) == dict(a=[1, 2.5]) and text.endswith('}\n')
    assert markdown_table(['a', 'b'], [[1, 'x'], [None, '']]) == '| a | b |\n| --- | --- |\n| 1 | x |\n| None |  |\n'


def encoded(kind, size=(64, 48), **options):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(256, size=(size[1] // 8 + 1, size[0] // 8 + 1, 3), dtype=np.uint8)
    Image.fromarray(cv2.resize(pixels, size)).save(buffer, kind, **options)
    return buffer.getvalue()


def test_pictures_are_read_as_opencv_does(tmp_path):
    path = tmp_path / 'x'  # the name says nothing
    for kind in ('JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF'):
        path.write_bytes(encoded(kind))
        assert np.array_equal(read_image(path), cv2.imread(str(path)))
        assert np.array_equal(read_image(path, grey=True), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    path.write_bytes(encoded('JPEG', exif=exif))
    assert read_image(path).shape == (64, 48, 3)
    assert cv2.imwrite(str(tmp_path / 'deep.png'), np.full((8, 8), 65535, np.uint16))
    assert read_image(tmp_path / 'deep.png').tolist() == np.full((8, 8, 3), 255).tolist()


@pytest.mark.parametrize(('data', 'words'), [
    (None, 'does not exist'),
    (b'', 'is empty'),
    (b'just words, no picture', 'is not a picture that OpenCV can read: it begins with'),
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


def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'x.jpg')
    with pytest.raises(InputError, match="x.jpg' is not a file: it is a named pipe, a device or a socket"):
        read_image(tmp_path / 'x.jpg')


def test_limits(tmp_path):
    path = tmp_path / 'x.png'
    path.write_bytes(encoded('PNG'))
    assert read_image(path, ['PNG'], 64 * 48).shape == (48, 64, 3)
    with pytest.raises(InputError, match='has 64x48 pixels, more than the 0.003071 million'):
        read_image(path, ['PNG'], 64 * 48 - 1)
    with pytest.raises(InputError, match='is a picture in PNG format; it must be one of JPEG, WEBP'):
        read_image(path, ['JPEG', 'WEBP'])
    path.write_bytes(b'GIF, not really')
    with pytest.raises(InputError, match='is not a picture: it begins with'):
        read_image(path, ['JPEG'])
    # A few bytes that would take 40 GB: what they say is believed before they are decoded.
    bomb = encoded('PNG', (1, 1)).replace((1).to_bytes(4) * 2, (200_000).to_bytes(4) + (70_000).to_bytes(4))
    header = bomb[12:29]
    path.write_bytes(bomb[:29] + zlib.crc32(header).to_bytes(4) + bomb[33:])
    with pytest.raises(InputError, match='has too many pixels'):
        read_image(path, ['PNG'], 25_000_000)
