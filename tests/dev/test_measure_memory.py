import gc

from measure_memory import evaluation_cycles

from mmreplk.mm.config import load_config
from tests.mm.benchmarks.test_memory import SMALL


def test_evaluating_again_and_again_leaves_no_objects():
    cfg = load_config('configs/upernet_replknet_tiny_camvid.py', dict(SMALL))
    rows = evaluation_cycles(cfg, (32, 32), 50)
    assert [row['cycle'] for row in rows] == [10, 20, 30, 40, 50]
    assert rows[-1]['objects'] - rows[1]['objects'] < 30, 'less than one object a cycle'
    gc.collect()
