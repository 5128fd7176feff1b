"""Downloads files whole or not at all, once for all processes, and checks that they are the right ones."""

import contextlib
import difflib
import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlencode, urljoin, urlparse

import torch
from filelock import FileLock

from ..errors import InputError
from . import published
from .own import OWN
from .published import PUBLISHED, Published

TIMEOUT_SECONDS = 30  # without receiving a byte
_CHUNK = 1 << 20
_SHA256_DIGITS = 64


def is_name(source: str | Path) -> bool:
    """Returns whether ``source`` is meant as a name of weights, even if it is misspelt.

    Existing files and addresses are not. A name has no folder and no extension, and begins with a network's name.
    """
    source = str(source)
    networks = tuple(f'{entry.network.lower()}-' for entry in PUBLISHED.values())
    looks_like_one = source.startswith(networks) and not set(source) & set('/\\.')
    return source in {*PUBLISHED, *OWN} or (looks_like_one and not os.path.exists(source))


def local_file(source: str | Path, folder: str | Path | None = None) -> Path:
    """Returns the path of a checkpoint; downloads published weights or an address first, if they are not here yet.

    Of several processes, one downloads and the others wait. An interrupted download continues where it stopped if the
    publisher gives a whole checksum, and starts over otherwise.

    Args:
        source: The name of weights, published such as ``'unireplknet-t_in1k'`` or in the package, an ``http`` address,
            or a file.
        folder: The folder of downloads; None for PyTorch's cache, ``checkpoints`` in ``torch.hub.get_dir()``.

    Raises:
        InputError: If there are no published weights of that name, they cannot be downloaded, or the file is another
            one; the message says where to put a file that was downloaded by hand.
    """
    folder = Path(torch.hub.get_dir(), 'checkpoints') if folder is None else Path(folder)
    if str(source) in OWN:
        return OWN[str(source)].file
    if is_name(source):
        entry = find(str(source))
        return _fetch(f'the weights {entry.name!r}', entry, folder / entry.filename)
    address = urlparse(str(source))
    if address.scheme in ('http', 'https'):
        name = Path(address.path).name
        entry = Published(name, '', '', '', '', None, '', str(source))
        return _fetch(f'the weights {source}', entry, folder / name)
    return Path(source).expanduser()


def find(name: str) -> Published:
    """Returns the published weights of this name; InputError, with the nearest name, if there are none."""
    if name in PUBLISHED:
        return PUBLISHED[name]
    near = difflib.get_close_matches(name, [*PUBLISHED, *OWN], n=1, cutoff=0)[0]
    raise InputError(f'there are no published weights {name!r}, the nearest name is {near!r}; '
                     'tools/model_converters/list_weights.py lists all')


def _fetch(what: str, entry: Published, path: Path) -> Path:
    by_hand = f'Download the file by hand from {entry.page} and put it at {path}'
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            # The first process to get the lock downloads. The lock is released when the process ends, in any way.
            with FileLock(path.with_name(f'.{path.name}.lock')):
                if not path.is_file():
                    _download(what, entry, path)
        if entry.size not in (None, path.stat().st_size):
            raise InputError(f'{path} is not {what}: it has {path.stat().st_size} bytes, not {entry.size}; delete it '
                             'to download it again')
    except _Unavailable as error:
        raise InputError(f'{what} cannot be downloaded: {error}. {by_hand}') from error
    except (OSError, http.client.HTTPException) as error:
        # URLError wraps the error that says why.
        raise InputError(f'{what} cannot be downloaded ({getattr(error, "reason", error)}). {by_hand}') from error
    return path


class _Unavailable(Exception):
    """The server did not send the file; the message says what it sent."""


def _download(what: str, entry: Published, path: Path) -> None:
    part, digits = path.with_name(f'{path.name}.part'), len(entry.sha256 or '')
    is_resumable = digits == _SHA256_DIGITS  # only a checksum would reveal a mixture of two files
    try:
        if not is_resumable:
            part.unlink(missing_ok=True)
        _receive(what, entry, part)
        _check(entry, part)
        os.replace(part, path)
    except _Unavailable:
        part.unlink(missing_ok=True)
        raise
    except BaseException:
        if not is_resumable:
            part.unlink(missing_ok=True)
        raise


def _receive(what: str, entry: Published, part: Path) -> None:
    """Appends the rest of the download to ``part``."""
    start = part.stat().st_size if part.is_file() else 0
    with _open(entry, start) as answer, open(part, 'ab') as file:
        if answer.status != http.client.PARTIAL_CONTENT:
            file.truncate(start := 0)
        length = answer.length  # bytes still to come; None if the server does not say
        total = entry.size if length is None else start + length
        if entry.size not in (None, total):
            raise _Unavailable(f'the server offers a file of {total} bytes, not {entry.size}')
        received = start
        with _progress(what, total) as show:
            while chunk := answer.read(_CHUNK):
                if not received:
                    _check_beginning(chunk)
                file.write(chunk)
                show(received := received + len(chunk))
        if total is not None and received < total:
            raise ConnectionError(f'the connection broke off after {received} of {total} bytes')
        file.flush()
        os.fsync(file.fileno())


def _open(entry: Published, start: int) -> http.client.HTTPResponse:
    """Requests the file from byte ``start`` on; confirms on Google Drive's page that it is really wanted."""
    answer = _request(entry.url, start)
    if not _is_page(answer):
        return answer
    with answer:
        page = answer.read(_CHUNK)
    form = _Form(page) if entry.url.startswith(published.DRIVE) else None
    if form is None or not form.action:
        raise _Unavailable(_strange(page))
    answer = _request(f'{urljoin(entry.url, form.action)}?{urlencode(form.fields)}', start)
    if _is_page(answer):
        with answer:
            raise _Unavailable(_strange(answer.read(_CHUNK)))
    return answer


def _request(url: str, start: int) -> http.client.HTTPResponse:
    headers = {'User-Agent': 'mmreplk', **({'Range': f'bytes={start}-'} if start else {})}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if start and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return _request(url, 0)  # the server has nothing after what is here
        raise _Unavailable(f'the server answers {error.code} {error.reason}') from error


def _is_page(answer: http.client.HTTPResponse) -> bool:
    return answer.headers.get_content_type() == 'text/html'


class _Form(HTMLParser):
    """The form on the page that Google Drive shows for files too large for its virus scan."""

    def __init__(self, page: bytes):
        super().__init__()
        self.action, self.fields = '', {}
        self.feed(page.decode(errors='replace'))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == 'form' and named.get('id') == 'download-form':
            self.action = named.get('action') or ''
        elif tag == 'input' and self.action and named.get('name'):
            self.fields[named['name']] = named.get('value') or ''


def _check_beginning(begin: bytes) -> None:
    if not begin.startswith((b'PK', b'\x80')):  # an archive, as PyTorch writes it, or a pickle, as it once did
        raise _Unavailable(_strange(begin))


def _strange(begin: bytes) -> str:
    if not begin:
        return 'the server sent an empty file'
    if begin.lstrip().startswith(b'<'):
        return 'the server sent a web page, such as an error or a login, not weights'
    return f'the server sent a file that is not a checkpoint of PyTorch: it begins with {begin[:16]!r}'


def _check(entry: Published, part: Path) -> None:
    """Raises _Unavailable if the file is not the published one, as far as can be told."""
    size = part.stat().st_size
    if entry.size not in (None, size):
        raise _Unavailable(f'the downloaded file has {size} bytes, not {entry.size}')
    with open(part, 'rb') as file:
        if entry.sha256 and not (actual := _sha256(file)).startswith(entry.sha256):
            raise _Unavailable(f'the downloaded file has the checksum {actual[:len(entry.sha256)]}, not {entry.sha256}')
        file.seek(0)
        _check_beginning(begin := file.read(16))
        # The table of contents of an archive is at its end.
        if begin.startswith(b'PK') and not zipfile.is_zipfile(file):
            raise _Unavailable(f'the downloaded file is cut short after {size} bytes')


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def _progress(what: str, total: int | None) -> Iterator:
    """Yields a function that shows how many bytes have come: as a bar in a terminal, in steps of a tenth elsewhere."""
    is_terminal, width, shown = sys.stderr.isatty(), 30, -1

    def show(received: int) -> None:
        nonlocal shown
        tenths = 10 * received // total if total else 0
        if is_terminal:
            share = received / total if total else 0
            bar = f'{"#" * int(width * share):<{width}} {share:4.0%}' if total else ''
            print(f'\rDownloading {what} {bar} {received / 1e6:.1f} MB', end='', file=sys.stderr, flush=True)
        elif tenths > shown:
            print(f'Downloading {what}: {received / 1e6:.1f} MB', f'of {total / 1e6:.1f} MB' if total else 'so far',
                  file=sys.stderr, flush=True)
        shown = max(shown, tenths)

    try:
        yield show
    finally:
        if is_terminal:
            print(file=sys.stderr)
