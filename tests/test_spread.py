import itertools

import pytest

from mmreplk.spread import evenly_spread


@pytest.mark.parametrize(('count', 'most', 'expected'), [
    (0, 5, []), (1, 5, [0]), (9, 1, [0]), (9, 2, [0, 8]), (9, 3, [0, 4, 8]), (4, 9, [0, 1, 2, 3])])
def test_first_last_and_what_is_between(count, most, expected):
    assert evenly_spread(range(count), most) == expected


def test_none_is_taken_twice_and_no_gap_is_wide():
    for count in range(2, 60):
        for most in range(2, count + 1):
            chosen = evenly_spread(range(count), most)
            gaps = [after - before for before, after in itertools.pairwise(chosen)]
            assert len(chosen) == most and chosen[-1] == count - 1 and 1 <= min(gaps) <= max(gaps) <= min(gaps) + 1
