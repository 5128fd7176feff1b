"""Every private part of MMEngine that this package touches, one function each.

Most of it could be read from the config, but a program may hand :class:`mmengine.runner.Runner` its arguments one by
one.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from types import FrameType

from mmengine.config import Config
from mmengine.config import utils as config_utils
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import Registry, build_from_cfg
from mmengine.runner import BaseLoop, Runner
from mmengine.utils import ManagerMixin, is_installed
from torch.utils.data import DataLoader

# Which part of a config each step of Runner reads.
_STEPS = dict(
    setup_env='env_cfg', set_randomness='randomness', build_logger='log_level', build_log_processor='log_processor',
    build_visualizer='visualizer', build_model='model', wrap_model='model', register_default_hooks='default_hooks',
    register_custom_hooks='custom_hooks', _check_scheduler_cfg='param_scheduler', build_train_loop='train_cfg',
    build_val_loop='val_cfg', build_test_loop='test_cfg', build_optim_wrapper='optim_wrapper', scale_lr='auto_scale_lr',
    build_param_scheduler='param_scheduler', _init_model_weights='model', load_or_resume='load_from'
)


def find_shipped_configs() -> None:
    """Lets ``mmseg::`` in a config find MMSegmentation's configs, even if it was installed under another name."""
    if not is_installed('mmsegmentation') and find_spec('mmseg') is not None:
        config_utils.MODULE2PACKAGE['mmseg'] = 'mmseg'


def leave_unformatted(cfg: Config) -> None:
    """Leaves the text of ``cfg`` without line breaks, for files that nobody will read: formatting takes longest."""
    vars(cfg).update(_format_python_code=False)


def is_training(runner: Runner) -> bool:
    """Says whether ``runner`` has begun to train, without building the loop as its public property would."""
    return isinstance(runner._train_loop, BaseLoop)


def is_resuming(runner: Runner) -> bool:
    """Says whether ``runner`` resumes from its checkpoint with optimizer and schedules, not from weights alone."""
    return bool(runner._resume)


def checkpoint_of(runner: Runner) -> str | None:
    """Returns where ``runner`` takes its weights from; None if it looks for them in its work dir, or takes none."""
    return runner._load_from


def has_own_seeds(runner: Runner) -> bool:
    """Says whether each process of ``runner`` has a seed of its own."""
    return bool(runner._randomness_cfg.get('diff_rank_seed'))


def accumulative_counts(wrapper: OptimWrapper) -> int:
    """Returns the number of iterations whose gradients are added up before a step."""
    return getattr(wrapper, '_accumulative_counts', 1)


def replace_data(loop: BaseLoop, loader: DataLoader, batches: object = None) -> None:
    """Makes ``loop`` draw from ``loader``; call it before the first iteration.

    Args:
        loop: Any loop of MMEngine.
        loader: The loader to draw from.
        batches: An iterator with MMEngine's ``skip_iter``, for a loop by iterations to draw from instead.
    """
    loop.dataloader = loader
    if hasattr(loop, 'dataloader_iterator'):
        loop.dataloader_iterator = type(loop.dataloader_iterator)(loader) if batches is None else batches


def built_loops(runner: Runner) -> list[BaseLoop]:
    """Returns the loops of ``runner`` that have been built, without building one as its public properties would."""
    loops = (runner._train_loop, runner._val_loop, runner._test_loop)
    return [loop for loop in loops if isinstance(loop, BaseLoop)]


def instances_by_name() -> Iterator[dict[str, object]]:
    """Yields the dicts in which MMEngine keeps its global instances for good, one for each class, such as loggers."""
    kinds = [ManagerMixin]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        yield kind._instance_dict


def step_of_runner(frame: FrameType) -> str | None:
    """Returns the key of the config that a method of ``Runner`` reads, if ``frame`` is a call of such a method.

    An empty string stands for all of the config, None for any other function.
    """
    if frame.f_code is Runner.__init__.__code__:
        return ''
    is_step = frame.f_code.co_name in _STEPS and isinstance(frame.f_locals.get('self'), Runner)
    return _STEPS[frame.f_code.co_name] if is_step else None


def hook_called_in(frame: FrameType) -> Hook | None:
    """Returns the hook that was at work if ``frame`` is a call of ``Runner.call_hook``, else None.

    That method replaces a hook's TypeError by another, raised from None; the hook's own is the other's ``__context__``.
    """
    return frame.f_locals.get('hook') if frame.f_code is Runner.call_hook.__code__ else None


def part_built_in(frame: FrameType) -> object:
    """Returns the part of a config that was being built, if ``frame`` is a call that builds one, else None."""
    if frame.f_code is build_from_cfg.__code__:
        return frame.f_locals['cfg']
    return frame.f_locals['dataloader'] if frame.f_code is Runner.build_dataloader.__code__ else None


def registry_that_lacks_it(frame: FrameType) -> Registry | None:
    """Returns the registry that did not know the type of what ``frame`` was building, else None."""
    if frame.f_code is not build_from_cfg.__code__ or frame.f_locals.get('obj_cls', frame) is not None:
        return None
    return frame.f_locals['registry']
