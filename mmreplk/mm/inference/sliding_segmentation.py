"""Segmentation of images that are too large to be seen at once, row of windows by row of windows."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .windows import Windows

ROWS = 16  # of the picture that are finished at once


@torch.no_grad()
def segment(model: nn.Module, image: Tensor, meta: Mapping, windows: Windows, batch_size: int = 1) -> Tensor:
    """Segments an image in overlapping windows, whose logits are averaged where they overlap.

    The labels are those of MMSegmentation's ``slide_inference``, which keeps the logits of the whole image more than
    once, and adds a map of its size for every window: 7.2 GB each for 4000x3000 pixels and 150 classes. Here the logits
    of one row of windows are kept.

    Args:
        model: MMSegmentation's ``EncoderDecoder``.
        image: ``(1, 3, H, W)``, as the model's ``data_preprocessor`` returns it.
        meta: Meta information of the image: ``ori_shape``, and ``padding_size`` if it was padded.
        windows: Their size and stride, in pixels of ``image``.
        batch_size: How many windows the model sees at once.

    Returns:
        Labels ``ori_shape``, int64.
    """
    left, right, above, below = meta.get('img_padding_size', meta.get('padding_size', (0, 0, 0, 0)))
    height, width = image.shape[-2:]
    ys, xs = windows.starts(0, height), windows.starts(1, width)
    crop = min(windows.crop[0], height), min(windows.crop[1], width)
    y_weights, x_weights = _weights(height, crop[0], ys, image), _weights(width, crop[1], xs, image)
    total_height, total_width = meta['ori_shape'][:2]
    low, high, share = _sources(height - above - below, total_height, model.align_corners)
    low, high, share = low + above, high + above, share.to(image)

    labels = torch.empty(total_height, total_width, dtype=torch.int64)
    # Logits of the rows of image from ``first`` on: a row of windows, and one above it to interpolate with.
    logits, first = image.new_zeros(model.out_channels, crop[0] + 1, width), 0
    done = 0  # rows of labels
    for y, following in zip(ys, [*ys[1:], height], strict=True):
        for i in range(0, len(xs), batch_size):
            views = torch.cat([image[..., y:y + crop[0], x:x + crop[1]] for x in xs[i:i + batch_size]])
            # Only if img_shape is a torch.Size does the head resize to it, not to pad_shape.
            metas = [dict(meta, img_shape=views.shape[2:])] * len(views)
            for x, own in zip(xs[i:], model.encode_decode(views, metas), strict=False):
                logits[:, y - first:y - first + crop[0], x:x + crop[1]] += own
        # The windows below begin at ``following``: what is above is complete.
        ready = int(torch.searchsorted(high, following))
        for begin in range(done, ready, ROWS):
            rows = slice(begin, min(begin + ROWS, ready))
            upper, lower = (logits[:, i - first] * y_weights[i, None] for i in (low[rows], high[rows]))
            band = (upper.lerp(lower, share[rows, None]) * x_weights)[..., left:width - right]
            band = F.interpolate(band[None], (band.shape[1], total_width), mode='bilinear',
                                 align_corners=model.align_corners)[0]
            labels[rows] = _decide(model, band)
        done = ready
        if done < total_height:
            kept = min(int(low[done]), following)
            unfinished = logits[:, kept - first:].clone()
            logits.zero_()
            logits[:, :unfinished.shape[1]], first = unfinished, kept
    return labels


def _weights(length: int, crop: int, starts: list[int], like: Tensor) -> Tensor:
    """Returns one over the number of windows that cover each row, or column."""
    counts = like.new_zeros(length)
    for start in starts:
        counts[start:start + crop] += 1
    return 1 / counts


def _sources(length: int, wanted: int, align_corners: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Returns between which two rows of ``length`` each of ``wanted`` rows lies, and how far: linear interpolation."""
    if align_corners:
        positions = torch.linspace(0, length - 1, wanted, dtype=torch.float64)
    else:
        positions = ((torch.arange(wanted, dtype=torch.float64) + 0.5) * length / wanted - 0.5).clamp(0, length - 1)
    low = positions.long()
    return low, (low + 1).clamp(max=length - 1), positions - low


def _decide(model: nn.Module, logits: Tensor) -> Tensor:
    if len(logits) == 1:
        return (logits[0].sigmoid() > model.decode_head.threshold).long()
    return logits.argmax(0)
