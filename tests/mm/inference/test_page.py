"""The page, used in a browser as a person uses it."""

import base64
import importlib.util
import json
import re
import shutil
import socket
import sys

import cv2
import numpy as np
import pytest

from mmreplk import InputError
from mmreplk.mm.inference import Limits, Predictor, serve
from tests.mm.inference.conftest import DETECTION, picture, small_config

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome', 'chrome'))), None)
DRIVER = shutil.which('chromedriver')
LOCAL = re.compile(r'(https?|ws)://127\.0\.0\.1[:/]|data:|blob:|chrome|about:')


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    if CHROMIUM is None or DRIVER is None:
        pytest.skip('needs chromium and chromedriver, which .ci/run installs')
    from selenium import webdriver
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ('headless=new', 'no-sandbox', 'disable-gpu', 'disable-dev-shm-usage', 'disable-sync',
                     'disable-background-networking', 'disable-component-update', 'no-first-run',
                     'window-size=1300,900', f'user-data-dir={tmp_path_factory.mktemp("chromium")}'):
        options.add_argument(f'--{argument}')
    options.set_capability('goog:loggingPrefs', {'performance': 'ALL', 'browser': 'ALL'})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def asked_names(monkeypatch):
    """The names of machines that this process asks the addresses of."""
    names, original = [], socket.getaddrinfo

    def getaddrinfo(host, *args, **kwargs):
        names.append(host)
        return original(host, *args, **kwargs)

    monkeypatch.setattr(socket, 'getaddrinfo', getaddrinfo)
    return names


class Page:
    """What a person does on the page, and sees."""

    def __init__(self, browser):
        from selenium.webdriver.support.wait import WebDriverWait
        self.browser = browser
        self.wait = WebDriverWait(browser, 30, poll_frequency=0.1)

    def give(self, path):
        self.wait.until(lambda b: b.find_elements('css selector', '#picture input[type=file]'))[0].send_keys(str(path))

    def text(self, selector, pattern=''):
        """Returns the text of the element once it is there and matches."""

        def look(browser):
            text = ' '.join(element.text for element in browser.find_elements('css selector', selector))
            return text if text and re.search(pattern, text) else None

        return self.wait.until(look)

    def layer(self, alt):
        """Returns the image that lies over the picture, once its description matches: BGRA."""

        def look(browser):
            found = browser.find_elements('css selector', '#view img.layer')
            return [e for e in found if re.search(alt, e.get_attribute('alt'))]

        return cv2.imdecode(data_of(self.wait.until(look)[0].get_attribute('src')), cv2.IMREAD_UNCHANGED)

    def opacity(self):
        return float(self.browser.execute_script(
            "return getComputedStyle(document.querySelector('#view img.layer')).opacity"))

    def move_slider(self, percent):
        slider = self.browser.find_element('css selector', '#opacity input[type=range]')
        self.browser.execute_script(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))",
            slider, percent)
        self.wait.until(lambda _: abs(self.opacity() - percent / 100) < 1e-3)

    def save(self, folder):
        """Clicks on the button that saves; returns the picture that the browser downloads: BGR."""
        self.browser.execute_cdp_cmd('Browser.setDownloadBehavior', dict(behavior='allow', downloadPath=str(folder)))
        self.browser.find_element('css selector', '#save').click()
        self.wait.until(lambda _: (folder / 'overlay.jpg').is_file())
        return cv2.imread(str(folder / 'overlay.jpg'))


def data_of(url):
    return np.frombuffer(base64.b64decode(url.partition(',')[2]), np.uint8)


def test_a_picture_is_dropped_and_segmented(segmentor, browser, asked_names, tmp_path):
    cv2.imwrite(str(tmp_path / 'street.png'), picture(64, 96))
    (tmp_path / 'words.png').write_text('no picture')
    (tmp_path / 'notes.txt').write_text('no picture')
    (tmp_path / 'large.png').write_bytes(b'\0' * 300_000)
    cv2.imwrite(str(tmp_path / 'wide.png'), np.zeros((100, 201, 3), np.uint8))
    prediction, = segmentor([picture(64, 96)])
    with serve(segmentor, 'Streets & more', limits=Limits(0.2, 0.02)) as url:
        assert re.match(r'http://127\.0\.0\.1:\d+/$', url)
        browser.get(url)
        page = Page(browser)
        page.text('h1', 'Streets & more')
        page.give(tmp_path / 'street.png')
        largest = segmentor.classes.names[np.bincount(prediction.labels.ravel()).argmax()]
        layer = page.layer(f'^found: {largest} ')
        assert np.array_equal(layer[..., 2::-1], segmentor.classes.colours[prediction.labels])
        assert layer[..., 3].min() == 255
        page.text('#panel .time', r'Predicted in\s+\d+\.\d\d\ss\s+96 . 64 pixels')
        legend = page.text('#panel .legend')
        assert legend.startswith(largest) and len(legend.splitlines()) >= len(np.unique(prediction.labels))
        link = browser.find_element('css selector', '#panel a[download]')
        raw = cv2.imdecode(data_of(link.get_attribute('href')), cv2.IMREAD_COLOR)
        assert raw.shape == (64, 96, 3) and link.get_attribute('download') == 'street.png'

        calls = []
        segmentor_call = Predictor.__call__
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Predictor, '__call__', lambda self, images: calls.append(1) or segmentor_call(self, images))
            assert page.opacity() == 0.5
            for percent in (0, 35):
                page.move_slider(percent)
            expected = 0.65 * picture(64, 96) + 0.35 * segmentor.classes.colours[prediction.labels][..., ::-1]
            assert np.abs(page.save(tmp_path / 'saved') - expected).mean() < 5
            page.move_slider(100)
            assert not calls, 'blending takes no inference'
            # What cannot be taken is said, and the page goes on.
            page.give(tmp_path / 'words.png')
            assert "'words.png' is not a picture" in page.text('#panel [role=alert]', 'words.png')
            page.give(tmp_path / 'wide.png')
            page.text('#panel [role=alert]', "'wide.png' has 201x100 pixels, more than the 0.02 million")
            page.give(tmp_path / 'notes.txt')
            page.text('.toast-body', 'nvalid file type.*notes.txt')
            page.give(tmp_path / 'large.png')
            page.text('.toast-body', 'maximum allowed size of 204.8 K.*large.png')
            assert not calls
            page.give(tmp_path / 'street.png')
            page.layer(f'^found: {largest} ')
            assert calls == [1] and page.opacity() == 1.0, 'the slider stays where it is'
        assert unlabelled(browser) == []
        requested = [json.loads(entry['message'])['message'] for entry in browser.get_log('performance')]
        urls = [m['params']['request']['url'] for m in requested if m['method'] == 'Network.requestWillBeSent']
        assert len(urls) > 10 and [address for address in urls if not LOCAL.match(address)] == []
    assert set(asked_names) <= {'127.0.0.1', 'localhost', None}


def test_objects_are_found_in_an_example(checkpoints, browser, tmp_path):
    predictor = Predictor(small_config(DETECTION), checkpoints[DETECTION], device='cpu', least_score=0.0)
    path = tmp_path / 'example.jpg'
    cv2.imwrite(str(path), picture(64, 96))
    with serve(predictor, 'Shapes', [path]) as url:
        browser.get(url)
        page = Page(browser)
        page.wait.until(lambda b: b.find_elements('css selector', '#examples .thumbnail-item'))[0].click()
        layer = page.layer(r'^found: shape \d+')
        assert layer.shape == (64, 96, 4) and 255 in layer[..., 3]
        assert re.fullmatch(r'shape\s+\d+', page.text('#panel .legend'))
        link = browser.find_element('css selector', '#panel a[download="example.json"]')
        result = json.loads(data_of(link.get_attribute('href')).tobytes())
        assert len(result['annotations']) > 0 and result['images'][0]['file_name'] == 'example.jpg'
        assert unlabelled(browser) == []


def unlabelled(browser):
    """Returns controls and images of the page without a name that a screen reader could say."""
    return browser.execute_script("""
        const named = e => e.ariaLabel || e.title || e.hasAttribute('alt') || e.innerText?.trim() || e.placeholder
            || [...(e.labels || [])].some(label => label.innerText.trim())
            || (e.getAttribute('aria-labelledby') || '').split(' ').some(id => document.getElementById(id));
        const shown = e => e.checkVisibility && e.checkVisibility() && !e.closest('[aria-hidden=true]');
        return [...document.querySelectorAll('img, button, a, input, select, textarea, [role=slider]')]
            .filter(e => shown(e) && !named(e)).map(e => e.outerHTML.slice(0, 300))""")


def test_what_the_page_needs(segmentor, monkeypatch, tmp_path):
    with pytest.raises(InputError, match='must be positive'), serve(segmentor, 'x', limits=Limits(0, 1)):
        pass
    monkeypatch.setitem(sys.modules, 'gradio', None)
    with pytest.raises(InputError, match=r'needs Gradio, which is not installed: pip install "mmreplk\[serve\]"'), \
            serve(segmentor, 'x'):
        pass


@pytest.mark.skipif(importlib.util.find_spec('gradio') is None, reason='needs Gradio, which requirements/tests.txt has')
def test_a_port_that_is_taken_and_an_example_that_is_no_picture(segmentor, tmp_path):
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f'cannot be served at 127.0.0.1, port {port}'), \
                serve(segmentor, 'x', port=port):
            pass
    (tmp_path / 'x.png').write_text('no picture')
    with pytest.raises(InputError, match=r"x.png' is not a picture"), serve(segmentor, 'x', [tmp_path / 'x.png']):
        pass
