"""Weights of models that were trained for this package and lie in it."""

from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent / 'own'


@dataclass(frozen=True)
class Own:
    """A trained model in the package: merged and folded, in float16.

    Attributes:
        name: What configs and tools call it.
        config: The name of its config.
        network: Its network and size.
        kind: ``'segmentor'`` or ``'detector'``.
        data: What it was trained on, from scratch.
        resolution: Side of the square training crops, in pixels.
        result: What it reaches, merged and folded, in float16.
        licence: Its licence, as an SPDX identifier; what holds for the data is written beside the file.
    """

    name: str
    config: str
    network: str
    kind: str
    data: str
    resolution: int
    result: str
    licence: str = 'Apache-2.0'

    @property
    def file(self) -> Path:
        """Where it lies."""
        return _FOLDER / f'{self.name}.pth'


# Street scenes in 11 classes (docs/camvid.md): what tools/predict.py and Predictor take if no model is named.
STREETS = Own('replknet-tiny_upernet-camvid', 'upernet_replknet_tiny_camvid_10k', 'RepLKNet tiny', 'segmentor',
              'CamVid', 256, 'test mIoU 55.6')

# By name.
OWN: dict[str, Own] = {own.name: own for own in [STREETS]}
