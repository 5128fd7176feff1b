import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from mmreplk.mm.reports import Examples, History, write_page
from mmreplk.mm.reports.changes import Change
from mmreplk.mm.reports.examples import Example

HISTORY = History(
    config=Path('runs/<b>.py'),
    training={name: [(10, 2.), (20, 1.)] for name in ('loss', 'lr', 'time', 'data_time', 'peak_rss')},
    validation={'coco/bbox_mAP': [(10, 0.25), (20, 0.125)], 'coco/bbox_mAP_l': [(10, -1.), (20, -1.)]},
    environment='Python: <3>',
    starts=1,
    seconds=90.0)


class Balance(HTMLParser):
    """Fails where an element is not closed."""
    VOID = {'meta', 'img', 'br'}

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_alone(tmp_path):
    picture = np.zeros((10, 3000, 3), np.uint8)
    examples = Examples({'IoU': {'road & rail': 50., 'sky': float('nan')}}, 'IoU', [
        Example(rank, 'a<b>.jpg', 0.5, picture) for rank in ('best', 'median', 'worst')], [0.5] * 3)
    path = tmp_path / 'report.html'
    write_page(path, HISTORY, [Change('a.b', '1', "'<script>'")], examples, 'iter_20.pth')
    text = path.read_text()
    balance = Balance()
    balance.feed(text)
    assert not balance.open
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text), 'nothing is fetched'
    assert '<script>' not in text and '<b>' not in text and text.count('<svg') == 4
    assert '0.125 at the end, 0.25 at best (iteration 10)' in text and 'bbox_mAP_l' not in text
    assert 'road &amp; rail' in text and 'absent' in text and '2 MB resident' in text
    assert text.count('data:image/jpeg;base64,') == 3 and text.count('50.0 %') == 3


def test_a_page_of_curves_alone(tmp_path):
    write_page(tmp_path / 'report.html', HISTORY, None, None, None)
    text = (tmp_path / 'report.html').read_text()
    assert 'Class by class' not in text and '--config names it' in text


@pytest.mark.parametrize('missing', [
    ['lr'], ['time', 'data_time'], ['data_time'], ['lr', 'time', 'data_time', 'peak_rss'],
], ids=' '.join)
def test_a_page_of_a_log_that_lacks_what_a_hook_would_write(tmp_path, missing):
    training = {name: curve for name, curve in HISTORY.training.items() if name not in missing}
    write_page(tmp_path / 'report.html', HISTORY._replace(training=training), None, None, None)
    text = (tmp_path / 'report.html').read_text()
    gone = ('lr' in missing) + {'time', 'data_time'}.issubset(missing)
    assert text.count('<svg') == 4 - gone and ('(median)' in text) == ('time' not in missing)
