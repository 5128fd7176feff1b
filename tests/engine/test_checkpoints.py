import errno
import os

import pytest
import torch
from mmengine.fileio import get_file_backend, join_path
from mmengine.logging import HistoryBuffer
from mmengine.runner import save_checkpoint

from mmreplk import AtomicLocalBackend
from mmreplk.engine import read_checkpoint

ARGS = dict(backend='mmreplk.atomic_local')


@pytest.mark.compat
def test_a_checkpoint_comes_back_safely(tmp_path):
    path = join_path(str(tmp_path / 'new'), 'iter_1.pth', backend_args=ARGS)
    history = HistoryBuffer()
    history.update(0.5)
    saved = dict(state_dict=dict(w=torch.ones(3)), message_hub=dict(loss=history), meta=dict(iter=1))
    save_checkpoint(saved, path, backend_args=ARGS)
    loaded = read_checkpoint(path)
    assert torch.equal(loaded['state_dict']['w'], torch.ones(3))
    assert loaded['message_hub']['loss'].current() == 0.5
    assert os.listdir(tmp_path / 'new') == ['iter_1.pth']


@pytest.mark.parametrize('failure', [OSError(errno.ENOSPC, 'No space left on device'), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize('moment', ['fsync', 'replace'])
def test_an_interrupted_write_changes_nothing(tmp_path, monkeypatch, moment, failure):
    backend, path = get_file_backend(backend_args=ARGS), tmp_path / 'iter_1.pth'
    assert isinstance(backend, AtomicLocalBackend)
    backend.put(b'whole', path)

    def fail(*_):
        raise failure

    monkeypatch.setattr(os, moment, fail)
    with pytest.raises(type(failure)):
        backend.put(b'half of a newer one', path)
    assert path.read_bytes() == b'whole' and os.listdir(tmp_path) == ['iter_1.pth']


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        AtomicLocalBackend().put(b'', tmp_path / 'x')
    finally:
        os.umask(before)
    assert (tmp_path / 'x').stat().st_mode & 0o777 == 0o640
