"""Times a model on ``nn.Conv2d`` and on this package's operator, in turns, and measures how far they differ."""

import copy
import math
import statistics
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..layers.folding import BatchNorm
from .measure import time_in_turns


def compare(plain: nn.Module, fast: nn.Module, images: Tensor, rounds: int = 5) -> list[dict]:
    """Times inference and training of two forms of one model in turns, and says how far each is from the truth.

    The truth is what ``plain`` computes in float32. A training step is forward, mean square as the loss, and backward.

    Args:
        plain: A model whose dtype is that of ``images``, with weights from :func:`fill`.
        fast: The same model on this package's operator; it gets the weights of ``plain``.
        images: ``(N, C, H, W)``.
        rounds: How often each is timed.

    Returns:
        A row for inference and one for training, with batch, size, dtype, the raw milliseconds of both and the median
        of the ratios round by round, how often ``fast`` is as fast as ``plain``; and ``errors`` of both by ``output``,
        relative to the largest value, and ``gradient``, relative to the norm over all parameters.
    """
    setting = dict(batch=len(images), size=list(images.shape[-2:]), dtype=str(images.dtype).removeprefix('torch.'))
    fast.load_state_dict(plain.state_dict())
    truth = results(copy.deepcopy(plain).float(), images.float())
    errors = {name: _errors(results(model, images), truth) for name, model in (('plain', plain), ('fast', fast))}
    rows = []
    for work, run in (('inference', _infer), ('training', _train)):
        functions = {name: run(model, images) for name, model in (('plain', plain), ('fast', fast))}
        # Inference and training each need their mode of the model.
        for model in (plain, fast):
            model.train(work == 'training')
        times = time_in_turns(functions, rounds=rounds)
        ratios = [slow / quick for slow, quick in zip(times['plain'], times['fast'], strict=True)]
        rows.append(dict(work=work, **setting, ratio=statistics.median(ratios), plain_ms=times['plain'],
                         fast_ms=times['fast'], errors=errors))
    return rows


@torch.no_grad()
def fill(model: nn.Module, images: Tensor) -> nn.Module:
    """Gives ``model`` weights under which no branch is negligible, as with fresh layer scales of 1e-6, or dominates.

    BatchNorms get the statistics of ``images``.
    """
    for name, tensor in model.named_parameters():
        fan_in = math.prod(tensor.shape[1:])
        if name.endswith(('bias', 'beta')):
            nn.init.normal_(tensor, std=0.1)
        elif fan_in == 1 or fan_in == tensor.numel():  # scales, of shape (C,), (C, 1, 1) or (1, ..., C)
            nn.init.uniform_(tensor, 0.1, 0.5)
        else:
            nn.init.normal_(tensor, std=fan_in**-0.5)
    norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
    for norm in norms:
        norm.momentum = 1
    model.train()  # not chained: it returns None in some backbones of MM
    model(images)
    for norm in norms:
        norm.momentum = 0.1
    return model


def results(model: nn.Module, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Returns the outputs and the gradients of all parameters that have one, both in evaluation.

    In training mode, rounding errors grow without bounds through fresh networks: BatchNorms divide by nearly zero.
    """
    model.zero_grad()
    model.eval()
    outputs = _outputs(model, images)
    _mean_square(outputs).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return [out.detach() for out in outputs], gradients


def _errors(found: tuple[list[Tensor], list[Tensor]], truth: tuple[list[Tensor], list[Tensor]]) -> dict[str, float]:
    output = max(float((one.float() - other).abs().max() / other.abs().max())
                 for one, other in zip(found[0], truth[0], strict=True))
    parts = [(float((one.float() - other).square().sum()), float(other.square().sum()))
             for one, other in zip(found[1], truth[1], strict=True)]
    return dict(output=output, gradient=math.sqrt(sum(d for d, _ in parts) / sum(n for _, n in parts)))


def _outputs(model: nn.Module, images: Tensor) -> list[Tensor]:
    out = model(images)
    return [out] if isinstance(out, Tensor) else list(out)


def _mean_square(outputs: list[Tensor]) -> Tensor:
    return sum(out.float().square().mean() for out in outputs)


def _infer(model: nn.Module, images: Tensor) -> Callable[[], None]:

    @torch.no_grad()
    def run() -> None:
        model(images)

    return run


def _train(model: nn.Module, images: Tensor) -> Callable[[], None]:

    def run() -> None:
        model.zero_grad()
        _mean_square(_outputs(model, images)).backward()

    return run
