"""Turns what MMEngine raises because of a config into one sentence that names the part of the config at fault."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop

from ...errors import InputError
from ...io import DISK_FULL
from ..checks.values import nodes
from ..internals import hook_called_in, is_training, part_built_in, registry_that_lacks_it, step_of_runner
from ..kinds import kind_of

_ANY = 'the config', None  # where the part is not known
_FIRST_HOOKS = ('before_run', 'before_train', 'before_test')  # where hooks look at their arguments
_FRAMEWORKS = ('mmengine', 'mmcv', 'mmseg', 'mmdet')
_LIBRARIES = {'torch', 'torchvision', 'numpy', 'cv2', 'PIL', 'pycocotools', *sys.stdlib_module_names}
# PyTorch's own, where it has them; older versions raise RuntimeError with words like these.
_OF_THE_MACHINE = [kind for kind in (getattr(torch, 'AcceleratorError', None),
                                     getattr(torch.distributed, 'DistError', None)) if kind]
_WORDS_OF_THE_MACHINE = ('CUDA error', 'out of memory', "can't allocate memory", 'not enough memory', 'NCCL',
                         'cuDNN error', 'CUBLAS_STATUS', 'Connection closed by peer', 'Connection reset by peer',
                         'Timed out waiting')
_SHORT, _SHOWN = 100, 300  # most characters of one argument that is shown; of all of them, or of a reason


@contextmanager
def config_errors(cfg: Config) -> Iterator[None]:
    """Turns each error that a config causes into one sentence, and leaves all other errors as they are.

    MMEngine builds lazily, so this goes around building a runner and around its ``train()`` or ``test()``. An error is
    the config's fault if something was being built, or if code of the frameworks, which is known to work, fails before
    the first iteration or the first validation has ended. It is not if the machine lacks memory or a connection. The
    part at fault is read off the frames of the traceback: nothing else knows which transform, loss or metric was at
    work.

    Args:
        cfg: The config.

    Raises:
        InputError: With the part of the config, such as ``model.backbone``, the reason and the part's arguments. The
            error that was raised is its ``__cause__``.
        KeyboardInterrupt: If Ctrl-C came where a framework turns any exception into an error of its own.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if _is_interruption(error):
            raise KeyboardInterrupt from error
        if is_of_the_machine(error):
            raise
        frames = _frames(error)
        loops = [_owner(frame) for frame in frames if frame.f_code.co_name == 'run']
        loops = [loop for loop in loops if isinstance(loop, BaseLoop)]
        if not loops or any(map(_is_first_hook, frames)):
            path, part = _built(cfg, frames)
        elif _is_first(loops[-1]) and _package(frames) in _FRAMEWORKS and 'DataLoader worker' not in str(error):
            path, part = _run(cfg, frames)
        else:
            raise
        if not path:
            raise
        raise InputError(_sentence(path, part, frames, error)) from error


def _is_interruption(error: BaseException | None) -> bool:
    """Says whether an error came of Ctrl-C and replaced it, as MMEngine does while it formats a config."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def is_of_the_machine(error: BaseException) -> bool:
    """Says whether memory, the disk, the device or the connection between processes is to blame."""
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return True
    if isinstance(error, (MemoryError, torch.OutOfMemoryError, *_OF_THE_MACHINE)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS_OF_THE_MACHINE)


def _frames(error: BaseException) -> list[FrameType]:
    """Returns the frames that an error came through, including those of an error that a hook raised."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    inner = error.__context__
    return frames + _frames(inner) if frames and hook_called_in(frames[-1]) and inner is not None else frames


def _owner(frame: FrameType) -> object:
    return frame.f_locals.get('self')


def _is_first_hook(frame: FrameType) -> bool:
    return frame.f_code.co_name in _FIRST_HOOKS and isinstance(_owner(frame), Hook)


def _is_first(loop: BaseLoop) -> bool:
    """Says whether a loop was in its first iteration or, if it evaluates, in its first evaluation."""
    if not is_training(loop.runner):
        return True
    training = loop.runner.train_loop
    if loop is training:
        return loop.iter == 0
    return (training.epoch if isinstance(training, EpochBasedTrainLoop) else training.iter) <= training.val_interval


def _package(frames: list[FrameType]) -> str:
    """Returns the package whose code called the libraries that failed."""
    packages = [frame.f_globals.get('__name__', '').partition('.')[0] for frame in frames]
    return [package for package in packages if package not in _LIBRARIES][-1]


def _built(cfg: Config, frames: list[FrameType]) -> tuple[str, object]:
    """Returns the path of what was being built, and what it is; an empty path if it is not in the config."""
    found = '', None
    for frame in frames:
        part, step = part_built_in(frame), step_of_runner(frame)
        if part is not None:
            found = _find(cfg, part, found[0]) or found
        elif _is_first_hook(frame):
            hook = _owner(frame)
            found = _find(cfg, dict(vars(hook), type=type(hook).__name__)) or found
        elif step is not None:
            found = (step, cfg.get(step)) if step else _ANY
    return found


def _run(cfg: Config, frames: list[FrameType]) -> tuple[str, object]:
    """Returns the path of the innermost part of the config that was at work, and what it is."""
    for owner in map(_owner, reversed(frames)):
        found = _find(cfg, dict(getattr(owner, '__dict__', {}), type=type(owner).__name__))
        if found and not isinstance(owner, BaseLoop):
            return found
    return _ANY


def _find(cfg: Config, part: object, below: str = '') -> tuple[str, object] | None:
    """Returns the path and the node that describe ``part`` in a config, below the path ``below`` if one is there.

    ``part`` may be the attributes of what MMEngine built from the node: some keys may be missing, others added.
    """
    candidates = [(path, node) for path, node in nodes(dict(cfg.items())) if _likeness(node, part) > 0]
    inside = [candidate for candidate in candidates if below and candidate[0].startswith(f'{below}.')]
    if not candidates or (below and not inside and not isinstance(part, dict)):
        return None
    return max(inside or candidates, key=lambda candidate: _likeness(candidate[1], part))


def _likeness(node: object, part: object) -> int:
    """Returns how many entries of a node ``part`` has too, 0 if it is something else."""
    if not isinstance(node, dict) or not isinstance(part, dict):
        return int(type(node) is type(part) and node == part)
    if kind_of(node) != kind_of(part):
        return 0
    # Attributes may be tensors, whose == is no truth value: their type differs from that of any value of a config.
    return sum(key in part and type(part[key]) is type(value) and part[key] == value for key, value in node.items())


def _sentence(path: str, part: object, frames: list[FrameType], error: Exception) -> str:
    registry = next(filter(None, map(registry_that_lacks_it, reversed(frames))), None)
    if registry is not None:
        return f'{path} has the type {part["type"]!r}, which {registry.scope} does not know as a {registry.name}'
    if any(frame.f_code.co_name == '_serialize_data' and isinstance(_owner(frame), BaseDataset) for frame in frames):
        return f'{path} has no sample: no file was found, or its filters leave none{_shown(part)}'
    reason = _cut(' '.join(f'{type(error).__name__}{f": {error}" if str(error) else ""}'.split()))
    return f'{path} cannot be used: {reason}{_shown(part)}'


def _shown(part: object) -> str:
    """Returns a clause with the type and the short arguments of a part, or its value."""
    if part is None:
        return ''
    if not isinstance(part, dict):
        return f'. It is {_cut(repr(part))}'
    short = [f'{key}={value!r}' for key, value in part.items() if key != 'type' and len(repr(value)) <= _SHORT]
    what = kind_of(part) + (f' with {_cut(", ".join(short))}' if short else '')
    return f'. It is {what.strip()}' if what else ''


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f'{text[:_SHOWN]}...'
