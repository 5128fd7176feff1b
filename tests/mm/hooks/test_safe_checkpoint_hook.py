import multiprocessing
import os

import pytest
import torch

from mmreplk.io import write_whole
from mmreplk.mm import AtomicLocalBackend
from mmreplk.mm.checkpoints import find_resumable
from mmreplk.weights import is_whole
from tests.mm.hooks.toy import Interrupted, Noisy, make_runner


def names(folder):
    return sorted(path.name for path in folder.glob('*.pth'))


def test_what_is_kept_in_the_end(tmp_path):
    make_runner(tmp_path, end=8, checkpoint=dict(save_best='score', rule='greater')).train()
    assert names(tmp_path) == ['best_score_iter_8.pth', 'iter_6.pth', 'iter_8.pth']


@pytest.mark.parametrize(('interrupted', 'kept'), [
    ('iter_6', ['best_score_iter_4.pth', 'iter_2.pth', 'iter_4.pth']),
    ('best_score_iter_6', ['best_score_iter_4.pth', 'iter_4.pth', 'iter_6.pth']),
])
def test_nothing_is_removed_before_the_next_is_whole(tmp_path, monkeypatch, interrupted, kept):
    put = AtomicLocalBackend.put

    def killed_put(self, obj, filepath):
        if interrupted in str(filepath).rsplit('/', 1)[-1].split('.')[0].split('/')[-1:]:
            raise Interrupted
        put(self, obj, filepath)

    monkeypatch.setattr(AtomicLocalBackend, 'put', killed_put)
    with pytest.raises(Interrupted):
        make_runner(tmp_path, checkpoint=dict(save_best='score', rule='greater')).train()
    assert names(tmp_path) == kept and all(is_whole(tmp_path / name) for name in kept)


def test_a_name_that_is_used_again_is_not_removed(tmp_path):
    make_runner(tmp_path, checkpoint=dict(filename_tmpl='latest.pth', max_keep_ckpts=1)).train()
    assert names(tmp_path) == ['latest.pth']


@pytest.mark.parametrize('written', ['half', ''])
def test_what_a_killed_run_left_is_cleared_away(tmp_path, written):
    (tmp_path / 'iter_9.pthabc.part').write_text(written)
    (tmp_path / 'mine.part').write_text('not a checkpoint')
    make_runner(tmp_path).train()
    assert [path.name for path in tmp_path.glob('*.part')] == ['mine.part']


BEST = dict(save_best='score', rule='greater')


@pytest.mark.parametrize('moment', ['iter_6.pth', 'best_score_iter_6.pth'])
def test_what_a_killed_run_had_still_to_remove_is_removed_when_it_goes_on(tmp_path, monkeypatch, moment):
    """Killed between the saving of a checkpoint and the removal of those that it outdates."""
    put, saved = AtomicLocalBackend.put, []

    def killed_after(self, obj, filepath):
        put(self, obj, filepath)
        saved.append(os.path.basename(filepath))
        if moment in saved and saved[-1] == 'iter_6.pth':
            raise Interrupted

    with monkeypatch.context() as killing:
        killing.setattr(AtomicLocalBackend, 'put', killed_after)
        with pytest.raises(Interrupted):
            make_runner(tmp_path, end=8, checkpoint=BEST).train()
    assert {'iter_2.pth', 'best_score_iter_4.pth'} & {*names(tmp_path)}
    make_runner(tmp_path, end=8, checkpoint=BEST, resume=True, load_from=find_resumable(str(tmp_path))).train()
    assert names(tmp_path) == ['best_score_iter_8.pth', 'iter_6.pth', 'iter_8.pth']


def test_a_checkpoint_has_nothing_removed_elsewhere(tmp_path, capfd):
    make_runner(tmp_path / 'run', end=8, checkpoint=BEST).train()
    path, mine = tmp_path / 'run/iter_6.pth', tmp_path / 'mine'
    mine.mkdir()
    for name in ('iter_1.pth', 'thesis.txt'):
        (mine / name).write_text('mine')
    (tmp_path / 'run/notes.pth').write_text('mine')
    saved = torch.load(path, weights_only=False)
    saved['message_hub']['runtime_info'].update(
        best_ckpt=str(mine), keep_ckpt_ids=['../../mine/thesis.txt/../iter_1', '/../../mine/iter_1', 1, 2, 3])
    saved['meta']['outdated'] = ['../mine/iter_1.pth', 'notes.pth', str(mine / 'thesis.txt'), 5]
    torch.save(saved, path)
    make_runner(tmp_path / 'run', end=8, checkpoint=BEST, resume=True, load_from=str(path)).train()
    assert sorted(os.listdir(mine)) == ['iter_1.pth', 'thesis.txt'] and (tmp_path / 'run/notes.pth').exists()
    assert f'{mine}, which the checkpoint calls outdated, is not in' in capfd.readouterr().out


def write_slowly(path, begun, go_on):
    fsync = os.fsync

    def slow(descriptor):
        begun.set()
        go_on.wait(60)
        fsync(descriptor)

    os.fsync = slow
    write_whole(b'whole', path)


def test_what_another_run_is_writing_stays(tmp_path):
    fork = multiprocessing.get_context('fork')
    begun, go_on = fork.Event(), fork.Event()
    other = fork.Process(target=write_slowly, args=(tmp_path / 'iter_99.pth', begun, go_on))
    other.start()
    assert begun.wait(60)
    try:
        make_runner(tmp_path, end=2).train()
        assert len(list(tmp_path.glob('iter_99.pth*.part'))) == 1
    finally:
        go_on.set()
        other.join()
    assert (tmp_path / 'iter_99.pth').read_bytes() == b'whole' and not list(tmp_path.glob('*.part'))


@pytest.mark.parametrize('wrapped', [False, True])
def test_categories_keep_their_numbers(tmp_path, monkeypatch, wrapped):
    monkeypatch.setattr(Noisy, 'metainfo', dict(classes=('cat', 'dog')), raising=False)
    monkeypatch.setattr(Noisy, 'cat_ids', [3, 7], raising=False)
    runner = make_runner(tmp_path, end=2)
    if wrapped:
        runner.train_dataloader.dataset.__dict__.update(datasets=[Noisy()], cat_ids=None)
    runner.train()
    meta = torch.load(tmp_path / 'iter_2.pth', weights_only=False)['meta']
    assert meta['dataset_meta'] == dict(classes=('cat', 'dog')) and meta['category_ids'] == [3, 7]


def test_data_without_categories(tmp_path, monkeypatch):
    monkeypatch.setattr(Noisy, 'metainfo', dict(classes=('cat', 'dog')), raising=False)
    make_runner(tmp_path, end=2).train()
    meta = torch.load(tmp_path / 'iter_2.pth', weights_only=False)['meta']
    assert meta['dataset_meta'] == dict(classes=('cat', 'dog')) and 'category_ids' not in meta


@pytest.mark.parametrize('changes', [False, True])
def test_a_resumed_run_is_told_of_other_data_only_if_they_are(tmp_path, monkeypatch, changes):
    monkeypatch.setattr(Noisy, 'metainfo', dict(classes=('cat', 'dog')), raising=False)
    monkeypatch.setattr(Noisy, 'cat_ids', [3, 7], raising=False)
    make_runner(tmp_path, end=2).train()
    if changes:
        monkeypatch.setattr(Noisy, 'metainfo', dict(classes=('dog', 'cat')))
    runner, told = make_runner(tmp_path, resume=True, load_from=find_resumable(str(tmp_path))), []
    monkeypatch.setattr(runner.logger, 'warning', lambda message, *_: told.append(message))
    runner.train()
    assert any('dataset metainfo from the resumed checkpoint is different' in message for message in told) is changes
