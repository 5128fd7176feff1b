import re
import subprocess
import sys
from pathlib import Path

from mmreplk.weights import PUBLISHED

ROOT = Path(__file__).parents[2]


def list_weights(*args):
    return subprocess.run([sys.executable, ROOT / 'tools/model_converters/list_weights.py', *args],
                          capture_output=True, text=True)  # yapf: disable


def test_all_are_listed():
    rows = [re.split('  +', line) for line in list_weights().stdout.splitlines()]
    assert [name for name, *_ in rows[1:]] == list(PUBLISHED)
    assert ['unireplknet-t_in1k', 'UniRepLKNet T', 'classifier', 'ImageNet-1K', '224', '83.2 % top-1',
            'Apache-2.0'] in rows  # yapf: disable


def test_some_with_their_addresses_or_a_sentence():
    found = PUBLISHED['unireplknet-a_in1k']
    line = f'{found.name} {found.url} {found.size} {found.sha256}\n'
    assert list_weights('unireplknet-a_in', '--addresses').stdout == line
    refused = list_weights('replnet')
    assert refused.returncode == 2
    assert "error: there are no published weights 'replnet', the nearest name is 'replknet-" in refused.stderr
