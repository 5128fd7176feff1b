"""Two processes that are not given the same by their disks."""

import errno
import zipfile

import pytest
from torch import distributed

from mmreplk.mm.checkpoints import find_resumable
from mmreplk.mm.config import prepare_training
from mmreplk.mm.processes import join_processes
from mmreplk.mm.runner import build_runner
from mmreplk.weights import files
from tests.mm.hooks.toy import toy_config
from tests.processes import in_two_processes


@pytest.fixture
def work_dir(tmp_path):
    build_runner(toy_config(tmp_path, end=4)).train()
    return str(tmp_path)


class IllDisk(zipfile.ZipFile):
    """Cannot read the newest checkpoint just now."""

    def __init__(self, path, *args):
        if 'iter_4' in str(path):
            raise OSError(errno.EIO, 'Input/output error', str(path))
        super().__init__(path, *args)


def resume(work_dir, ill_rank):
    cfg = toy_config(work_dir)
    cfg.launcher = 'pytorch'
    join_processes(cfg)
    if distributed.get_rank() == ill_rank:
        zipfile.ZipFile = IllDisk
        files._find_damage.cache_clear()  # what was found out before this process was forked
    prepare_training(cfg, resume='auto')
    return cfg.load_from


def test_the_first_process_decides_which_checkpoint_it_is(work_dir):
    expected = find_resumable(work_dir)
    assert expected.endswith('iter_4.pth')
    assert in_two_processes(resume, work_dir, 1) == [expected, expected]


def test_a_disk_that_cannot_be_read_damages_no_checkpoint(work_dir):
    for error in in_two_processes(resume, work_dir, 0):
        assert isinstance(error, OSError) and error.errno == errno.EIO


def go_on(work_dir, names):
    cfg = toy_config(work_dir, end=4)
    cfg.launcher = 'pytorch'
    join_processes(cfg)
    cfg.update(resume=True, load_from=f'{work_dir}/{names[distributed.get_rank()]}')
    build_runner(cfg).train()


def test_processes_at_different_iterations_do_not_train(work_dir):
    for error in in_two_processes(go_on, work_dir, ('iter_4.pth', 'iter_2.pth')):
        assert 'they are at iterations [4, 2]' in str(error), error
