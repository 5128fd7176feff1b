"""Boxes, with or without masks."""

import json
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .classes import Classes
from .overlays import Entry

FILL = 140  # opacity of masks, out of 255; outlines are opaque


@dataclass(frozen=True)
class Detections:
    """What a detector finds in a picture.

    Attributes:
        boxes: ``(N, 4)``, float: left, top, right, bottom, in pixels.
        scores: ``(N,)``, float.
        labels: ``(N,)``, int: indices of the model's classes.
        masks: Run lengths as pycocotools makes them, one for each box; None for a detector without masks.
        size: Height and width of the picture.
        least_score: The least score of boxes that are drawn and counted; the raw result has all of them.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: list[dict] | None
    size: tuple[int, int]
    least_score: float
    suffix: ClassVar[str] = '.json'

    def layer(self, classes: Classes) -> np.ndarray:
        """Returns what is laid over the picture: RGBA ``(H, W, 4)``, uint8, transparent where nothing was found."""
        layer = np.zeros((*self.size, 4), np.uint8)
        line = max(1, round(min(self.size) / 350))
        shown = np.flatnonzero(self.scores >= self.least_score)
        shown = shown[np.argsort(self.scores[shown], kind='stable')]  # the surest on top
        for i in shown if self.masks else ():
            self._fill(layer, i, classes, line)
        image = Image.fromarray(layer)
        draw = ImageDraw.Draw(image)
        font = ImageFont.load_default(max(10, min(self.size) / 45))
        for i in shown:
            left, top, right, bottom = self.boxes[i].tolist()
            colour = tuple(classes.colours[self.labels[i]].tolist())
            if not self.masks:
                corners = left, top, max(left, right - 1), max(top, bottom - 1)
                draw.rectangle(corners, outline=(*colour, 255), width=line)
            text = f'{classes.names[self.labels[i]]} {self.scores[i]:.0%}'
            width, height = draw.textbbox((0, 0), text, font)[2:]
            if width < right - left and 2 * height < bottom - top:  # captions would hide small objects
                draw.rectangle((left, top, left + width + 4, top + height + 4), fill=(*colour, 255))
                draw.text((left + 2, top + 1), text, _readable(colour), font)
        return np.asarray(image)

    def _fill(self, layer: np.ndarray, i: int, classes: Classes, line: int) -> None:
        from pycocotools import mask as coco  # comes with MMDetection
        colour = classes.colours[self.labels[i]].tolist()
        x, y, width, height = coco.toBbox(self.masks[i]).astype(int).tolist()
        inside = np.ascontiguousarray(coco.decode(self.masks[i])[y:y + height, x:x + width])
        layer[y:y + height, x:x + width][inside.astype(bool)] = (*colour, FILL)
        outlines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=(x, y))
        cv2.drawContours(layer, outlines, -1, (*colour, 255), line)

    def legend(self, classes: Classes) -> list[Entry]:
        """Returns the classes in the picture, the most frequent first, with the number of each."""
        found, counts = np.unique(self.labels[self.scores >= self.least_score], return_counts=True)
        order = np.argsort(-counts, kind='stable')
        return [Entry(classes.names[found[i]], tuple(classes.colours[found[i]].tolist()), str(counts[i]))
                for i in order]

    def raw(self, classes: Classes, file_name: str) -> bytes:
        """Returns JSON in COCO's format: one image, the categories, one annotation for each box.

        Boxes are left, top, width and height. Annotations also have the ``score``, and masks, as compressed run
        lengths, in ``segmentation``.
        """
        height, width = self.size
        result = dict(
            images=[dict(id=1, file_name=file_name, width=width, height=height)],
            categories=[dict(id=classes.category_id(label), name=name) for label, name in enumerate(classes.names)],
            annotations=[self._annotation(i, classes) for i in range(len(self.boxes))])
        return json.dumps(result).encode()

    def _annotation(self, i: int, classes: Classes) -> dict:
        left, top, right, bottom = self.boxes[i].tolist()
        box = [round(value, 2) for value in (left, top, right - left, bottom - top)]
        annotation = dict(id=i + 1, image_id=1, category_id=classes.category_id(int(self.labels[i])), bbox=box,
                          area=box[2] * box[3], iscrowd=0, score=round(float(self.scores[i]), 4))
        if self.masks:
            from pycocotools import mask as coco
            size, counts = self.masks[i]['size'], self.masks[i]['counts'].decode()
            annotation.update(area=int(coco.area(self.masks[i])), segmentation=dict(size=list(size), counts=counts))
        return annotation


def _readable(colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Returns black or white, whichever is read more easily on ``colour``."""
    luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    return (0, 0, 0, 255) if luminance > 140 else (255, 255, 255, 255)
