"""Datasets of MMSegmentation with one damaged file."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from mmreplk.mm.data import make_mini_ade20k

from . import files
from .sandbox import HARMLESS, SILENT, UNKNOWABLE, WARNED, Case, Sandbox

CONFIG = 'configs/upernet_replknet_tiny_miniade20k.py'
SIZE = 64
# The smallest network, one iteration over all pictures, and a validation.
SMALL = (
    'model.backbone.arch.channels=(8,8,8,8)', 'model.backbone.arch.layers=(1,1,1,1)',
    'model.backbone.arch.large_kernel_sizes=(7,7,5,5)', 'model.decode_head.in_channels=(8,8,8,8)',
    'model.decode_head.channels=8', f'model.data_preprocessor.size=({SIZE},{SIZE})',
    f'train_dataloader.dataset.pipeline.2.scale=({SIZE},{SIZE})',
    f'train_dataloader.dataset.pipeline.3.crop_size=({SIZE},{SIZE})', 'train_cfg.max_iters=1',
    'train_cfg.val_interval=1', 'default_hooks.checkpoint.interval=1', 'train_dataloader.batch_size=4',
    'log_level=WARNING'
)
IMAGES, LABELS = 'images', 'annotations'


@dataclass(frozen=True)
class Damage:
    """Damage to a file.

    Attributes:
        part: Whether an image or a label map is damaged.
        apply: Damages a file.
        accepted: The outcome if the file is used with other pixels: unknowable or silent.
    """
    part: str
    apply: Callable[[Path, Random], None]
    accepted: str = SILENT


def out_of_range(path: Path, rng: Random) -> None:
    labels = files.read(path)
    labels[:rng.randrange(20, 60)] = rng.randrange(152, 255)
    files.save(path, labels)


def one_label_out_of_range(path: Path, rng: Random) -> None:
    """Changes a single pixel, which a crop of the full size always holds."""
    labels = files.read(path)
    labels[rng.randrange(labels.shape[0]), rng.randrange(labels.shape[1])] = rng.randrange(152, 255)
    files.save(path, labels)


def other_labels(path: Path, rng: Random) -> None:
    labels = files.read(path)
    files.save(path, rng.randrange(1, 150) + np.zeros_like(labels))


def colours(path: Path, rng: Random) -> None:
    files.save(path, np.stack([files.read(path)] * 3, -1))


def sixteen_bit_labels(path: Path, rng: Random) -> None:
    files.save(path, files.read(path).astype(np.uint16) + 256)


DAMAGE = {
    'nothing': Damage(IMAGES, lambda path, rng: None),
    'image missing': Damage(IMAGES, files.missing),
    'image empty': Damage(IMAGES, files.empty),
    'image truncated': Damage(IMAGES, files.truncate),
    'image with flipped bytes': Damage(IMAGES, files.flip_bytes, UNKNOWABLE),  # JPEG has no checksums
    'image is text': Damage(IMAGES, files.text),
    'image is a folder': Damage(IMAGES, files.directory),
    'image is a named pipe': Damage(IMAGES, files.pipe),
    'image of another size': Damage(IMAGES, files.smaller),
    'image of one pixel': Damage(IMAGES, files.one_pixel),
    'image of 900 million pixels': Damage(IMAGES, files.huge),
    'image in grey': Damage(IMAGES, files.grey, UNKNOWABLE),
    'image of 16 bits': Damage(IMAGES, files.sixteen_bits, UNKNOWABLE),
    'image with transparency': Damage(IMAGES, files.transparent, UNKNOWABLE),
    'label map missing': Damage(LABELS, files.missing),
    'label map empty': Damage(LABELS, files.empty),
    'label map truncated': Damage(LABELS, files.truncate),
    'label map with flipped bytes': Damage(LABELS, files.flip_bytes),  # PNG has checksums
    'label map is text': Damage(LABELS, files.text),
    'label map is a folder': Damage(LABELS, files.directory),
    'label map is a named pipe': Damage(LABELS, files.pipe),
    'label map of another size': Damage(LABELS, files.smaller),
    'label map of 900 million pixels': Damage(LABELS, files.huge),
    'label map in colours': Damage(LABELS, colours),
    'label map of 16 bits': Damage(LABELS, sixteen_bit_labels),
    'labels out of range': Damage(LABELS, out_of_range),
    'one label out of range': Damage(LABELS, one_label_out_of_range),
    'other labels of the classes': Damage(LABELS, other_labels, UNKNOWABLE),
}


def roots(data: Path) -> list[str]:
    """Returns the options that name a dataset."""
    return [f'{name}_dataloader.dataset.data_root={data}' for name in ('train', 'val', 'test')]


def workers(count: int) -> list[str]:
    """Returns the options for this number of processes that load data."""
    return [f'{name}_dataloader.{option}' for name in ('train', 'val', 'test')
            for option in (f'num_workers={count}', f'persistent_workers={count > 0}')]


def prepare(box: Sandbox) -> Callable[[int, Random], Case]:
    """Returns a function that makes a case from its number."""
    whole = make_mini_ade20k(box.work_dir / 'segmentation', num_train=4, num_val=2, size=SIZE)
    damaged = box.work_dir / 'damaged'

    def make(number: int, rng: Random) -> Case:
        name = list(DAMAGE)[number % len(DAMAGE)]
        damage = DAMAGE[name]
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(whole, damaged)
        path = rng.choice(sorted((damaged / damage.part / rng.choice(['training', 'validation'])).iterdir()))
        damage.apply(path, rng)

        def judge(said: str) -> str:
            if files.same_picture(path, whole / path.relative_to(damaged)):
                return HARMLESS
            if 'WARNING' in said and path.stem in said:
                return WARNED
            return damage.accepted if files.seen(path) is not None else SILENT

        return Case(name, box.train(CONFIG, *SMALL, *workers(number % 2), *roots(damaged)), (path.stem, ), judge)

    return make
