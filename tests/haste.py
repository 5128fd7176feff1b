"""What MMEngine does again and again beside what is tested, at up to a second each."""

from types import SimpleNamespace

from mmengine.config import config
from mmengine.dataset import base_dataset
from yapf.yapflib import yapf_api


def hasten() -> None:
    """Spares this process yapf on every config, and a garbage collection among all imported modules with every dataset.

    A config is formatted whenever it is logged, saved or dumped; without, it is as valid, on fewer and longer lines.
    """
    yapf_api.FormatCode = config.FormatCode = _as_it_is
    base_dataset.gc = SimpleNamespace(collect=lambda: 0)


def _as_it_is(text: str, **_) -> tuple[str, bool]:
    return text, False
