import re

import pytest

from tests.tools.processes import tool

ARGUMENTS = {
    'dist_train.sh': 'CONFIG',
    'dist_test.sh': 'CONFIG CHECKPOINT',
    'slurm_train.sh': 'PARTITION JOB_NAME CONFIG',
}


@pytest.mark.parametrize('name', ARGUMENTS)
def test_what_is_missing_is_said_with_the_usage(name):
    words = ARGUMENTS[name].split()
    for given in ([], words[:1], words):
        result = tool(name, *given)
        *usage, last = result.stderr.splitlines()
        assert result.returncode == 2 and last == f'error: {len(given)} of {len(words) + 1} arguments are given'
        assert re.match(rf'Usage: tools/{name} {ARGUMENTS[name]} GPUS ', usage[0]) and 'set -e' not in result.stderr
    result = tool(name, *words, '--amp')
    assert result.returncode == 2 and result.stderr.endswith("error: GPUS must be a number, got '--amp'\n")
