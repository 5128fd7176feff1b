import json

import pytest

from mmreplk import InputError
from mmreplk.mm.reports import read_history

LOG = """2026/01/01 10:00:00 - mmengine - INFO -
------------------------------------------------------------
System environment:
    Python: 3.11.{start}
  - Build settings: CXX_COMPILER=/opt/other/c++
------------------------------------------------------------
2026/01/01 10:0{start}:30 - mmengine - INFO - done
"""


def write_start(work_dir, start, records, tail=''):
    folder = work_dir / f'2026010{start}_100000'
    (folder / 'vis_data').mkdir(parents=True)
    (folder / 'vis_data/scalars.json').write_text('\n'.join(map(json.dumps, records)) + tail)
    (folder / f'{folder.name}.log').write_text(LOG.format(start=start))
    (work_dir / 'my_config.py').write_text('a = 1')


def train(step, loss):
    return dict(loss=loss, lr=0.1, time=1.0, data_time=0.1, iter=step, step=step)


def test_a_resumed_run_is_one_curve(tmp_path):
    first = [train(10, 5.), train(20, 4.), dict(mIoU=10., step=20), train(30, 9.)]
    write_start(tmp_path, 1, first, tail='\n{"loss": 8')
    write_start(tmp_path, 2, [train(21, 3.), train(30, 2.), dict(mIoU=20., step=1)])
    history = read_history(tmp_path)
    assert history.training['loss'] == [(10, 5.), (20, 4.), (21, 3.), (30, 2.)]
    assert history.validation['mIoU'] == [(20, 10.), (30, 20.)]
    assert (history.starts, history.seconds) == (2, 90 + 150) and history.config.name == 'my_config.py'
    assert history.environment.strip() == 'Python: 3.11.2'


def test_a_test_in_the_same_folder_is_no_start(tmp_path):
    write_start(tmp_path, 1, [train(10, 5.)])
    write_start(tmp_path, 2, [dict(mIoU=20., step=0)])
    assert read_history(tmp_path).starts == 1 and not read_history(tmp_path).validation


def test_a_folder_without_training(tmp_path):
    with pytest.raises(InputError, match='holds no training run'):
        read_history(tmp_path / 'none')
