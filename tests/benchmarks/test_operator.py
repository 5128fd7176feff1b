import pytest

from mmreplk.benchmarks import operator


def test_benchmark_times_only_what_is_right():
    case = operator.Case(n=1, c=4, h=9, k=7)
    rivals = {name: operator.RIVALS[name] for name in ('mmreplk', 'torch', 'torch.fft')}
    rivals['wrong'] = lambda x, weight: operator._torch(x, weight) * 1.01
    rivals['other'] = lambda x, weight: x.view(1, 2, 3)
    rows = operator.benchmark(case, 'float32', 'cpu', rivals=rivals, rounds=3)
    timed = {(row['what'], row['rival']) for row in rows if 'what' in row}
    assert timed == {(w, r) for w in operator.PASSES for r in ('mmreplk', 'torch', 'torch.fft')}
    assert [row['error'] > 1e-3 for row in rows if row['rival'] == 'wrong'] == [True]
    assert ["shape '[1, 2, 3]' is invalid" in row['raised'] for row in rows if row['rival'] == 'other'] == [True]
    for row in rows:
        if 'what' in row:
            assert row['percentile20_ms'] <= row['median_ms'] <= row['percentile80_ms'] and len(row['raw_ms']) == 3
    # Rows 0 to 8 meet 4, 5, 6, 7, 7, 7, 6, 5, 4 taps of seven.
    assert case.useful_flop('grad_weight') == 2 * 4 * 51**2 == case.useful_flop('forward+backward') / 3


def test_a_strip_is_counted_and_computed_as_one():
    """Rows 0 to 8 meet 2, 3, 3, 3, 3, 3, 3, 3, 2 taps of three; columns as many of seven as above."""
    case = operator.Case(n=1, c=4, h=9, k=3, kw=7)
    assert case.useful_flop('forward') == 2 * 4 * 25 * 51 and case.least_values('forward') == 2 * 4 * 81 + 4 * 21
    rows = operator.benchmark(case, 'float32', 'cpu', ['forward'], rounds=2)
    assert {row['rival'] for row in rows if 'what' in row} == set(operator.RIVALS)
    assert all(row['kw'] == 7 for row in rows)


def test_a_gpu_that_is_lost_is_not_the_fault_of_a_rival(monkeypatch):
    """Else every further rival would fail, and its failure stand in the file as if it had been measured."""
    def lost(device):
        raise RuntimeError('an illegal memory access was encountered')

    def raises(x, weight):
        raise RuntimeError('it cannot do this')

    case = operator.Case(n=1, c=4, h=9, k=7)
    row, = operator.benchmark(case, 'float32', 'cpu', [], dict(other=raises))
    assert 'it cannot do this' in row['raised']
    monkeypatch.setattr(operator, 'synchronize', lost)
    with pytest.raises(RuntimeError, match='illegal memory access'):
        operator.benchmark(case, 'float32', 'cpu', [], dict(other=raises))
