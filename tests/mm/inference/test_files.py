import json

import cv2
import numpy as np
import pytest
from PIL import Image

from mmreplk import InputError
from mmreplk.mm.inference import Detections, Segmentation, check_new, find_jobs, predict_files
from mmreplk.mm.inference.media import VideoReader, VideoWriter
from mmreplk.mm.inference.overlays import blend
from tests.mm.inference.conftest import picture


@pytest.fixture
def folder(tmp_path):
    """Three good pictures, two of them of one size, a good video, and what cannot be predicted."""
    root = tmp_path / 'in'
    (root / 'sub').mkdir(parents=True)
    for i, (name, size) in enumerate({'a.jpg': (64, 72), 'b.png': (64, 72), 'sub/c.d.bmp': (48, 64)}.items()):
        cv2.imwrite(str(root / name), picture(*size, i))
    (root / 'cut.jpg').write_bytes((root / 'a.jpg').read_bytes()[:-300])
    (root / 'notes.txt').write_text('no picture')
    (root / '.hidden').write_text('left out')
    cv2.imwrite(str(root / 'tiny.png'), picture(16, 16))
    with VideoWriter(root / 'v.mp4', 10) as video:
        for i in range(3):
            video.write(picture(48, 64, i))
    (root / 'w.mp4').write_bytes(b'no video')
    return root


def test_a_folder_goes_on_past_what_cannot_be_predicted(segmentor, folder, tmp_path, capsys):
    out = tmp_path / 'out'
    jobs = find_jobs([folder], out, Segmentation.suffix)
    failures = predict_files(segmentor, jobs, out, opacity=0.5)
    assert {path.name for path in failures} == {'cut.jpg', 'notes.txt', 'tiny.png', 'w.mp4'}
    assert 'images must be at least 32 pixels high and wide' in failures[folder / 'tiny.png']
    said = capsys.readouterr().err
    assert all(message in said for message in failures.values()) and '9/9' in said
    written = {str(path.relative_to(out)) for path in out.rglob('*') if path.is_file()}
    frames = {f'raw/v/00000{i}.png' for i in range(3)}
    assert written == frames | {'classes.json', 'classes.png', 'overlays/v.mp4', 'overlays/a.jpg', 'overlays/b.jpg',
                                'overlays/sub/c.d.jpg', 'raw/a.png', 'raw/b.png', 'raw/sub/c.d.png'}
    image = cv2.imread(str(folder / 'b.png'))
    prediction, = segmentor([image])
    assert np.array_equal(np.array(Image.open(out / 'raw/b.png')), prediction.labels)
    overlay = cv2.imread(str(out / 'overlays/b.jpg')).astype(int)
    assert np.abs(overlay - blend(image, prediction.layer(segmentor.classes), 0.5)).mean() < 12
    with VideoReader(out / 'overlays/v.mp4') as video:
        assert video.count == 3 and video.rate == 10
    assert json.loads((out / 'classes.json').read_text())[3] == dict(label=3, name='road', colour='#804080')


def test_a_detector_writes_what_cocos_tools_read(detector, folder, tmp_path):
    from pycocotools.coco import COCO
    jobs = find_jobs([folder / 'a.jpg', folder / 'v.mp4'], tmp_path / 'out', Detections.suffix)
    assert predict_files(detector, jobs, tmp_path / 'out') == {}
    for name, size in (('a.json', (64, 72)), ('v/000002.json', (48, 64))):
        result = COCO(tmp_path / 'out/raw' / name)
        assert len(result.anns) > 0 and result.annToMask(result.anns[1]).shape == size
    assert (tmp_path / 'out/overlays/a.jpg').is_file() and (tmp_path / 'out/overlays/v.mp4').is_file()


def test_results_that_are_there_are_kept(segmentor, folder, tmp_path):
    out = folder / 'out'  # in what is searched, and left out of it
    jobs = find_jobs([folder / 'a.jpg'], out, '.png')
    assert check_new(jobs) == jobs
    predict_files(segmentor, jobs, out)
    before = (out / 'overlays/a.jpg').read_bytes()
    jobs = find_jobs([folder / 'a.jpg', folder], out, '.png')
    assert len(jobs) == 8 and not any('out' in job.source.parts for job in jobs)
    with pytest.raises(InputError, match=r"1 of 8 results are there already, the first that of .*a.jpg': --force repl"):
        check_new(jobs)
    rest = check_new(jobs, skip=True)
    assert len(rest) == 7 and folder / 'a.jpg' not in [job.source for job in rest]
    assert check_new(jobs, force=True) == jobs
    (out / 'overlays/a.jpg').unlink()  # as if it had been interrupted
    assert check_new(jobs, skip=True) == jobs
    (out / 'classes.json').write_text('[]')
    with pytest.raises(InputError, match='has results of a model with other classes'):
        predict_files(segmentor, jobs[:1], out)
    predict_files(segmentor, [job for job in jobs if job.source.name == 'a.jpg'], out, force=True)
    assert (out / 'overlays/a.jpg').read_bytes() == before


def test_what_there_is_to_predict(tmp_path):
    with pytest.raises(InputError, match='none.jpg. does not exist'):
        find_jobs([tmp_path / 'none.jpg'], tmp_path / 'out', '.png')
    with pytest.raises(InputError, match='there is no file in'):
        find_jobs([tmp_path], tmp_path / 'out', '.png')
    for name in ('a.jpg', 'a.png'):
        (tmp_path / name).write_bytes(b'x')
    with pytest.raises(InputError, match=r"a.jpg' and .*a.png' would have the same name"):
        find_jobs([tmp_path], tmp_path / 'out', '.png')
    jobs = find_jobs([tmp_path / 'a.jpg', str(tmp_path / 'a.jpg')], 'out', '.png')
    assert [(str(job.raw), str(job.overlay)) for job in jobs] == [('out/raw/a.png', 'out/overlays/a.jpg')]


def test_a_video_that_is_cut_short_is_named(segmentor, tmp_path):
    path = tmp_path / 'x.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48))
    for i in range(8):
        writer.write(picture(48, 64, i))
    writer.release()
    data = path.read_bytes()
    path.write_bytes(data[:len(data) // 2])
    failures = predict_files(segmentor, find_jobs([path], tmp_path / 'out', '.png'), tmp_path / 'out')
    assert 'of 8 frames; they were predicted' in failures[path]
    assert (tmp_path / 'out/overlays/x.mp4').is_file() and (tmp_path / 'out/raw/x/000000.png').is_file()


def test_blending():
    image, layer = np.full((1, 3, 3), 100, np.uint8), np.zeros((1, 3, 4), np.uint8)
    layer[0, 0], layer[0, 1] = (255, 0, 50, 255), (255, 0, 50, 128)
    assert blend(image, layer, 1).tolist() == [[[50, 0, 255], [75, 50, 178], [100, 100, 100]]]
    assert blend(image, layer, 0.5)[0, 0].tolist() == [75, 50, 178]
    assert blend(image, layer, 0).tolist() == image.tolist()


def test_small_objects_are_not_hidden_by_captions(detector):
    boxes = np.array([[2, 2, 8, 8], [10, 10, 190, 190]], float)
    found = Detections(boxes, np.array([0.9, 0.8]), np.array([0, 0]), None, (200, 200), 0.3)
    layer = found.layer(detector.classes)
    assert layer[4:6, 4:6].sum() == 0 and layer[2, 2].tolist() == [220, 20, 60, 255]
    assert layer[12:20, 12:40, 3].min() == 255 and layer[100, 100, 3] == 0
    assert found.legend(detector.classes) == [('shape', (220, 20, 60), '2')]
    unsure = Detections(boxes, np.array([0.1, 0.2]), np.array([0, 0]), None, (200, 200), 0.3)
    assert unsure.layer(detector.classes).sum() == 0 and unsure.legend(detector.classes) == []
