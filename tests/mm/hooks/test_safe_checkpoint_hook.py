import pytest

from mmreplk.mm import AtomicLocalBackend
from mmreplk.weights import is_whole
from tests.mm.hooks.toy import Interrupted, make_runner


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


def test_what_a_killed_run_left_is_cleared_away(tmp_path):
    (tmp_path / 'iter_9.pthabc.part').write_text('half')
    (tmp_path / 'mine.part').write_text('not a checkpoint')
    make_runner(tmp_path).train()
    assert [path.name for path in tmp_path.glob('*.part')] == ['mine.part']
