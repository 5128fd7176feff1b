"""Datasets in COCO's format with one damaged picture, or a damaged annotation file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

from mmreplk.mm.data import make_mini_coco

from . import files
from .sandbox import HARMLESS, SILENT, UNKNOWABLE, WARNED, Case, Sandbox
from .segmentation import Damage, workers

CONFIG = 'configs/cascade_mask_rcnn_replknet_tiny_minicoco.py'
SMALL = (
    'model.backbone.arch.channels=(8,8,8,8)', 'model.backbone.arch.layers=(1,1,1,1)',
    'model.backbone.arch.large_kernel_sizes=(7,7,5,5)', 'model.neck.in_channels=[8,8,8,8]',
    'model.test_cfg.rcnn.max_per_img=5', 'param_scheduler.0.end=1', 'param_scheduler.1.begin=1',
    'param_scheduler.1.end=2', 'train_cfg.max_iters=1', 'train_cfg.val_interval=1',
    'default_hooks.checkpoint.interval=1', 'train_dataloader.batch_size=3', 'log_level=WARNING'
)
PICTURES, FILE = 'pictures', 'annotation file'


def changed(change: Callable[[dict, dict, Random], None]) -> Callable[[Path, Random], None]:
    """Returns a function that applies ``change(labels, annotation, rng)`` to an annotation file and one annotation."""

    def apply(path: Path, rng: Random) -> None:
        labels = json.loads(path.read_text())
        change(labels, rng.choice(labels['annotations']), rng)
        path.write_text(json.dumps(labels))

    return apply


def set_value(key: str, *values: object) -> Damage:
    return Damage(FILE, changed(lambda labels, annotation, rng: annotation.update({key: rng.choice(values)})))


def set_mask(make: Callable[[dict, Random], object], accepted: str = SILENT) -> Damage:
    """Returns damage that replaces the mask of an annotation by ``make(mask, rng)``."""
    return Damage(FILE, changed(lambda labels, annotation, rng: annotation.update(
        segmentation=make(annotation['segmentation'], rng))), accepted)


def image_entry(labels: dict, rng: Random) -> dict:
    return rng.choice(labels['images'])


def other_runs(mask: dict, rng: Random) -> dict:
    counts = list(mask['counts'])
    counts[rng.randrange(len(counts))] += rng.choice([-10**6, -1, 1, 10**6, 10**12])
    return dict(mask, counts=counts)


def other_string(mask: dict, rng: Random) -> dict:
    return dict(mask, counts=''.join(chr(rng.randrange(33, 127)) for _ in range(rng.randrange(1, 200))))


def polygon(*values: float) -> Callable[[dict, Random], list]:
    return lambda mask, rng: [list(values)]


NAN, INFINITY = float('nan'), float('inf')
DAMAGE = {
    'nothing': Damage(PICTURES, lambda path, rng: None),
    'picture missing': Damage(PICTURES, files.missing),
    'picture empty': Damage(PICTURES, files.empty),
    'picture truncated': Damage(PICTURES, files.truncate),
    'picture with flipped bytes': Damage(PICTURES, files.flip_bytes, UNKNOWABLE),
    'picture of another size': Damage(PICTURES, files.smaller),
    'picture of 900 million pixels': Damage(PICTURES, files.huge),
    'file empty': Damage(FILE, files.empty),
    'file truncated': Damage(FILE, files.truncate),
    'file is noise': Damage(FILE, files.noise),
    'file is a list': Damage(FILE, lambda path, rng: path.write_text('[1, 2]')),
    'file is nested too deeply': Damage(FILE, lambda path, rng: path.write_text('[' * 10**5)),
    'a list is missing': Damage(FILE, changed(lambda labels, a, rng: labels.pop(rng.choice(list(labels))))),
    'a key of an annotation is missing': Damage(FILE, changed(lambda labels, a, rng: a.pop(
        rng.choice(['bbox', 'area', 'category_id', 'image_id', 'id'])))),
    'a key of an image is missing': Damage(FILE, changed(lambda labels, a, rng: image_entry(labels, rng).pop(
        rng.choice(['file_name', 'width', 'height', 'id'])))),
    'box of NaN or infinity': set_value('bbox', [NAN, 1, 9, 9], [1, 1, INFINITY, 9], [-INFINITY, 1, 9, 9]),
    'box empty or negative': set_value('bbox', [5, 5, 0, 9], [9, 9, -5, 5], [5, 5, 9, 0]),
    'box outside of the image': set_value('bbox', [500, 5, 9, 9], [-50, -50, 20, 20], [5, 5, 900, 900]),
    'box is no box': set_value('bbox', [1, 2, 3], 'box', None, [[1, 2, 3, 4]], ['1', '2', '3', '4'], {}),
    'category that is not listed': set_value('category_id', 77, 0, -1),
    'category is no number': set_value('category_id', None, [1], {}, NAN),
    'image that is not listed': set_value('image_id', 77),
    'area is no number': set_value('area', None, 'large', NAN, [1]),
    'an id twice': Damage(FILE, changed(lambda labels, a, rng: labels['annotations'].append(dict(a)))),
    'an image twice': Damage(FILE, changed(lambda labels, a, rng: labels['images'].append(
        dict(image_entry(labels, rng), file_name='other.jpg')))),
    'another name of the category': Damage(FILE, changed(lambda labels, a, rng: labels['categories'][0].update(
        name='form'))),
    'image of another size in the file': Damage(FILE, changed(lambda labels, a, rng: image_entry(labels, rng).update(
        width=rng.randrange(10, 60)))),
    'size of an image is no number': Damage(FILE, changed(lambda labels, a, rng: image_entry(labels, rng).update(
        height=rng.choice([None, '64', 0, -64, NAN])))),
    'mask of another size': set_mask(lambda mask, rng: dict(
        mask, size=rng.choice([[64, 63], [6400, 6400], [64], None]))),
    'mask with other runs': set_mask(other_runs),
    'mask of a random string': set_mask(other_string),
    'mask is no mask': set_mask(lambda mask, rng: rng.choice([{}, 'mask', 7, [1, 2, 3, 4, 5, 6], [['a'] * 6], [None]])),
    'polygon of two points or a half': set_mask(polygon(1, 1, 9, 9, 5)),
    'polygon of NaN': set_mask(polygon(1, 1, NAN, 9, 5, 20)),
    'polygon of a billion pixels': set_mask(polygon(1, 1, 10**9 - 1, 9, 5, 10**8)),
    'polygon instead of runs': set_mask(polygon(5, 5, 30, 5, 30, 30, 5, 30), UNKNOWABLE),
}


def roots(data: Path) -> list[str]:
    """Returns the options that name a dataset."""
    return [*(f'{name}_dataloader.dataset.data_root={data}/' for name in ('train', 'val', 'test')),
            *(f'{name}_evaluator.ann_file={data}/annotations/instances_val.json' for name in ('val', 'test'))]


def prepare(box: Sandbox) -> Callable[[int, Random], Case]:
    """Returns a function that makes a case from its number."""
    whole = make_mini_coco(box.work_dir / 'coco', num_train=3, num_val=2, size=64)
    damaged = box.work_dir / 'damaged'

    def make(number: int, rng: Random) -> Case:
        name = list(DAMAGE)[number % len(DAMAGE)]
        damage = DAMAGE[name]
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(whole, damaged)
        split = rng.choice(['train', 'val'])
        path = damaged / f'annotations/instances_{split}.json'
        if damage.part == PICTURES:
            path = rng.choice(sorted((damaged / split).iterdir()))
        damage.apply(path, rng)

        def judge(said: str) -> str:
            if damage.part == FILE:
                return WARNED if 'WARNING' in said and path.name in said else damage.accepted
            if files.same_picture(path, whole / path.relative_to(damaged)):
                return HARMLESS
            return damage.accepted if files.seen(path) is not None else SILENT

        return Case(name, box.train(CONFIG, *SMALL, *workers(number % 2), *roots(damaged)), (path.name, ), judge)

    return make
