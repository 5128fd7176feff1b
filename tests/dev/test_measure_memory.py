import gc

from measure_memory import evaluation_cycles

from tests.mm.benchmarks.small import small_config


def test_evaluating_again_and_again_leaves_no_objects():
    rows = evaluation_cycles(small_config(), (32, 32), 50)
    assert [row['cycle'] for row in rows] == [10, 20, 30, 40, 50]
    assert rows[-1]['objects'] - rows[1]['objects'] < 30, 'less than one object a cycle'
    gc.collect()
