"""Predictions of files: pictures, videos, and folders of them."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ...errors import InputError
from ...io import write_whole
from .classes import Classes
from .media import VIDEO_SUFFIXES, VideoReader, VideoWriter
from .overlays import legend_sheet
from .predictor import Prediction, Predictor

T = TypeVar('T')
COMPLETE = 0.9  # of the frames that a video says it has, an estimate in some formats; fewer are taken for damage


class Job(NamedTuple):
    """A file to predict, and where the results go.

    Attributes:
        source: The picture or video.
        raw: File of the raw result; for a video, the folder with those of its frames.
        overlay: Picture or video of the prediction laid over it, written last: if it is there, all is.
    """
    source: Path
    raw: Path
    overlay: Path

    @property
    def is_video(self) -> bool:
        return self.source.suffix.lower() in VIDEO_SUFFIXES


def find_jobs(paths: Sequence[str | Path], out: str | Path, suffix: str) -> list[Job]:
    """Lists what there is to predict, and where it goes: ``out/raw`` and ``out/overlays``, under the same names.

    Args:
        paths: Files, and folders that are searched with all their subfolders. Hidden ones, and ``out`` itself, are left
            out; whatever else is not a video by its name is taken for a picture.
        out: The folder of the results.
        suffix: Suffix of the raw results of pictures.

    Raises:
        InputError: If a path does not exist, nothing is found, or results of two files would have the same name.
    """
    out, jobs = Path(out), []
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f'{str(path)!r} does not exist')
        root = path if path.is_dir() else path.parent
        for source in list_files(path, out) if path.is_dir() else [path]:
            name = source.relative_to(root).with_suffix('')
            is_video = source.suffix.lower() in VIDEO_SUFFIXES
            jobs.append(Job(source, out / 'raw' / (name if is_video else f'{name}{suffix}'),
                            out / 'overlays' / f'{name}{".mp4" if is_video else ".jpg"}'))
    if not jobs:
        raise InputError(f'there is no file in {", ".join(map(repr, map(str, paths)))}')
    sources: dict[Path, Path] = {}
    for job in jobs:
        other = sources.setdefault(job.overlay.with_suffix(''), job.source)
        if other != job.source:
            raise InputError(f'the results of {str(other)!r} and {str(job.source)!r} would have the same name: give '
                             'them separately, each with an --out of its own')
    return list(dict.fromkeys(jobs))


def list_files(folder: Path, without: Path | None = None) -> Iterator[Path]:
    """Yields the files in a folder and its subfolders, in order, except hidden ones and those in ``without``."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith('.') or (without and entry.resolve() == without.resolve()):
            continue
        if entry.is_dir():
            yield from list_files(entry, without)
        else:
            yield entry


def check_new(jobs: Sequence[Job], force: bool = False, skip: bool = False) -> list[Job]:
    """Returns the jobs to do: all, or with ``skip`` those without results.

    Raises:
        InputError: If there are results that neither ``force`` replaces nor ``skip`` keeps.
    """
    if force:
        return list(jobs)
    existing = [job for job in jobs if job.raw.exists() or job.overlay.exists()]
    if existing and not skip:
        raise InputError(f'{len(existing)} of {len(jobs)} results are there already, the first that of '
                         f'{str(existing[0].source)!r}: --force replaces them, --skip-existing keeps them and does the '
                         'rest')
    return [job for job in jobs if not job.overlay.exists()]


def predict_files(predictor: Predictor, jobs: Sequence[Job], out: str | Path, opacity: float = 0.5,
                  force: bool = False) -> dict[Path, str]:
    """Predicts files and writes raw results and overlays, each whole or not at all, with a progress bar.

    A file that cannot be read or predicted is named, and the others are predicted all the same.

    Args:
        predictor: The model.
        jobs: What to predict, and where to write it.
        out: The folder of the results, for ``classes.json`` and ``classes.png``: labels, names and colours.
        opacity: Opacity of the prediction over the picture, 0 to 1.
        force: Replace the ``classes.json`` of another model.

    Returns:
        For every file that failed, why.

    Raises:
        InputError: If ``out`` has results of a model with other classes.
    """
    _write_classes(predictor.classes, Path(out), force)
    writer = _Writer(predictor, opacity)
    videos = [job for job in jobs if job.is_video]
    pictures = [job for job in jobs if not job.is_video]
    with writer.progress:
        writer.expect(len(pictures) + sum(map(_count_frames, videos)))
        for batch in _batches(pictures, predictor.batch_size):
            writer.pictures(batch)
        for job in videos:
            writer.video(job)
    return writer.failures


class _Writer:
    """Predicts pictures and videos, writes the results and counts them."""

    def __init__(self, predictor: Predictor, opacity: float):
        self.predictor = predictor
        self.opacity = opacity
        self.failures: dict[Path, str] = {}
        self.progress = Progress(TextColumn('predicting'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                                 console=Console(stderr=True))

    def expect(self, total: int) -> None:
        self._task = self.progress.add_task('', total=total)

    def pictures(self, jobs: Sequence[Job]) -> None:
        images = []
        for job in jobs:
            try:
                images.append((job, self.predictor.read(job.source)))
            except InputError as error:
                self._fail(job, error)
        predictions = _each(self.predictor, [image for _, image in images])
        for (job, image), prediction in zip(images, predictions, strict=True):
            if isinstance(prediction, InputError):
                self._fail(job, prediction)
                continue
            write_whole(prediction.raw(self.predictor.classes, job.source.name), job.raw)
            overlay = self.predictor.overlay(image, prediction, self.opacity)
            write_whole(cv2.imencode('.jpg', overlay)[1].tobytes(), job.overlay)
            self.progress.advance(self._task)

    def video(self, job: Job) -> None:
        count = 0
        try:
            with VideoReader(job.source) as video, VideoWriter(job.overlay, video.rate) as overlay:
                for frames in _batches(video, self.predictor.batch_size):
                    for frame, prediction in zip(frames, self.predictor(frames), strict=True):
                        path = job.raw / f'{count:06}{prediction.suffix}'
                        write_whole(prediction.raw(self.predictor.classes, f'{job.source.name}/{path.stem}'), path)
                        overlay.write(self.predictor.overlay(frame, prediction, self.opacity))
                        count += 1
                        self.progress.advance(self._task)
            if count < COMPLETE * video.count:
                raise InputError(f'{str(job.source)!r} ends after {count} of {video.count} frames; they were predicted')
        except InputError as error:
            self._fail(job, error, 0)

    def _fail(self, job: Job, error: InputError, steps: int = 1) -> None:
        name = repr(str(job.source))
        message = str(error) if name in str(error) else f'{name}: {error}'
        self.failures[job.source] = message
        self.progress.console.print(message, style='red', markup=False, highlight=False, soft_wrap=True)
        self.progress.advance(self._task, steps)


def _each(predictor: Predictor, images: Sequence[np.ndarray]) -> list[Prediction | InputError]:
    """Returns a prediction or an error for each image; the predictor itself raises one error for all of them."""
    try:
        return predictor(images)
    except InputError as error:
        return [error] if len(images) == 1 else [result for image in images for result in _each(predictor, [image])]


def _count_frames(job: Job) -> int:
    with suppress(InputError), VideoReader(job.source) as video:
        return video.count
    return 0


def _batches(items: Sequence[T] | Iterator[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _write_classes(classes: Classes, out: Path, force: bool) -> None:
    path, text = out / 'classes.json', json.dumps(classes.palette(), indent=1)
    if path.exists() and path.read_text() != text and not force:
        raise InputError(f'{str(out)!r} has results of a model with other classes: name another folder')
    write_whole(text.encode(), path)
    write_whole(cv2.imencode('.png', legend_sheet(classes))[1].tobytes(), out / 'classes.png')
