import numpy as np
import torch
from mmengine.structures import InstanceData

from mmreplk.mm.reports import examples


class Boxes:
    """A dataset of one image with two objects of class 0, one of class 1 and one to be ignored."""
    metainfo = dict(classes=('a', 'b'))
    boxes = [[0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50], [60, 60, 70, 70]]

    def get_data_info(self, index):
        labels, ignored = (0, 0, 1, 0), (0, 0, 0, 1)
        return dict(instances=[dict(bbox=box, bbox_label=label, ignore_flag=flag)
                               for box, label, flag in zip(self.boxes, labels, ignored, strict=True)])


def detections(*rows):
    boxes, labels, scores = zip(*rows, strict=True)
    pred = InstanceData(bboxes=torch.tensor(boxes).float(), labels=torch.tensor(labels), scores=torch.tensor(scores))
    return type('Sample', (), dict(pred_instances=pred))()


def test_detections_are_matched_once_and_by_class():
    judge = examples._Detection.__new__(examples._Detection)
    judge.dataset, judge.evaluators = Boxes(), {}
    right, shifted = ([0, 0, 10, 10], 0, 0.9), ([0, 1, 10, 11], 0, 0.8)
    wrong_class, unsure = ([40, 40, 50, 50], 0, 0.9), ([20, 20, 30, 30], 0, 0.4)
    assert judge.score(0, detections(right, unsure)) == 2 * 1 / (3 + 1)
    assert judge.score(0, detections(right, shifted)) == 2 * 1 / (3 + 2)
    assert judge.score(0, detections(right, wrong_class)) == 2 * 1 / (3 + 2)
    assert judge.score(0, detections(unsure)) == 0
    perfect = [(box, label, 0.6) for box, label in zip(Boxes.boxes[:3], (0, 0, 1), strict=True)]
    assert judge.score(0, detections(*perfect)) == 1
    assert np.isclose(judge.score(0, detections(*perfect[:2])), 4 / 5)
