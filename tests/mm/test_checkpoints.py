import os
import pickle
import shutil
from argparse import Namespace

import pytest
import torch
from mmengine.fileio import join_path
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, save_checkpoint

from mmreplk import InputError
from mmreplk.mm.checkpoints import AtomicLocalBackend, find_resumable, last_checkpoint
from mmreplk.mm.trust import allow_pickles
from mmreplk.weights import is_whole, read_checkpoint
from tests.weights.hostile import Hostile

ARGS = dict(backend='mmreplk.atomic_local')


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


def test_text_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    backend, path = AtomicLocalBackend(), tmp_path / 'new/x.json'
    backend.put_text('straße', path)
    assert path.read_text(encoding='utf-8') == 'straße'

    def fail(*_):
        raise OSError

    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(OSError):
        backend.put_text('half', path)
    assert path.read_text(encoding='utf-8') == 'straße'


class Reduced:
    """Pickles as a call of ``function``, and the setting of ``state`` where there is one."""

    def __init__(self, function, arguments, *state):
        self.reduced = (function, arguments, *state)

    def __reduce__(self):
        return self.reduced


def test_attributes_do_not_lead_to_eval(tmp_path):
    path, trace = tmp_path / 'x.pth', tmp_path / 'executed'
    # Every step uses types that MMEngine's checkpoints hold: from a method to its builtins, to eval, to a call of it.
    builtins = Reduced(getattr, (Reduced(getattr, (HistoryBuffer, '__init__')), '__builtins__'))
    evaluate = Reduced(getattr, (Reduced(Namespace, (), builtins), 'eval'))
    holder = Reduced(Namespace, (), dict(victim=Reduced(Namespace, (), dict(__setstate__=evaluate))))
    call = Reduced(getattr, (holder, 'victim'), f'open({str(trace)!r}, "w")')
    torch.save(dict(payload=call), path)
    with pytest.raises(ValueError, match='holds builtins.getattr, which is not a plain value'):
        read_checkpoint(path)
    assert not trace.exists()
    read_checkpoint(path, trusted=True)
    assert trace.exists()


def test_every_reader_of_the_process_is_restricted(tmp_path, monkeypatch):
    for name in ('TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'):
        monkeypatch.setenv(name, '0')
    path, trace = tmp_path / 'x.pth', tmp_path / 'executed'
    torch.save(dict(payload=Hostile(trace)), path)
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    (tmp_path / 'checkpoints').mkdir()
    shutil.copy(path, tmp_path / 'checkpoints')
    allow_pickles(False)
    for source in (str(path), 'https://example.org/x.pth'):
        with pytest.raises(pickle.UnpicklingError):
            CheckpointLoader.load_checkpoint(source)
    assert not trace.exists()
    allow_pickles(True)
    CheckpointLoader.load_checkpoint(str(path))
    assert trace.exists()


@pytest.fixture
def work_dir(tmp_path):
    """Three checkpoints, the last of which ``last_checkpoint`` names."""
    for i in (1, 2, 10):
        torch.save(dict(weights=torch.randn(1000)), tmp_path / f'iter_{i}.pth')
        os.utime(tmp_path / f'iter_{i}.pth', (i, i))
    point_to(tmp_path, tmp_path / 'iter_10.pth')
    return tmp_path


@pytest.fixture
def said(monkeypatch):
    """What is logged."""
    messages = []
    monkeypatch.setattr('mmreplk.mm.checkpoints.print_log', lambda message, **_: messages.append(message))
    return messages


def point_to(work_dir, name):
    (work_dir / 'last_checkpoint').write_text(str(name))


def damage(path, how):
    time = path.stat().st_mtime
    content = bytearray(path.read_bytes())
    if how == 'flipped':
        content[len(content) // 2] ^= 1
    path.write_bytes(content[:len(content) // 2] if how == 'truncated' else b'' if how == 'empty' else content)
    os.utime(path, (time, time))


def test_the_one_that_is_named(work_dir, said):
    point_to(work_dir, work_dir / 'iter_2.pth')
    assert find_resumable(str(work_dir)) == str(work_dir / 'iter_2.pth') and not said


@pytest.mark.parametrize('how', ['truncated', 'flipped', 'empty'])
def test_the_last_whole_one(work_dir, how, said):
    damage(work_dir / 'iter_10.pth', how)
    assert not is_whole(work_dir / 'iter_10.pth') and is_whole(work_dir / 'iter_2.pth')
    assert find_resumable(str(work_dir)) == str(work_dir / 'iter_2.pth')
    assert 'iter_10.pth is damaged: resuming from' in said[0]


@pytest.mark.parametrize(('pointer', 'words'), [
    (None, 'last_checkpoint is missing'), ('', "last_checkpoint names '', which is not a file"),
    ('/nowhere/iter_3.pth', "last_checkpoint names '/nowhere/iter_3.pth', which is not a file"),
])
def test_a_broken_pointer(work_dir, pointer, words, said):
    (work_dir / 'last_checkpoint').unlink()
    if pointer is not None:
        point_to(work_dir, pointer)
    assert find_resumable(str(work_dir)) == str(work_dir / 'iter_10.pth')
    assert words in said[0]


def test_nothing_to_resume_from(tmp_path, said):
    assert find_resumable(str(tmp_path)) is None
    assert find_resumable(str(tmp_path / 'none')) is None
    assert len(said) == 2 and 'training starts from the beginning' in said[0]


def test_nothing_whole_to_resume_from(work_dir):
    for path in work_dir.glob('*.pth'):
        damage(path, 'truncated')
    with pytest.raises(InputError, match=r'no checkpoint in .* is whole: iter_10.pth, iter_2.pth, iter_1.pth cannot'):
        find_resumable(str(work_dir))


def test_checkpoints_that_are_saved_elsewhere(work_dir, said):
    elsewhere = work_dir / 'elsewhere' / work_dir.name
    elsewhere.mkdir(parents=True)
    for path in work_dir.glob('*.pth'):
        path.rename(elsewhere / path.name)
    assert find_resumable(str(work_dir), str(work_dir / 'elsewhere')) == str(elsewhere / 'iter_10.pth')


def test_the_checkpoint_that_was_saved_last(tmp_path):
    with pytest.raises(InputError, match=f'no training has left a checkpoint in .{tmp_path}.: train first, or name'):
        last_checkpoint(tmp_path)
    (tmp_path / 'last_checkpoint').write_text(f'{tmp_path}/iter_4.pth\n')
    assert last_checkpoint(tmp_path) == f'{tmp_path}/iter_4.pth'
