import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope

from mmreplk import InputError, RepLKNet
from mmreplk.mm.checks.dataset import dataset_class
from mmreplk.mm.inference import Detections, Predictor, Segmentation, Windows
from mmreplk.mm.inference.classes import known_classes
from mmreplk.mm.inference.sliding_detection import merge
from mmreplk.mm.inference.sliding_segmentation import segment
from mmreplk.weights import read_checkpoint
from mmreplk.weights.conversion import reparameterize_checkpoint
from tests.mm.inference.conftest import DETECTION, SEGMENTATION, picture, save_random, small_config

AGREE = 0.999  # of the labels, where rounding decides between two classes in a few


def test_a_segmentor_predicts_what_the_framework_does_merged(segmentor, checkpoints):
    from mmseg.apis import inference_model, init_model
    cfg = small_config(SEGMENTATION)
    model = init_model(cfg, device='cpu')
    model.load_state_dict(torch.load(checkpoints[SEGMENTATION])['state_dict'])
    cfg.test_pipeline = cfg.test_dataloader.dataset.pipeline
    images = [picture(64, 80, 0), picture(64, 80, 1), picture(64, 80, 2), picture(70, 64, 3)]
    predictions = segmentor(images)
    for image, prediction in zip(images, predictions, strict=True):
        expected = inference_model(model, image).pred_sem_seg.data[0].numpy()
        assert prediction.labels.shape == image.shape[:2] and prediction.labels.dtype == np.uint8
        assert (prediction.labels == expected).mean() > AGREE and len(np.unique(expected)) > 2
        alone, = segmentor([image])
        assert np.array_equal(alone.labels, prediction.labels)
    assert segmentor.merged.large_kernels == 4 and segmentor.merged.batch_norms > 30
    assert not any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in segmentor.model.modules())
    assert segmentor.classes.names[:2] == ('sky', 'building') and segmentor.classes.colours[1].tolist() == [128, 0, 0]


@pytest.mark.parametrize(('size', 'padding', 'wanted', 'align', 'crop', 'stride'), [
    ((64, 96), (0, 0, 0, 0), (64, 96), False, 32, 20),
    ((70, 65), (0, 0, 0, 0), (131, 50), False, (48, 32), (32, 32)),
    ((96, 64), (0, 3, 5, 2), (45, 100), True, 40, 33),
    ((40, 64), (0, 0, 0, 0), (40, 64), True, 48, 48),
])
def test_windows_of_a_segmentor(segmentor, monkeypatch, size, padding, wanted, align, crop, stride):
    from mmseg.structures import SegDataSample
    model, windows = segmentor.model, Windows.of(crop, stride)
    monkeypatch.setattr(model, 'align_corners', align)
    monkeypatch.setattr(model, 'test_cfg', windows_config(windows))
    image = torch.randn(1, 3, *size)
    meta = dict(ori_shape=wanted, img_shape=size, padding_size=padding)
    with torch.no_grad():
        logits = model.slide_inference(image, [dict(meta)])
    expected = model.postprocess_result(logits, [SegDataSample(metainfo=meta)])[0].pred_sem_seg.data[0]
    actual = segment(model, image, meta, windows, batch_size=2)
    assert actual.shape == wanted and (actual == expected).float().mean() > AGREE and len(expected.unique()) > 2


def windows_config(windows):
    from mmengine.config import ConfigDict
    return ConfigDict(mode='slide', crop_size=windows.crop, stride=windows.stride)


def test_windows_are_taken_from_the_config_unless_given(checkpoints):
    cfg = small_config(SEGMENTATION, **{'model.test_cfg': dict(mode='slide', crop_size=(64, 32), stride=(48, 32))})
    predictor = Predictor(cfg, checkpoints[SEGMENTATION], device='cpu')
    assert predictor.windows == Windows((64, 32), (48, 32))
    image = picture(100, 120)
    prediction, = predictor([image])
    sample = next(predictor._forward([image]))
    assert (prediction.labels == sample.pred_sem_seg.data[0].numpy()).mean() > AGREE
    for crop, stride in ((0, 1), (32, 0), (32, 33), ((32, 32, 32), 1)):
        with pytest.raises(InputError, match='a positive stride of at most the size'):
            Windows.of(crop, stride)


def test_a_detector_predicts_what_the_framework_does_merged(detector, checkpoints):
    from mmdet.apis import inference_detector, init_detector
    model = init_detector(small_config(DETECTION), device='cpu')
    model.load_state_dict(torch.load(checkpoints[DETECTION])['state_dict'])
    images = [picture(64, 96, 0), picture(80, 64, 1)]
    for image, prediction in zip(images, detector(images), strict=True):
        expected = inference_detector(model, image).pred_instances
        assert len(prediction.boxes) == len(expected) == len(prediction.masks) > 0
        np.testing.assert_allclose(prediction.scores, expected.scores, atol=1e-4)
        np.testing.assert_allclose(prediction.boxes, expected.bboxes, atol=1e-1)
        assert prediction.size == image.shape[:2] == tuple(prediction.masks[0]['size'])
    assert detector.merged.large_kernels == 4 and detector.classes.names == ('shape', )


def test_windows_of_a_detector(checkpoints):
    predictor = Predictor(small_config(DETECTION), checkpoints[DETECTION], Windows.of(64, 48), 2, 'cpu', 0.0)
    image = picture(64, 150)
    prediction, = predictor([image])
    assert prediction.size == (64, 150) and len(prediction.boxes) > 0
    assert prediction.boxes[:, 2].max() > 64 and prediction.boxes[:, 2].max() <= 150
    assert all(tuple(mask['size']) == (64, 150) for mask in prediction.masks)
    assert (np.diff(prediction.scores) <= 0).all()


def test_an_object_in_two_windows_is_one():
    from pycocotools import mask as coco

    def found(*boxes):
        masks = []
        for left, top, right, bottom, *_ in boxes:
            mask = np.zeros((40, 40), np.uint8, order='F')
            mask[top:bottom, left:right] = 1
            masks.append(coco.encode(mask))
        columns = np.array([box[:4] for box in boxes], float).reshape(-1, 4)
        return Detections(columns, np.array([box[4] for box in boxes]), np.array([box[5] for box in boxes], int), masks,
                          (40, 40), 0.3)

    # Two windows, 30 apart. The first sees half of the object that the second has whole, and is surer; one
    # object in another; and something of another class in the object's place.
    first = found((33, 5, 40, 15, 0.9, 0), (2, 2, 22, 22, 0.6, 0), (5, 5, 15, 15, 0.5, 0), (33, 5, 40, 15, 0.2, 1))
    second = found((3, 5, 17, 15, 0.7, 0), (20, 30, 30, 40, 0.8, 0))
    whole = merge([first, second], [(0, 0), (0, 30)], (40, 70))
    assert whole.scores.tolist() == [0.8, 0.7, 0.6, 0.5, 0.2] and whole.labels.tolist() == [0, 0, 0, 0, 1]
    assert whole.boxes[:2].tolist() == [[50, 30, 60, 40], [33, 5, 47, 15]] and whole.size == (40, 70)
    for box, mask in zip(whole.boxes.astype(int), whole.masks, strict=True):
        expected = np.zeros((40, 70), np.uint8)
        expected[box[1]:box[3], box[0]:box[2]] = 1
        assert np.array_equal(coco.decode(mask), expected)
    nothing = merge([found(), found()], [(0, 0), (0, 30)], (40, 70))
    assert len(nothing.boxes) == 0 and nothing.masks == []


def test_checkpoints_of_every_form_predict_the_same(segmentor, checkpoints, tmp_path):
    image = picture()
    expected, = segmentor([image])
    saved = read_checkpoint(checkpoints[SEGMENTATION])
    for fuse_bn in (False, True):
        path = tmp_path / f'{fuse_bn}.pth'
        torch.save(reparameterize_checkpoint(saved, fuse_bn), path)
        predictor = Predictor(small_config(SEGMENTATION), path, device='cpu')
        assert (predictor([image])[0].labels == expected.labels).mean() > AGREE
        assert isinstance(predictor.model.backbone, RepLKNet) and predictor.model.backbone.is_folded


def test_classes_come_from_the_checkpoint_then_the_config_then_are_made_up(tmp_path):
    for i, (meta, names) in enumerate((
        (dict(dataset_meta=dict(classes=('a', 'b'), palette=[[1, 2, 3]])), ('a', 'b', 'class 2')),
        (dict(CLASSES=['c'], PALETTE=None), ('c', 'class 1', 'class 2')),
        ({}, ('sky', 'building', 'pole')),
    )):
        save_random(SEGMENTATION, tmp_path / f'{i}.pth', **meta)
        classes = Predictor(small_config(SEGMENTATION), tmp_path / f'{i}.pth', device='cpu').classes
        assert classes.names[:3] == names and classes.colours.shape == (11, 3) == (len(classes.names), 3)
        assert len(np.unique(classes.colours, axis=0)) == 11
        if i == 0:
            assert classes.colours[0].tolist() == [1, 2, 3] and classes.palette()[0]['colour'] == '#010203'


def test_what_cannot_be_used_is_said(checkpoints, segmentor, tmp_path):
    cfg, state = small_config(SEGMENTATION), read_checkpoint(checkpoints[SEGMENTATION])['state_dict']
    for edit, words in (
        (lambda s: s.pop('decode_head.conv_seg.bias'), "of another model: it lacks 'decode_head.conv_seg.bias'"),
        (lambda s: s.update({'decode_head.conv_seg.bias': torch.ones(3)}), 'size mismatch for decode_head.conv_seg'),
        (lambda s: s.pop('backbone.stem.0.conv.weight'), "the first 'stem.0.conv.weight'"),
    ):
        edited = dict(state)
        edit(edited)
        torch.save(dict(state_dict=edited), tmp_path / 'edited.pth')
        with pytest.raises(InputError, match=words):
            Predictor(cfg, tmp_path / 'edited.pth', device='cpu')
    with pytest.raises(InputError, match='does not exist'):
        Predictor(cfg, tmp_path / 'none.pth')
    with pytest.raises(InputError, match='batch size must be positive, got 0'):
        Predictor(cfg, tmp_path / 'none.pth', batch_size=0)
    with pytest.raises(InputError, match="model.decode_head.*'number'"):
        Predictor(small_config(SEGMENTATION, **{'model.decode_head.number': 1}), checkpoints[SEGMENTATION])
    cfg.default_scope = 'mmpose'
    with pytest.raises(InputError, match="must be one of mmseg, mmdet in the config, got 'mmpose'"):
        Predictor(cfg, checkpoints[SEGMENTATION])
    init_default_scope('mmseg')
    with pytest.raises(InputError, match='at least 32 pixels'):
        segmentor([picture(16, 16)])


def test_raw_results(segmentor, detector):
    import io
    import json

    from PIL import Image
    from pycocotools import mask as coco
    labels = np.array([[0, 1], [10, 1]], np.uint8)
    image = Image.open(io.BytesIO(Segmentation(labels).raw(segmentor.classes, 'x.jpg')))
    assert image.mode == 'P' and np.array_equal(np.array(image), labels)
    assert np.array_equal(np.array(image.convert('RGB')), segmentor.classes.colours[labels])
    wide = Image.open(io.BytesIO(Segmentation(np.array([[700]], np.uint16)).raw(segmentor.classes, 'x.jpg')))
    assert np.array(wide).tolist() == [[700]]

    prediction, = detector([picture(64, 96)])
    result = json.loads(prediction.raw(detector.classes, 'x.jpg'))
    assert result['images'] == [dict(id=1, file_name='x.jpg', width=96, height=64)]
    assert result['categories'] == [dict(id=1, name='shape')] and len(result['annotations']) == len(prediction.boxes)
    first, box = result['annotations'][0], prediction.boxes[0]
    np.testing.assert_allclose(first['bbox'], [box[0], box[1], box[2] - box[0], box[3] - box[1]], atol=0.01)
    assert np.array_equal(coco.decode(first['segmentation']), coco.decode(prediction.masks[0]))
    assert first['area'] == coco.decode(prediction.masks[0]).sum()


@pytest.mark.parametrize('source', ['checkpoint', 'file', 'coco', 'nowhere'])
def test_categories_have_the_numbers_of_the_data(source, tmp_path, monkeypatch):
    import json
    said = []
    monkeypatch.setattr('mmreplk.mm.inference.classes.print_log', lambda message, **_: said.append(message))
    init_default_scope('mmdet')
    names = dataset_class(dict(type='CocoDataset')).METAINFO['classes'] if source == 'coco' else ('cat', 'dog')
    categories = [dict(id=9, name='other'), dict(id=7, name='cat'), dict(id=3, name='dog')]
    (tmp_path / 'labels.json').write_text(json.dumps(dict(images=[], annotations=[], categories=categories)))
    cfg = small_config(DETECTION, **{'test_dataloader.dataset.ann_file': str(tmp_path / 'labels.json')})
    if source != 'file':
        cfg.test_dataloader.dataset.ann_file = 'none.json'
    meta = dict(classes=names, palette=[(1, 2, 3)], **(dict(category_ids=[7, 3]) if source == 'checkpoint' else {}))
    classes = known_classes(cfg, dict(meta=dict(dataset_meta=meta)), len(names))
    boxes = np.array([[0, 0, 9, 9], [5, 5, 9, 9]], np.float32)
    found = Detections(boxes, np.array([.9, .8]), np.array([0, 1]), None, (10, 10), .3)
    result = json.loads(found.raw(classes, 'x.jpg'))
    first, second = dict(coco=(1, 2), nowhere=(1, 2)).get(source, (7, 3))
    assert [c['id'] for c in result['categories']][:2] == [first, second]
    assert [a['category_id'] for a in result['annotations']] == [first, second]
    if source == 'coco':
        assert (result['categories'][-1], len(result['categories'])) == (dict(id=90, name='toothbrush'), 80)
    assert ['numbered from 1 on' in sentence for sentence in said] == ([True] if source == 'nowhere' else [])


def test_a_config_by_its_path(checkpoints, tmp_path):
    path = tmp_path / 'x.py'
    path.write_text(small_config(SEGMENTATION).pretty_text)
    image = picture(64, 96)
    for given in (path, str(path)):
        prediction, = Predictor(given, checkpoints[SEGMENTATION], device='cpu')([image])
        assert prediction.labels.shape == (64, 96)
    with pytest.raises(InputError, match='cfg must be a Config of MMEngine or the path of a config file, got dict'):
        Predictor(dict(model=None), checkpoints[SEGMENTATION])
    with pytest.raises(InputError, match="config 'none.py' does not exist"):
        Predictor('none.py', checkpoints[SEGMENTATION])


@pytest.mark.parametrize(('images', 'words'), [
    (np.zeros((64, 96, 3), np.uint8), r'must be a list of pictures, even for a single one: \[image\]; got ndarray of '
     r'shape \(64, 96, 3\)'),
    (None, 'must be a list of pictures, .* got NoneType'),
    ('street.jpg', 'must be a list of pictures, .* got str'),
    ([np.zeros((64, 96, 3), np.uint8), None], r'images\[1\] is None, which cv2.imread returns for a file that is'),
    (['street.jpg'], r'images\[0\] must be an array \(H, W, 3\) as OpenCV reads a picture, got str$'),
    ([np.zeros((1, 64, 96, 3), np.uint8)], r'images\[0\] must be .*, got ndarray of shape \(1, 64, 96, 3\)'),
    ([np.zeros((0, 96, 3), np.uint8)], r'images\[0\] must be .*, got ndarray of shape \(0, 96, 3\)'),
])
def test_what_is_no_list_of_pictures(segmentor, detector, images, words):
    for predict in (segmentor, detector):
        with pytest.raises(InputError, match=words):
            predict(images)


def test_a_prediction_over_its_picture(segmentor, detector):
    image = picture(64, 96)
    for predict in (segmentor, detector):
        prediction, = predict([image])
        assert np.array_equal(predict.overlay(image, prediction, 0), image)
        half, whole = predict.overlay(image, prediction), predict.overlay(image, prediction, 1)
        assert half.shape == image.shape and half.dtype == np.uint8 and not np.array_equal(half, whole)
        with pytest.raises(InputError, match='of a picture of 64x96 pixels, height x width, but the picture has 32x96'):
            predict.overlay(image[:32], prediction)
    prediction, = segmentor([image])
    colours = segmentor.classes.colours[prediction.labels]
    assert np.array_equal(segmentor.overlay(image, prediction, 1)[..., ::-1], colours)
