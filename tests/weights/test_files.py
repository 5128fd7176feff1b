import errno
import io
import os
import pickle
import re
import zipfile
from argparse import Namespace

import numpy as np
import pytest
import torch

from mmreplk.weights import is_whole, read_checkpoint
from mmreplk.weights.files import find_damage
from tests.weights.hostile import Hostile


def written(path, content):
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    return path


def whole():
    buffer = io.BytesIO()
    torch.save(dict(state_dict=dict(w=torch.ones(1000))), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize('mmap', [False, True])
@pytest.mark.parametrize(('content', 'words'), [
    (b'', "x.pth' is empty$"),
    (b'\n<!DOCTYPE html><html><body>Sign in</body></html>', "x.pth' is a web page, not weights"),
    (b'version https://git-lfs.github.com/spec/v1\noid sha256:0', "x.pth' is a pointer of Git LFS"),
    (b'not a checkpoint', "x.pth' is not a checkpoint of PyTorch: it begins with b'not a checkpoint'$"),
    (whole()[:3000], r"x.pth' is damaged or cut short \(.*\)$"),
    (pickle.dumps(dict(w=1))[:-3], r"x.pth' is damaged or cut short \(.*\)$"),
    ([torch.ones(1)], "x.pth' must hold a dict of tensors, got list$"),
], ids=lambda value: None if isinstance(value, bytes) else str(value)[:20])
def test_what_cannot_be_read_is_one_sentence(tmp_path, content, words, mmap):
    with pytest.raises(ValueError, match=words) as caught:
        read_checkpoint(written(tmp_path / 'x.pth', content), mmap=mmap)
    assert '\n' not in str(caught.value)


def test_a_missing_file_and_what_is_none(tmp_path):
    with pytest.raises(ValueError, match="none.pth' does not exist"):
        read_checkpoint(tmp_path / 'none.pth')
    os.mkfifo(tmp_path / 'pipe')
    for path in (tmp_path, tmp_path / 'pipe', '/dev/zero'):
        with pytest.raises(ValueError, match='is not a file'):
            read_checkpoint(path)


@pytest.mark.parametrize('mmap', [False, True])
def test_what_the_checksums_contradict_is_not_read(tmp_path, mmap):
    content = bytearray(whole())
    content[content.index(torch.ones(2).numpy().tobytes()) + 40] ^= 1  # in the numbers of the tensor
    with pytest.raises(ValueError, match=r"x.pth' is damaged or cut short \(.*data/0 does not match its checksum\)$"):
        read_checkpoint(written(tmp_path / 'x.pth', bytes(content)), mmap=mmap)


@pytest.mark.skipif(not hasattr(torch.serialization, 'set_crc32_options'), reason='PyTorch always writes checksums')
def test_an_archive_without_checksums_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(dict(w=torch.ones(1000)), tmp_path / 'x.pth')
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_checkpoint(tmp_path / 'x.pth')['w'].sum() == 1000


def test_a_part_that_is_there_twice_is_damage(tmp_path):
    path = tmp_path / 'x.pth'
    path.write_bytes(whole())
    with pytest.warns(UserWarning, match='Duplicate name'), zipfile.ZipFile(path, 'a') as archive:
        name = archive.namelist()[0]
        archive.writestr(name, archive.read(name))
    with pytest.raises(ValueError, match=rf"x.pth' is damaged or cut short \(it holds {name} twice\)"):
        read_checkpoint(path)


def test_a_compressed_archive_is_read_unless_it_unpacks_a_thousandfold(tmp_path):
    with zipfile.ZipFile(io.BytesIO(whole())) as archive, \
            zipfile.ZipFile(tmp_path / 'x.pth', 'w', zipfile.ZIP_DEFLATED) as compressed:
        for name in archive.namelist():
            compressed.writestr(name, archive.read(name))
    assert read_checkpoint(tmp_path / 'x.pth', mmap=True)['state_dict']['w'].sum() == 1000
    with zipfile.ZipFile(tmp_path / 'x.pth', 'a', zipfile.ZIP_DEFLATED) as compressed:
        compressed.writestr('bomb', bytes(10**7))
    with pytest.raises(ValueError, match=r'would be unpacked to 100\d+ bytes'):
        read_checkpoint(tmp_path / 'x.pth')


@pytest.mark.parametrize('old', [False, True])
def test_nothing_is_executed_unless_trusted(tmp_path, old):
    path, trace = tmp_path / 'x.pth', tmp_path / 'executed'
    torch.save(dict(w=torch.ones(1), payload=Hostile(trace)), path, _use_new_zipfile_serialization=not old)
    with pytest.raises(ValueError, match=r'(_?io|builtins)\S*open, which is not a plain value.*--trust-checkpoint'):
        read_checkpoint(path, mmap=True)
    assert not trace.exists()
    assert torch.equal(read_checkpoint(path, trusted=True)['w'], torch.ones(1)) and trace.exists()


def test_old_and_official_files_need_no_trust(tmp_path):
    saved = dict(model=dict(w=torch.ones(2)), args=Namespace(lr=1e-3, layers=[2, 2]), loss=np.float64(0.5))
    path = tmp_path / 'x.pth'
    for zipped in (True, False):
        torch.save(saved, path, _use_new_zipfile_serialization=zipped)
        loaded = read_checkpoint(path, mmap=True)
        assert loaded['args'] == saved['args'] and torch.equal(loaded['model']['w'], torch.ones(2))
    content = path.read_bytes()
    # As the other generation of NumPy names it: the length of the name is not part of the old format.
    content = re.sub(rb'numpy\._?core\.multiarray', lambda m: {b'numpy._core.multiarray': b'numpy.core.multiarray',
                     b'numpy.core.multiarray': b'numpy._core.multiarray'}[m[0]], content)
    assert content != path.read_bytes()
    assert read_checkpoint(written(path, content))['loss'] == 0.5


@pytest.mark.parametrize('value, trouble', [
    (1.5, "its 'a.weight' must be a tensor, got float"),
    (None, "its 'a.weight' must be a tensor, got NoneType"),
    (torch.tensor([1., float('nan')]), "its 'state_dict.a.weight' has numbers that are not finite"),
    (torch.ones(2, dtype=torch.int8), "its 'state_dict.a.weight' has the dtype torch.int8"),
    (torch.ones(2, device='meta'), "its 'state_dict.a.weight' is not a plain tensor with numbers"),
])
def test_weights_that_are_no_weights_are_named(tmp_path, value, trouble):
    torch.save(dict(state_dict={'a.weight': value, 'a._extra_state': 'any'}), tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=f"x.pth' cannot be used: {trouble}"):
        read_checkpoint(tmp_path / 'x.pth')


@pytest.mark.parametrize('number', [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_disk_that_fails_is_no_damage(tmp_path, monkeypatch, number):
    path = written(tmp_path / 'x.pth', whole())

    def fail(self, name=None):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as ill:
        ill.setattr(zipfile.ZipFile, 'testzip', fail)
        for look in (is_whole, find_damage):
            with pytest.raises(OSError, match=re.escape(os.strerror(number))):
                look(path)
        with pytest.raises(ValueError, match=f"x.pth' cannot be read: {re.escape(os.strerror(number))}"):
            read_checkpoint(path)
    assert is_whole(path), 'what passed was not kept'


def test_a_file_is_scanned_again_only_when_it_has_changed(tmp_path, monkeypatch):
    path, scans = written(tmp_path / 'x.pth', whole()), []
    scan = zipfile.ZipFile.testzip
    monkeypatch.setattr(zipfile.ZipFile, 'testzip', lambda self: scans.append(1) or scan(self))
    assert is_whole(path) and read_checkpoint(path) and is_whole(path) and len(scans) == 1
    content, time = bytearray(path.read_bytes()), path.stat().st_mtime
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, (time, time))
    assert not is_whole(path) and len(scans) == 2


def test_missing_files_are_not_whole(tmp_path):
    (tmp_path / 'loop').symlink_to(tmp_path / 'loop')
    for name in ('none', 'loop', 'none/deeper', 'x' * 5000):
        assert not is_whole(tmp_path / name)


def test_memory_that_is_full_is_no_damage(tmp_path, monkeypatch):
    path = written(tmp_path / 'x.pth', whole())

    def fail(*args, **kwargs):
        raise MemoryError

    for owner, name in ((zipfile.ZipFile, 'testzip'), (torch, 'load')):
        with monkeypatch.context() as full:
            full.setattr(owner, name, fail)
            with pytest.raises(MemoryError):
                read_checkpoint(path)
    assert is_whole(path) and read_checkpoint(path)
