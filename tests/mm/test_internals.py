"""The private parts of MMEngine that are touched are there, and are what they are taken for."""

import ast
import copy
import pickle
import traceback
from pathlib import Path

import mmengine
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmreplk.mm import internals
from tests.mm.hooks.toy import Noisy, make_runner, toy_options

PACKAGE = Path(internals.__file__).parents[1]


def test_whether_it_trains_or_resumes_and_from_where(tmp_path):
    runner = make_runner(tmp_path, end=2)
    assert not internals.is_training(runner) and not internals.is_resuming(runner)
    assert internals.checkpoint_of(runner) is None
    runner.train()
    assert internals.is_training(runner)
    path = str(tmp_path / 'iter_2.pth')
    for resume in (False, True):
        runner = make_runner(tmp_path, end=2, resume=resume, load_from=path)
        assert internals.is_resuming(runner) is resume and internals.checkpoint_of(runner) == path


@pytest.mark.parametrize('different', [False, True])
def test_seeds_of_each_process(tmp_path, different):
    runner = make_runner(tmp_path, randomness=dict(seed=3, diff_rank_seed=different))
    assert internals.has_own_seeds(runner) is different
    assert not internals.has_own_seeds(make_runner(tmp_path))


def test_a_config_that_is_left_unformatted_says_the_same(monkeypatch):
    cfg = Config(dict(a=[dict(b=i) for i in range(30)]))
    internals.leave_unformatted(cfg)
    monkeypatch.setattr('mmengine.config.config.FormatCode', None, raising=False)
    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', None)
    for same in (cfg, cfg.copy(), copy.deepcopy(cfg), pickle.loads(pickle.dumps(cfg))):
        assert Config.fromstring(same.pretty_text, '.py').to_dict() == cfg.to_dict()


def test_how_often_it_steps():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.)
    assert [internals.accumulative_counts(OptimWrapper(optimizer, accumulative_counts=n)) for n in (1, 3)] == [1, 3]


@pytest.mark.parametrize('by_epoch', [False, True])
def test_a_loop_draws_from_other_data(tmp_path, by_epoch):
    runner, drawn = make_runner(tmp_path, by_epoch=by_epoch, end=1), []

    class Other(Noisy):

        def __getitem__(self, index):
            drawn.append(index)
            return super().__getitem__(index)

    loop, collate = runner.train_loop, runner.train_dataloader.collate_fn
    internals.replace_data(loop, DataLoader(Other(), 4, collate_fn=collate))
    runner.train()
    assert drawn[:4] == [0, 1, 2, 3] and runner.train_dataloader is loop.dataloader


def test_which_loops_are_built(tmp_path):
    runner = make_runner(tmp_path, end=2)
    assert internals.built_loops(runner) == []
    runner.train()
    assert internals.built_loops(runner) == [runner.train_loop, runner.val_loop]


def test_where_global_instances_are_kept(tmp_path):
    runner = make_runner(tmp_path)
    kept = [instances[name] for instances in internals.instances_by_name() for name in {*instances}
            & {runner.logger.instance_name, runner.experiment_name}]
    assert any(one is runner.logger for one in kept) and any(one is runner.message_hub for one in kept)


def frames_of(call):
    try:
        call()
    except Exception as error:
        return [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    raise AssertionError('it must fail')


def test_what_was_being_built_is_read_off_its_frames(tmp_path):
    wrong = dict(type='NoSuchModel')
    frames = frames_of(lambda: MODELS.build(wrong))
    assert [part for part in map(internals.part_built_in, frames) if part is not None] == [wrong]
    assert [registry for registry in map(internals.registry_that_lacks_it, frames) if registry] == [MODELS]
    frames = frames_of(lambda: MODELS.build(dict(type='Toy', size=1)))
    assert not any(map(internals.registry_that_lacks_it, frames))
    loader = dict(dataset=Noisy(), batch_size=4, sampler=dict(type='DefaultSampler'), num_workers='x')
    parts = [*map(internals.part_built_in, frames_of(lambda: Runner.build_dataloader(loader)))]
    assert any(part is loader for part in parts)


@pytest.mark.parametrize(('options', 'step'), [
    (dict(log_level='LOUD'), 'log_level'), (dict(custom_hooks=[5]), 'custom_hooks'), (dict(val_cfg=None), ''),
    (dict(param_scheduler=5), 'param_scheduler'),
])
def test_which_key_of_the_config_runner_was_reading(tmp_path, options, step):
    given = dict(toy_options(tmp_path), **options)
    found = map(internals.step_of_runner, frames_of(lambda: Runner(**given)))
    assert [key for key in found if key is not None][-1] == step


def test_the_steps_of_runner_are_there():
    assert all(callable(getattr(Runner, name)) for name in internals._STEPS)


def private_names(path):
    """Yields the private attributes that a file takes of what is not its own."""
    tree = ast.parse(path.read_text())
    own = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
           and isinstance(node.value, ast.Name) and node.value.id in ('self', 'cls')}
    own |= {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith('_') and not node.attr.startswith('__') \
                and node.attr not in own:
            yield node.attr
        elif isinstance(node, ast.ImportFrom) and (node.module or '').startswith('mmengine'):
            yield from (alias.name for alias in node.names if alias.name.startswith('_'))


def test_private_parts_are_touched_here_alone():
    """By their names, as MMEngine's sources have them."""
    sources = Path(mmengine.__file__).parent
    theirs = ''.join(path.read_text() for name in ('runner', 'hooks', 'dataset', 'optim', 'logging', 'infer', 'config')
                     for path in (sources / name).rglob('*.py'))
    found = {(path.relative_to(PACKAGE).as_posix(), name) for path in (PACKAGE / 'mm').rglob('*.py')
             if path.name != 'internals.py' for name in private_names(path) if f'.{name}' in theirs}
    assert not found
    assert set(private_names(Path(internals.__file__))), 'it finds some'
