import os

from tests.tools.processes import tool


def test_what_slurm_is_asked_for(tmp_path):
    (tmp_path / 'srun').write_text('#!/bin/sh\nprintf "%s\\n" "$@"')
    (tmp_path / 'srun').chmod(0o755)
    environment = dict(PATH=f'{tmp_path}:{os.environ["PATH"]}', SRUN_ARGS='--quotatype=auto --time=10')
    for gpus, per_node in ((64, 8), (2, 2)):
        asked = tool('slurm_train.sh', 'part', 'name', 'config.py', gpus, '--amp', **environment).stdout.split('\n')
        assert {
            '--partition=part', '--job-name=name', f'--ntasks={gpus}', f'--ntasks-per-node={per_node}',
            f'--gres=gpu:{per_node}', '--kill-on-bad-exit=1', '--quotatype=auto', '--time=10'
        } <= set(asked)
        assert asked[-5:-1] == ['config.py', '--launcher', 'slurm', '--amp']
