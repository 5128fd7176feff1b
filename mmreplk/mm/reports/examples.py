"""How well a model does class by class, and on which images it does best and worst."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch.utils.data import Dataset

from ...benchmarks import class_iou, count_pixels
from ...errors import InputError
from ...merging import reparameterized
from ...pictures.contact_sheet import instance_row, label_row
from ...weights.conversion import load_whole
from ...weights.files import read_checkpoint
from ..data.reading import PipelineReader, pipeline_of, shown

IOU, SCORE = 0.5, 0.5  # the least overlap at which a detection is right, and the least score at which it counts


class Example(NamedTuple):
    """An image, its truth and its prediction."""
    rank: str
    path: str
    score: float  # between 0 and 1
    picture: np.ndarray  # (H, W', 3), uint8, BGR: the three side by side


class Examples(NamedTuple):
    """A model on the images of its validation split."""
    per_class: dict[str, dict[str, float]]  # by the measure's name, then by class, in percent; nan for what is absent
    measure: str  # what images are ranked by
    chosen: list[Example]  # best, median, worst
    scores: list[float]  # of all images


def find_examples(cfg: Config,
                  checkpoint: str | Path,
                  device: str = 'cpu',
                  progress: Callable[[Iterable], Iterable] = iter) -> Examples:
    """Evaluates a checkpoint, merged, on the validation split of its config.

    Segmentation is judged by IoU, an image by the mean over the classes that it shows. Detection is judged by COCO's
    AP; an image by F1 of the detections that score at least 0.5, matched to true boxes of their class by IoU 0.5.

    Args:
        cfg: A config of MMSegmentation or MMDetection.
        checkpoint: The weights of the whole model.
        device: Where to compute.
        progress: Wraps the iteration over the images.

    Raises:
        InputError: If the checkpoint cannot be read or is of another model, or the split has no annotations.
    """
    init_default_scope(cfg.default_scope)
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    model = MODELS.build(cfg.model).to(device).eval()
    load_whole(model, read_checkpoint(checkpoint), str(checkpoint))
    read = PipelineReader(pipeline_of(cfg.val_dataloader.dataset))
    judge = (_Detection if cfg.default_scope == 'mmdet' else _Segmentation)(dataset, cfg.val_evaluator, read)
    with reparameterized(model), torch.no_grad():
        scores = [judge.score(index, _predict(model, dataset, index)) for index in progress(range(len(dataset)))]
        order = sorted(range(len(dataset)), key=scores.__getitem__)
        ranks = dict(best=order[-1], median=order[len(order) // 2], worst=order[0])
        chosen = [Example(rank, dataset.get_data_info(index)['img_path'], scores[index],
                          judge.draw(index, _predict(model, dataset, index)))
                  for rank, index in ranks.items()]
    return Examples(judge.per_class(), judge.measure, chosen, scores)


def _predict(model: torch.nn.Module, dataset: Dataset, index: int) -> object:
    return model.val_step(pseudo_collate([dataset[index]]))[0].cpu()


class _Segmentation:
    measure = 'mean IoU over the classes that the image shows'

    def __init__(self, dataset: Dataset, _: dict, read: PipelineReader):
        self.read, self.dataset, self.classes = read, dataset, dataset.metainfo['classes']
        self.counts = np.zeros((len(self.classes), len(self.classes)), np.int64)

    def score(self, index: int, sample: object) -> float:
        if 'gt_sem_seg' not in sample:
            raise InputError('the validation pipeline loads no annotations, with which predictions are compared')
        truth, predicted = (labels.data[0].numpy() for labels in (sample.gt_sem_seg, sample.pred_sem_seg))
        counts = count_pixels(truth, predicted, len(self.classes))
        self.counts += counts
        seen = counts.sum(1) > 0
        return float(class_iou(counts)[seen].mean()) / 100 if seen.any() else 1.0

    def per_class(self) -> dict[str, dict[str, float]]:
        return dict(IoU=dict(zip(self.classes, class_iou(self.counts).tolist(), strict=True)))

    def draw(self, index: int, sample: object) -> np.ndarray:
        maps = [label.data[0].numpy().astype(np.uint8) for label in (sample.gt_sem_seg, sample.pred_sem_seg)]
        return label_row(shown(self.read(sample.img_path)), *maps, self.dataset.metainfo['palette'])


class _Detection:
    measure = f'F1 of detections that score at least {SCORE}, at IoU {IOU}'

    def __init__(self, dataset: Dataset, evaluators: dict | list[dict], read: PipelineReader):
        self.read, self.dataset = read, dataset
        coco = next(e for e in (evaluators if isinstance(evaluators, list) else [evaluators]) if 'metric' in e)
        kinds = coco.metric if isinstance(coco.metric, list) else [coco.metric]
        # One each: classwise results of boxes and masks have the same names.
        self.evaluators = {kind: Evaluator([dict(coco, metric=kind, classwise=True)]) for kind in kinds}
        for evaluator in self.evaluators.values():
            evaluator.dataset_meta = dataset.metainfo

    def score(self, index: int, sample: object) -> float:
        for evaluator in self.evaluators.values():
            evaluator.process([sample])
        true, found = self._truth(index), self._found(sample)
        if not true and not len(found):
            return 1.0
        return 2 * self._matches(true, found) / (len(true) + len(found))

    def _truth(self, index: int) -> list[dict]:
        return [i for i in self.dataset.get_data_info(index)['instances'] if not i.get('ignore_flag')]

    def _found(self, sample: object) -> object:
        return sample.pred_instances[sample.pred_instances.scores >= SCORE]

    def _matches(self, true: list[dict], found: object) -> int:
        """Counts matches: from the surest on, each takes the free true box of its class that it overlaps most."""
        from pycocotools import mask as coco  # comes with MMDetection
        if not true or not len(found):
            return 0
        truth = np.array([instance['bbox'] for instance in true], float)
        labels = np.array([instance['bbox_label'] for instance in true])
        boxes = found.bboxes.numpy().astype(float)
        sides = [np.concatenate([b[:, :2], b[:, 2:] - b[:, :2]], 1) for b in (boxes, truth)]
        overlaps = coco.iou(*sides, [0] * len(true))
        overlaps[found.labels.numpy()[:, None] != labels] = 0
        matches = 0
        for i in found.scores.argsort(descending=True).tolist():
            best = overlaps[i].argmax()
            if overlaps[i, best] >= IOU:
                matches += 1
                overlaps[:, best] = 0
        return matches

    def per_class(self) -> dict[str, dict[str, float]]:
        tables = {}
        for kind, evaluator in self.evaluators.items():
            results = evaluator.evaluate(len(self.dataset))
            values = [next(v for k, v in results.items() if k.endswith(f'{name}_precision'))
                      for name in self.dataset.metainfo['classes']]
            name = 'mask AP' if kind == 'segm' else 'box AP'
            tables[name] = {c: 100 * v for c, v in zip(self.dataset.metainfo['classes'], values, strict=True)}
        return tables

    def draw(self, index: int, sample: object) -> np.ndarray:
        true, found = self._truth(index), self._found(sample)
        if 'masks' in found:
            shapes = [instance['mask'] for instance in true], list(found.masks.numpy())
        else:
            shapes = [np.array(instance['bbox']) for instance in true], list(found.bboxes.numpy())
        return instance_row(shown(self.read(sample.img_path)), *shapes)
