"""Damaged checkpoints for every tool that reads one."""

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import torch

from mmreplk.mm.data import make_mini_ade20k

from . import archives, files
from .archives import load
from .hostile import forged_array, forged_tensor, hide, hostile_text, nested
from .sandbox import HARMLESS, SILENT, UNKNOWABLE, WARNED, Case, Sandbox
from .segmentation import CONFIG, SMALL, roots, workers

Change = Callable[[dict, Random], object]


def contents(change: Change) -> Callable[[Path, Random], None]:
    """Returns a function that loads, calls ``change(saved, rng)`` and saves the result, or what that returned."""

    def damage(path: Path, rng: Random) -> None:
        saved = load(path)
        changed = change(saved, rng)
        torch.save(saved if changed is None else changed, path)

    return damage


def one_weight(change: Callable[[torch.Tensor, Random], object]) -> Callable[[Path, Random], None]:
    """Returns a function that replaces one convolution's weight by ``change(weight, rng)``."""

    def apply(saved: dict, rng: Random) -> None:
        weights = saved['state_dict']
        name = rng.choice([name for name, tensor in weights.items() if tensor.ndim == 4])
        weights[name] = change(weights[name], rng)

    return contents(apply)


def key_missing(saved: dict, rng: Random) -> None:
    saved['state_dict'].pop(rng.choice([n for n in saved['state_dict'] if not n.endswith('num_batches_tracked')]))


def swapped(same_shape: bool) -> Change:
    """Returns a function that swaps two tensors, of one shape or of two."""

    def apply(saved: dict, rng: Random) -> None:
        weights = saved['state_dict']
        pairs = [(a, b) for a in weights for b in weights if a < b and weights[a].ndim == 4
                 and (weights[a].shape == weights[b].shape) is same_shape
                 and not (same_shape and weights[a].equal(weights[b]))]
        one, other = rng.choice(pairs)
        weights[one], weights[other] = weights[other], weights[one]

    return apply


def with_number(number: float) -> Callable[[torch.Tensor, Random], torch.Tensor]:
    """Returns a function that puts ``number`` somewhere into a tensor."""

    def apply(tensor: torch.Tensor, rng: Random) -> torch.Tensor:
        tensor = tensor.clone()
        tensor.view(-1)[rng.randrange(tensor.numel())] = number
        return tensor

    return apply


def other_value(*keys: str, values: tuple) -> Callable[[Path, Random], None]:
    """Returns a function that sets ``saved[keys[0]][keys[1]]...`` to one of ``values``; ``...`` deletes it."""

    def apply(saved: dict, rng: Random) -> None:
        node, value = saved, rng.choice(values)
        for key in keys[:-1]:
            node = node[key]
        node.pop(keys[-1]) if value is ... else node.update({keys[-1]: value})

    return contents(apply)


def optimizer_state(change: Callable[[dict, Random], object]) -> Callable[[Path, Random], None]:
    return contents(lambda saved, rng: change(saved['optimizer'], rng) and None)


def nan_in_optimizer(optimizer: dict, rng: Random) -> None:
    rng.choice(list(optimizer['state'].values()))['exp_avg'].fill_(float('nan'))


# Are the values that a tool uses the same?


def used(path: Path, tool: str) -> dict | None:
    """Returns what ``tool`` uses of a checkpoint; None if it cannot be read."""
    try:
        saved = torch.load(path, weights_only=True)
    except Exception:
        return None
    parts = ['state_dict'] + (['optimizer', 'param_schedulers', 'meta'] if tool in ('resume', 'fall_back') else [])
    taken = {part: saved.get(part) for part in parts}
    if isinstance(taken['state_dict'], dict):
        taken['state_dict'] = {str(n).removeprefix('module.'): t for n, t in taken['state_dict'].items()}
    return taken


def same(one: object, other: object) -> bool:
    """Says whether everything in ``other`` is in ``one``.

    Tensors of another floating-point type count as the same if they are no further away than its rounding. Words, and
    the counters of batches, change nothing.
    """
    if isinstance(other, torch.Tensor):
        if not isinstance(one, torch.Tensor) or one.shape != other.shape or not one.dtype.is_floating_point:
            return isinstance(one, torch.Tensor) and one.shape == other.shape and one.equal(other)
        return torch.allclose(one.to(other.dtype), other, rtol=1e-3, atol=1e-6) if one.dtype != other.dtype \
            else one.equal(other)
    if isinstance(other, dict):
        return isinstance(one, dict) and all(key in one and same(one[key], value) for key, value in other.items()
                                             if not str(key).endswith('num_batches_tracked'))
    if isinstance(other, (list, tuple)):
        return isinstance(one, (list, tuple)) and len(one) == len(other) and all(map(same, one, other))
    return one == other or isinstance(other, str)


# Damage to a checkpoint by name, and how it is judged if the checkpoint is used with other values.
def damages(box: Sandbox) -> dict[str, tuple[Callable[[Path, Random], None], str]]:
    silent = {
        'nothing': lambda path, rng: None,
        'truncated': files.truncate,
        'flipped bytes': files.flip_bytes,
        'a block of zeros': files.zero_block,
        'empty': files.empty,
        'random bytes': files.noise,
        'text': files.text,
        'a web page': archives.web_page,
        'missing': files.missing,
        'a folder': files.directory,
        'a named pipe': files.pipe,
        'endless': archives.endless,
        'a link to itself': archives.loop,
        'bytes before it': archives.prepended,
        'bytes after it': archives.appended,
        'a part of the archive is missing': archives.without_member,
        'a part of the archive is there twice': archives.twice,
        'compressed': archives.compressed,
        'compressed a thousandfold': archives.bomb,
        'of before PyTorch 1.6': archives.old_format(),
        'of before PyTorch 1.6, truncated': archives.old_format(files.truncate),
        'hostile pickle': hide(box.marker, None),
        'hostile beside its parts': hide(box.marker, ''),
        'hostile among the weights': hide(box.marker, 'state_dict'),
        'hostile in its description': hide(box.marker, 'meta'),
        'hostile in the log history': hide(box.marker, 'message_hub'),
        'hostile in the optimizer': hide(box.marker, 'optimizer'),
        'a program for every text': contents(hostile_text(box.marker, True)),
        'no program for every text': contents(hostile_text(box.marker, False)),
        'forged tensor': forged_tensor,
        'forged array': forged_array,
        'nested': nested,
        'key missing': contents(key_missing),
        'extra key': contents(lambda saved, rng: saved['state_dict'].update(extra=torch.ones(3))),
        'tensors of two shapes swapped': contents(swapped(same_shape=False)),
        'wrong shape': one_weight(lambda w, rng: rng.choice([w[..., :-1], w[None], w.flatten(), w.sum(), w[:0]])),
        'transposed in memory': one_weight(lambda w, rng: w.transpose(0, 1).contiguous().transpose(0, 1)),
        'weight in float64': one_weight(lambda w, rng: w.double()),
        'weight in float16': one_weight(lambda w, rng: w.half()),
        'weight of integers': one_weight(lambda w, rng: w.to(rng.choice([torch.int8, torch.int64, torch.bool]))),
        'weight of complex numbers': one_weight(lambda w, rng: w.to(torch.complex64)),
        'weight of NaN': one_weight(with_number(float('nan'))),
        'infinite weight': one_weight(with_number(float('inf'))),
        'sparse weight': one_weight(lambda w, rng: w.to_sparse()),
        'weight without numbers': one_weight(lambda w, rng: w.to('meta')),
        'weight is no tensor': one_weight(lambda w, rng: rng.choice(['weight', None, 1.5, [1.0], {}])),
        'names begin with module.': contents(lambda saved, rng: saved.update(
            state_dict={f'module.{name}': tensor for name, tensor in saved['state_dict'].items()})),
        'a name is a number': contents(lambda saved, rng: saved['state_dict'].update({7: torch.ones(3)})),
        'no weights': other_value('state_dict', values=(..., {}, [], None, 'weights')),
        'not a dict': contents(lambda saved, rng: rng.choice([[1, 2], 'text', 7, torch.ones(3)])),
        'no description': other_value('meta', values=(..., None, 'meta', [])),
        'no iteration': other_value('meta', 'iter', values=(..., -1, 'one', None, 1.5)),
        'no optimizer': other_value('optimizer', values=(..., None, {}, [])),
        'NaN in the optimizer': optimizer_state(nan_in_optimizer),
        'no groups in the optimizer': optimizer_state(lambda optimizer, rng: optimizer['param_groups'].pop()),
        'no schedule': other_value('param_schedulers', values=(..., None, [], {})),
        'no log history': other_value('message_hub', values=(..., None, {}, 'log')),
    }
    unknowable = {
        'of before PyTorch 1.6, flipped bytes': archives.old_format(files.flip_bytes),  # without checksums
        'tensors of one shape swapped': contents(swapped(same_shape=True)),
        'other weights': one_weight(lambda w, rng: w + 1),
    }
    return {**{name: (damage, SILENT) for name, damage in silent.items()},
            **{name: (damage, UNKNOWABLE) for name, damage in unknowable.items()}}


def prepare(box: Sandbox) -> Callable[[int, Random], Case]:
    """Returns a function that makes a case from its number."""
    data = make_mini_ade20k(box.work_dir / 'segmentation', num_train=4, num_val=2, size=64)
    options = [*SMALL, *workers(0), *roots(data)]
    code, said = box.run(box.train(CONFIG, *options))
    if code:
        raise RuntimeError(f'the network to try with could not be trained: {said[-2000:]}')
    whole = box.work_dir / 'whole.pth'
    shutil.copy(box.run_dir / 'iter_1.pth', whole)
    path = box.work_dir / 'mutilated.pth'
    backbone = {n: tensor for n, tensor in load(whole)['state_dict'].items() if n.startswith('backbone.')}
    longer = [*options, 'train_cfg.max_iters=2']
    tools = dict(
        test=box.test(CONFIG, path, *options),
        resume=box.train(CONFIG, *longer, tail=('--resume', str(path))),
        load=box.train(CONFIG, *options, f'load_from={path}'),
        pretrained=box.train(CONFIG, *options, 'model.backbone.init_cfg.type=Pretrained',
                             f'model.backbone.init_cfg.checkpoint={path}'),
        fall_back=box.train(CONFIG, *longer, tail=('--resume', )),
        convert=['tools/model_converters/convert_checkpoint.py', str(path), str(box.run_dir / 'converted.pth')],
        deploy=['tools/model_converters/reparameterize.py', str(path), str(box.run_dir / 'deploy.pth')],
    )
    kinds = damages(box)

    def make(number: int, rng: Random) -> Case:
        name = list(kinds)[number % len(kinds)]
        damage, accepted = kinds[name]
        tool = list(tools)[(number // len(kinds) + number) % len(tools)]
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        shutil.rmtree(box.run_dir, ignore_errors=True)
        box.run_dir.mkdir()
        shutil.copy(whole, path)
        damage(path, rng)
        if tool == 'fall_back':
            shutil.copy(whole, box.run_dir / 'iter_1.pth')
            (box.run_dir / 'last_checkpoint').write_text(str(path))

        def judge(said: str) -> str:
            if tool == 'fall_back' and 'newest checkpoint that is whole' in said and path.name in said:
                return WARNED
            taken = used(path, tool)
            if taken is None or same(taken, used(whole, tool)):
                return SILENT if taken is None else HARMLESS
            if tool == 'load' and any(words in said for words in ('missing keys in source', 'size mismatch for')):
                return WARNED  # fine-tuning may leave heads out
            if tool in ('convert', 'deploy') and same(taken['state_dict'], backbone):
                return UNKNOWABLE  # only the config knows what the heads must be
            return accepted

        return Case(name, tools[tool], (path.name, ), judge)

    return make
