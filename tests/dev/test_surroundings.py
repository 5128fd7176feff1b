"""Figures of runs on the mini surroundings: of a network that was not trained, which is to be found out."""

import json

import cv2
import torch
from mmengine.registry import MODELS, init_default_scope

from mmreplk.mm.config import load_config
from mmreplk.mm.data import make_mini_surroundings
from tests.tools.processes import ROOT, tool


def run_of(folder, data, config, seed):
    """Writes what compare.py leaves of a training."""
    cfg = load_config(str(ROOT / f'configs/kernel_sizes/{config}.py'), dict(data_root=str(data)))
    cfg.model.data_preprocessor.size = (96, 96)
    init_default_scope(cfg.default_scope)
    work_dir = folder / config / f'seed{seed}'
    work_dir.mkdir(parents=True)
    work_dir.with_suffix('.py').write_text(cfg.pretty_text)
    torch.manual_seed(seed)
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), work_dir / 'iter_1.pth')
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'iter_1.pth'))
    work_dir.with_suffix('.json').write_text('{}')


def test_runs_are_measured_once_tabulated_and_drawn(tmp_path):
    data = make_mini_surroundings(tmp_path / 'data', num_train=1, num_val=4, size=96)
    for config, seed in (('surroundings_k3', 0), ('surroundings_k3', 1), ('surroundings_k31_alone', 0)):
        run_of(tmp_path / 'runs', data, config, seed)
    run_of(tmp_path / 'runs', data, 'surroundings_k7', 0)
    (tmp_path / 'runs/surroundings_k7/seed0.json').unlink()  # as of a run that is not finished
    figures, plots = tmp_path / 'figures.json', [tmp_path / 'sizes.png', tmp_path / 'bars.png']
    call = ('dev/surroundings.py', tmp_path / 'runs', '--json', figures, '--sizes', plots[0], '--bars', plots[1])
    first = tool(*call)
    assert first.returncode == 0, first.stdout + first.stderr
    rows = json.loads(figures.read_text())['results']
    assert [(row['config'], row['seed'], row['kernels']) for row in rows] == [
        ('surroundings_k3', 0, [3, 3]), ('surroundings_k3', 1, [3, 3]), ('surroundings_k31_alone', 0, [31])]
    for row in rows:
        assert 0 <= row['told_by_surroundings'] < 25 and 0 <= row['others'] < 25, 'nothing was learnt'
        assert len(row['right_by_distance']) == 7 and all(not share > 100 for share in row['right_by_distance'])
    assert rows[0]['seen_pixels'][1] < 60 < rows[2]['seen_pixels'][1], 'of 96'
    assert '\n| surroundings_k3 | ' in first.stdout and '\n| surroundings_k31_alone | ' in first.stdout
    assert all(cv2.imread(str(plot)) is not None for plot in plots)
    rows[0]['others'] = rows[1]['others'] = 12.34
    figures.write_text(json.dumps(dict(json.loads(figures.read_text()), results=rows)))
    assert '| 12.3 (12.3 to 12.3) |' in tool(*call).stdout, 'what was measured is not measured again'
    nothing = tool('dev/surroundings.py', tmp_path / 'data', '--json', tmp_path / 'other.json')
    assert nothing.returncode == 2 and 'must be a folder that compare.py filled' in nothing.stderr
