import json

from tests.tools.conftest import TINY
from tests.tools.processes import tool


def test_a_few_cycles_are_resumed_and_judged(tmp_path, data_options):
    result = tool(
        'dev/soak.py', TINY, '--minutes', 0, '--iterations', 2, '--work-dir', tmp_path / 'work', '--json',
        tmp_path / 'soak.json', '--plot', tmp_path / 'soak.png', '--cfg-options', *data_options,
        'train_dataloader.batch_size=2', 'model.backbone.arch.channels=(8,16,16,16)',
        'model.decode_head.in_channels=(8,16,16,16)', 'model.decode_head.channels=16')
    assert result.returncode in (0, 1), result.stdout[-2000:] + result.stderr[-2000:]
    report = json.loads((tmp_path / 'soak.json').read_text())
    assert [sample['iteration'] for sample in report['samples']] == [2, 4, 6]
    is_flat = {name: one['growth'] <= one['limit'] for name, one in report['verdict'].items()}
    assert is_flat['files'] and is_flat['threads'] and is_flat['children'], report
    assert result.returncode == (0 if all(is_flat.values()) else 1)
    assert result.stdout.count('GROWS') == sum(not flat for flat in is_flat.values())
    assert (tmp_path / 'soak.png').stat().st_size > 1000
