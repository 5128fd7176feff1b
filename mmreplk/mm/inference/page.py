"""A web page that shows what the model sees in the picture that is dropped on it."""

import base64
import html
import os
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ...errors import InputError
from ...io import read_image
from .overlays import Entry
from .predictor import Predictor

FORMATS = {'JPEG': ('.jpg', '.jpeg'), 'PNG': ('.png', ), 'WEBP': ('.webp', )}  # by Pillow's names
SHOWN, THUMBNAIL = 1600, 240  # pixels of the longer side of what is sent to the page; the raw result has all
UPLOADS_KEPT = 600  # seconds
# A browser fetches nothing from elsewhere, whatever Gradio's pages name. Gradio's code needs the unsafe parts.
POLICY = ("default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
          "style-src 'self' 'unsafe-inline'; frame-ancestors 'self'")
EMPTY = '<div class="mmreplk-view empty">The picture and its prediction appear here.</div>'
SET_OPACITY = "value => { document.documentElement.style.setProperty('--opacity', value / 100); }"
SAVE_OVERLAY = """() => {
  const [picture, layer] = document.querySelectorAll('.mmreplk-view img');
  if (!layer) return;
  const canvas = Object.assign(document.createElement('canvas'),
                               { width: picture.naturalWidth, height: picture.naturalHeight });
  const context = canvas.getContext('2d');
  context.drawImage(picture, 0, 0);
  context.globalAlpha = Number(getComputedStyle(layer).opacity);
  context.drawImage(layer, 0, 0, canvas.width, canvas.height);
  Object.assign(document.createElement('a'), { href: canvas.toDataURL('image/jpeg', 0.92), download: 'overlay.jpg' })
    .click();
}"""


class Limits(NamedTuple):
    """The largest upload: a file's size in MB of 2**20 bytes, a picture's in millions of pixels."""
    megabytes: float = 20
    megapixels: float = 25


@contextmanager
def serve(predictor: Predictor,
          title: str,
          examples: Sequence[Path] = (),
          limits: Limits | None = None,
          host: str = '127.0.0.1',
          port: int | None = None) -> Iterator[str]:
    """Serves the page as long as the ``with`` lasts, to this machine alone unless ``host`` says otherwise.

    Nothing is fetched from or sent to anywhere else, by the server or by the page. What is uploaded is deleted after
    ten to twenty minutes, and at the end.

    Args:
        predictor: The model.
        title: The heading of the page.
        examples: Pictures that the page offers.
        limits: The largest file and picture that are taken; None for the default ones.
        host: Address to listen on: ``'0.0.0.0'`` for every network of the machine.
        port: Port to listen on; None for the first free one from 7860 on.

    Yields:
        The address of the page.

    Raises:
        InputError: If Gradio is not installed, a limit is not positive, an example is not a picture, or the page cannot
            be served at ``host`` and ``port``.
    """
    limits = limits or Limits()
    if not all(limit > 0 for limit in limits):  # nor NaN
        raise InputError(f'the largest file and picture must be positive, got {limits.megabytes:g} MB and '
                         f'{limits.megapixels:g} megapixels')
    if port is not None and not 0 < port < 2**16:
        raise InputError(f'the port must be from 1 to 65535, got {port}')
    try:
        socket.getaddrinfo(host, port)  # Gradio would ask again for each of a hundred ports
    except OSError as error:
        raise InputError(f'{host!r} is not an address to listen on: {error.strerror}') from error
    with tempfile.TemporaryDirectory(prefix='mmreplk-') as folder, _environment(
            GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED='False', HF_HUB_DISABLE_TELEMETRY='1'):
        try:
            import gradio
            from starlette.middleware import Middleware
        except ImportError as error:
            raise InputError('the page needs Gradio, which is not installed: pip install "mmreplk[serve]", or '
                             f'"gradio>=6" alone ({error})') from error
        page = _build(gradio, predictor, title, examples, limits)
        # The first prediction of a process takes longer than others.
        predictor([np.zeros((256, 256, predictor.read.channels), np.uint8)])
        theme = gradio.themes.Soft(primary_hue='teal', neutral_hue='slate', font=['system-ui', 'sans-serif'],
                                   font_mono=['ui-monospace', 'monospace'])
        try:
            _, url, _ = page.launch(
                server_name=host,
                server_port=port,
                max_file_size=round(limits.megabytes * 2**20),
                app_kwargs=dict(middleware=[Middleware(_WithPolicy)], docs_url=None, redoc_url=None, openapi_url=None),
                share=False,
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                run_history=False,
                enable_monitoring=False,
                footer_links=[],
                theme=theme,
                css_paths=Path(__file__).with_name('page.css'),
                prevent_thread_lock=True,
                quiet=True)
        except OSError as error:
            raise InputError(f'the page cannot be served at {host}, port {port}: {error}') from error
        try:
            yield url
        finally:
            page.close(verbose=False)


def _build(gradio, predictor: Predictor, title: str, examples: Sequence[Path], limits: Limits):
    """Lays out the page; ``gradio`` is the module. Returns its Blocks."""

    def answer(path: str) -> tuple:
        return None, *_answer(predictor, limits, Path(path))

    def answer_example(event: gradio.SelectData) -> tuple:
        return _answer(predictor, limits, examples[event.index])

    thumbnails = [_shrink(read_image(path, FORMATS), THUMBNAIL)[..., ::-1] for path in examples]
    # The drop zone gets None back: it takes no other picture until it is empty.
    with gradio.Blocks(title=title, analytics_enabled=False, delete_cache=(UPLOADS_KEPT, UPLOADS_KEPT),
                       fill_width=True) as page:
        gradio.HTML(f'<header class="mmreplk-head"><h1>{html.escape(title)}</h1><p>Pictures stay on the machine that '
                    'serves this page.</p></header>')
        with gradio.Row():
            with gradio.Column(scale=1, min_width=300):
                file = gradio.File(
                    label='Picture',
                    file_types=[suffix for suffixes in FORMATS.values() for suffix in suffixes],
                    height=140,
                    elem_id='picture')
                gradio.HTML(f'<p class="mmreplk-hint">{", ".join(FORMATS)}; up to {limits.megabytes:g} MB, '
                            f'{limits.megapixels:g} megapixels</p>')
                opacity = gradio.Slider(0, 100, 50, step=1, label='Opacity, %', elem_id='opacity')
                panel = gradio.HTML(elem_id='panel')
                save = gradio.Button('Save what is shown', size='sm', elem_id='save')
                gallery = gradio.Gallery(
                    thumbnails,
                    label='Examples',
                    columns=2,
                    height='auto',
                    allow_preview=False,
                    interactive=False,
                    buttons=[],
                    visible=bool(examples),
                    elem_id='examples')
            with gradio.Column(scale=3, min_width=420):
                view = gradio.HTML(EMPTY, elem_id='view')
        options = dict(api_visibility='private', show_progress='minimal', show_progress_on=view)
        file.upload(answer, file, [file, view, panel], **options)
        gallery.select(answer_example, None, [view, panel], **options)
        opacity.change(None, opacity, None, js=SET_OPACITY)
        save.click(None, None, None, js=SAVE_OVERLAY)
    return page


def _answer(predictor: Predictor, limits: Limits, path: Path) -> tuple[str, str]:
    """Returns as HTML the picture with its overlay, and the panel: time, legend and raw result, or what went wrong."""
    try:
        image = read_image(path, FORMATS, round(limits.megapixels * 1e6))
        loaded = image if predictor.read.is_usual else predictor.read(path)
        start = time.perf_counter()
        prediction, = predictor([loaded])
        seconds = time.perf_counter() - start
    except InputError as error:
        sentence = str(error).replace(repr(str(path)), repr(path.name))
        return EMPTY, f'<div class="mmreplk-panel"><p class="problem" role="alert">{html.escape(sentence)}</p></div>'
    legend = prediction.legend(predictor.classes)
    layer = _shrink(prediction.layer(predictor.classes), SHOWN, cv2.INTER_NEAREST)[..., [2, 1, 0, 3]]
    found = html.escape(', '.join(f'{entry.name} {entry.amount}' for entry in legend) or 'nothing', quote=True)
    height, width = image.shape[:2]
    view = (f'<figure class="mmreplk-view"><div class="stack" style="--ratio: {width / height:.5f}">'
            f'<img class="picture" alt="the picture {html.escape(path.name, quote=True)}" '
            f'src="{_data_url(_encoded(".jpg", _shrink(image, SHOWN)), "image/jpeg")}">'
            f'<img class="layer" alt="found: {found}" src="{_data_url(_encoded(".png", layer), "image/png")}">'
            '</div></figure>')
    kind = 'image/png' if prediction.suffix == '.png' else 'application/json'
    raw = _data_url(prediction.raw(predictor.classes, path.name), kind)
    name = html.escape(path.stem + prediction.suffix, quote=True)
    panel = ('<div class="mmreplk-panel"><p class="time" role="status"><span>Predicted in '
             f'<strong>{seconds:.2f}&nbsp;s</strong></span><span class="amount">{width} &times; {height} pixels</span>'
             f'</p><h2>In the picture</h2>{_legend(legend)}<p class="raw"><a download="{name}" href="{raw}">'
             f'Raw result, {prediction.suffix[1:].upper()}</a></p></div>')
    return view, panel


def _legend(entries: Sequence[Entry]) -> str:
    lines = [f'<li><span class="chip" style="background: rgb{entry.colour}"></span>{html.escape(entry.name)}'
             f'<span class="amount">{html.escape(entry.amount)}</span></li>' for entry in entries]
    return f'<ul class="legend">{"".join(lines)}</ul>' if lines else '<p>Nothing scored high enough to be shown.</p>'


def _shrink(image: np.ndarray, longer_side: int, interpolation: int = cv2.INTER_AREA) -> np.ndarray:
    ratio = longer_side / max(image.shape[:2])
    return image if ratio >= 1 else cv2.resize(image, None, fx=ratio, fy=ratio, interpolation=interpolation)


def _encoded(suffix: str, image: np.ndarray) -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


def _data_url(data: bytes, kind: str) -> str:
    return f'data:{kind};base64,{base64.b64encode(data).decode()}'


class _WithPolicy:
    """Adds the content security policy to every response of an ASGI application."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):

        async def send_with_policy(message):
            if message['type'] == 'http.response.start':
                message['headers'] = [*message.get('headers', ()), (b'content-security-policy', POLICY.encode())]
            await send(message)

        await self.app(scope, receive, send_with_policy)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
