import os

import pytest
import torch

from mmreplk import InputError
from mmreplk.engine import find_resumable, is_whole


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
    monkeypatch.setattr('mmreplk.engine.resume.print_log', lambda message, **_: messages.append(message))
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
    (None, 'last_checkpoint is missing'), ('', "last_checkpoint names '', no file"),
    ('/nowhere/iter_3.pth', "last_checkpoint names '/nowhere/iter_3.pth', no file"),
])  # yapf: disable
def test_a_broken_pointer(work_dir, pointer, words, said):
    (work_dir / 'last_checkpoint').unlink()
    if pointer is not None:
        point_to(work_dir, pointer)
    assert find_resumable(str(work_dir)) == str(work_dir / 'iter_10.pth')
    assert words in said[0]


def test_nothing_to_resume_from(tmp_path, said):
    assert find_resumable(str(tmp_path)) is None
    assert find_resumable(str(tmp_path / 'none')) is None
    assert len(said) == 2 and 'training begins at its beginning' in said[0]


def test_nothing_whole_to_resume_from(work_dir):
    for path in work_dir.glob('*.pth'):
        damage(path, 'truncated')
    with pytest.raises(InputError, match=r'no checkpoint in .* is whole: iter_10.pth, iter_2.pth, iter_1.pth cannot'):
        find_resumable(str(work_dir))
