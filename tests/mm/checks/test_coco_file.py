import json

import pytest

from mmreplk import InputError
from mmreplk.mm.checks.coco_file import left_out, missing_classes, read_coco
from mmreplk.mm.data import make_mini_coco


@pytest.fixture(scope='module')
def sound(tmp_path_factory):
    root = make_mini_coco(tmp_path_factory.mktemp('coco') / 'mini', num_train=2, num_val=1, size=64)
    return (root / 'annotations/instances_train.json').read_text()


@pytest.fixture
def labels(sound):
    return json.loads(sound)


def read(tmp_path, labels):
    path = tmp_path / 'labels.json'
    path.write_text(labels if isinstance(labels, str) else json.dumps(labels))
    return read_coco(path)


def test_a_sound_file(tmp_path, labels):
    assert read(tmp_path, labels) == labels
    assert not [*left_out(labels, ['shape']), *missing_classes(labels, ['shape'])]


@pytest.mark.parametrize(('content', 'words'), [
    ('', 'is not JSON: Expecting value'), ('{"images": [', 'is not JSON: '), ('[' * 10**5, 'is not JSON: '),
    ('[1]', "is not of COCO's format: its JSON is not an object"),
    ('{"images": 1}', "is not of COCO's format: it has no list of images"),
])
def test_what_is_not_of_the_format(tmp_path, content, words):
    with pytest.raises(InputError, match=f'labels.json {words}'):
        read(tmp_path, content)
    with pytest.raises(InputError, match='none.json cannot be read: No such file'):
        read_coco(tmp_path / 'none.json')


@pytest.mark.parametrize(('kind', 'values', 'words'), [
    ('images', dict(width='64'), 'images lack a file_name, or a width and a height in pixels: 1'),
    ('images', dict(id=2), 'images have the id of others: 2'),
    ('categories', dict(name=None), 'categories lack a name: 1'),
    ('annotations', dict(id=None), 'annotations have no usable id: None'),
    ('annotations', dict(bbox=[1, 2, 3]), 'annotations lack a bbox of four finite numbers: 1'),
    ('annotations', dict(bbox=[1, 2, 3, float('nan')]), 'annotations lack a bbox of four finite numbers: 1'),
    ('annotations', dict(area=float('inf')), 'annotations lack a finite area: 1'),
    ('annotations', dict(segmentation='mask'), 'annotations have a segmentation that is neither polygons nor run'),
    ('annotations', dict(segmentation=[1, 2, 3]), 'annotations have a segmentation that is not a list of polygons'),
    ('annotations', dict(segmentation=[[1, 1, float('nan'), 1, 5, 5]]), 'annotations have a segmentation that is no'),
    ('annotations', dict(segmentation=[[1, 1, 10**400, 1, 5, 5]]), 'annotations have a segmentation that is not a'),
    ('annotations', dict(segmentation=[[1, 1, True, 1, 5, 5]]), 'annotations have a segmentation that is not a'),
    ('annotations', dict(segmentation=[[1, 1, 5, 1, 5, -65]]), 'annotations have polygons that reach far out of their'),
    ('annotations', dict(segmentation=[[1, 1, 10**8, 1, 5, 5]]), 'annotations have polygons that reach far out of'),
    ('annotations', dict(segmentation=dict(size=[64, 63], counts=[0])), 'annotations have masks of another size than'),
    ('annotations', dict(segmentation=dict(size=[64, 64], counts=[4097])), 'annotations have masks whose run lengths'),
    ('annotations', dict(segmentation=dict(size=[64, 64], counts='~~')), 'annotations have masks whose run lengths'),
])
def test_what_would_break_a_run_is_refused(tmp_path, labels, kind, values, words):
    labels[kind][0].update(values)
    with pytest.raises(InputError, match=f'labels.json cannot be used: 1 {words}'):
        read(tmp_path, labels)


def test_run_lengths_as_pycocotools_writes_them(tmp_path, labels):
    masks = pytest.importorskip('pycocotools.mask')
    mask = labels['annotations'][0]['segmentation']
    labels['annotations'][0]['segmentation'] = string = masks.frPyObjects(mask, *mask['size'])
    string['counts'] = string['counts'].decode()
    read(tmp_path, labels)
    string['counts'] = string['counts'][:-1]
    with pytest.raises(InputError, match='1 annotations have masks whose run lengths do not fill their image: 1'):
        read(tmp_path, labels)


@pytest.mark.parametrize(('values', 'words'), [
    (dict(bbox=[5, 5, 0, 9]), '1 annotations have boxes that are empty or reach out of their image: 1'),
    (dict(bbox=[60, 5, 9, 9]), '1 annotations have boxes that are empty or reach out of their image: 1'),
    (dict(image_id=77), '1 annotations are of images that the file does not list: 1'),
    (dict(category_id=77), '1 annotations are of categories that the file does not list: 1'),
    (dict(segmentation=[[1, 1, 2, 2, 3]]),
     '1 annotations have polygons of less than three points, or of an odd number of coordinates: 1'),
])
def test_what_mmdetection_leaves_out_is_said(tmp_path, labels, values, words):
    labels['annotations'][0].update(values)
    assert list(left_out(read(tmp_path, labels), ['shape'])) == [words]


def test_classes_that_would_get_the_number_of_others(labels):
    labels['categories'].append(dict(id=2, name='other'))
    labels['annotations'][0]['category_id'] = 2
    assert list(left_out(labels, ['other', 'shape'])) == [
        "MMDetection numbers the classes as the file lists them, not as the config does: ['shape', 'other']"
    ]
    assert list(missing_classes(labels, ['shape', 'none'])) == [
        '1 classes of the config are not categories of the file: none'
    ]
