"""The private parts of MMEngine that are touched are there, and are what they are taken for."""

import ast
from pathlib import Path

import mmengine
import pytest
import torch
from mmengine.optim import OptimWrapper
from torch.utils.data import DataLoader

from mmreplk.mm import internals
from tests.mm.hooks.toy import Noisy, make_runner

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


def private_names(path):
    """Yields the private attributes that a file takes of what is not its own."""
    tree = ast.parse(path.read_text())
    own = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
           and isinstance(node.value, ast.Name) and node.value.id in ('self', 'cls')}  # yapf: disable
    own |= {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith('_') and not node.attr.startswith('__') \
                and node.attr not in own:  # yapf: disable
            yield node.attr
        elif isinstance(node, ast.ImportFrom) and (node.module or '').startswith('mmengine'):
            yield from (alias.name for alias in node.names if alias.name.startswith('_'))


def test_private_parts_are_touched_here_alone():
    """By their names, as MMEngine's sources have them."""
    sources = Path(mmengine.__file__).parent
    theirs = ''.join(path.read_text() for name in ('runner', 'hooks', 'dataset', 'optim', 'logging', 'infer', 'config')
                     for path in (sources / name).rglob('*.py'))  # yapf: disable
    found = {(path.relative_to(PACKAGE).as_posix(), name) for path in (PACKAGE / 'mm').rglob('*.py')
             if path.name != 'internals.py' for name in private_names(path) if f'.{name}' in theirs}  # yapf: disable
    assert not found
    assert set(private_names(Path(internals.__file__))), 'it finds some'
