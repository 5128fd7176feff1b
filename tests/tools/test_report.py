"""A report of a real, short run of each kind."""

import re

from tests.tools.processes import tool


def test_report_of_a_segmentor(trained, data_options, tmp_path):
    page = tmp_path / 'report.html'
    result = tool('report.py', trained, '--out', page, '--cfg-options', *data_options)
    assert result.returncode == 0, result.stderr
    text = page.read_text()
    *_, last = mious = list(map(float, re.findall(r'mIoU: ([0-9.]+)', next(trained.glob('*/*.log')).read_text())))
    assert f'{last:.4g} at the end, {max(mious):.4g} at best' in text
    mean = float(re.findall(r'<th>mean</th><td class="number">([0-9.]+)', text)[0])
    assert abs(mean - max(mious)) < 0.06, 'what the report counts is what MMSegmentation counts'
    assert 'MB resident' in text and text.count('data:image/jpeg') == 3
    assert '<code>train_cfg.max_iters</code>' in text and 'PyTorch' in text


def test_report_of_a_detector(masks, tmp_path):
    options, work_dir, log = masks
    page = tmp_path / 'report.html'
    result = tool('report.py', work_dir, '--out', page, '--cfg-options', *options)
    assert result.returncode == 0, result.stderr
    text = page.read_text()
    for name, title in (('bbox', 'box AP'), ('segm', 'mask AP')):
        ap = float(re.findall(rf'coco/{name}_mAP: (\S+)', log)[-1])
        assert f'{title} (%)' in text and f'{ap:.4g} at the end' in text
    assert text.count('data:image/jpeg') == 3


def test_a_report_of_curves_alone(trained, tmp_path):
    result = tool('report.py', trained, '--out', tmp_path / 'report.html', '--no-examples')
    assert result.returncode == 0 and 'data:image' not in (tmp_path / 'report.html').read_text()
