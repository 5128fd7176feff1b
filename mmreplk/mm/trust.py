"""Whether the files that a process reads may execute what their senders wrote into them."""

import os
import pickle
from typing import BinaryIO, TextIO

import yaml
from mmengine.config import Config
from mmengine.fileio import PickleHandler, YamlHandler, register_handler

from ..errors import InputError

_HINT = ('reading it can execute what its sender wrote into it. Have it written as JSON or, if you trust the sender, '
         'say --trust-checkpoint to a tool that has this option')


def allow_pickles(allowed: bool) -> None:
    """Decides whether files may execute code when they are read, from now on in this process and in those it starts.

    Meant for programs, which decide it once. Both frameworks read by ``torch.load`` and ``mmengine.load``. By itself,
    MMEngine reads downloads with ``weights_only=False``, its onedl fork also what PyTorch finds unsafe; annotations in
    ``.pkl`` and ``.yaml`` files may execute anything.

    Args:
        allowed: Whether to read any pickle, and any YAML.
    """
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = str(int(not allowed))
    os.environ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'] = str(int(allowed))
    register_handler(['pkl', 'pickle'])(PickleHandler if allowed else _NoPickles)
    register_handler(['yaml', 'yml'])(YamlHandler if allowed else _PlainYaml)


class _NoPickles(PickleHandler):
    """Writes pickles, but does not read them."""

    def load_from_fileobj(self, file: BinaryIO, **kwargs: object) -> object:
        raise pickle.UnpicklingError(f'{getattr(file, "name", "a file that is to be read")} is a pickle: {_HINT}')


class _PlainYaml(YamlHandler):
    """Reads plain values only."""

    def load_from_fileobj(self, file: TextIO, **kwargs: object) -> object:
        # The one in C, where PyYAML has it, is many times as fast: configs by mmdet:: read lists of all configs.
        loader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
        return super().load_from_fileobj(file, **dict(kwargs, Loader=loader))


def decide_trust(cfg: Config, trusted: bool = False) -> None:
    """Decides for a program what the files of ``cfg`` may do: see :func:`allow_pickles`, :func:`refuse_pickled_data`.

    Args:
        cfg: The config that the program works with.
        trusted: Whether checkpoints and datasets may execute what they hold.
    """
    allow_pickles(trusted)
    refuse_pickled_data(cfg, trusted)


def refuse_pickled_data(cfg: Config, trusted: bool) -> None:
    """Refuses datasets whose files the frameworks unpickle themselves, past :func:`allow_pickles`.

    Args:
        cfg: The config.
        trusted: Whether such files may execute what they hold.

    Raises:
        InputError: If there is one. The message names its place in the config.
    """
    if trusted:
        return
    waiting = [(key, cfg[key]) for key in cfg if key.endswith(('_dataloader', '_pipeline'))]
    while waiting:
        name, node = waiting.pop()
        if isinstance(node, (list, tuple)):
            waiting += [(f'{name}.{i}', child) for i, child in enumerate(node)]
        elif isinstance(node, dict):
            waiting += [(f'{name}.{key}', child) for key, child in node.items()]
        elif isinstance(node, str) and ((name.endswith('.decode_backend') and node == 'pickle')
                                        or (name.endswith('.hierarchy_file') and node.endswith('.npy'))):
            raise InputError(f'{name} {node!r} says that a file of the dataset is a pickle: {_HINT}')
