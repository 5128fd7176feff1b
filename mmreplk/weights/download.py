"""Downloads that appear whole or not at all, once for all processes, and are what they should be."""

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
from .published import PUBLISHED, Published

TIMEOUT_SECONDS = 30  # without a byte
_CHUNK = 1 << 20
_SHA256_DIGITS = 64


def is_name(source: str | Path) -> bool:
    """Returns whether ``source`` is meant as the name of published weights: of a table's entry, or nearly of one.

    Files and addresses are none; a name has neither a folder nor an extension, and begins like a network's.
    """
    source = str(source)
    networks = tuple(f'{entry.network.lower()}-' for entry in PUBLISHED.values())
    return source in PUBLISHED or (source.startswith(networks) and not set(source) & set('/\\.') and
                                   not os.path.exists(source))


def local_file(source: str | Path, folder: str | Path | None = None) -> Path:
    """Returns where a checkpoint lies, after the download of published weights or of an address, if it is not here yet.

    Of several processes one downloads and the others wait. A download that broke off goes on from there where the
    publisher gives a checksum, and starts anew elsewhere.

    Args:
        source: The name of published weights, such as ``'unireplknet-t_in1k'``, an ``http`` address, or a file.
        folder: Where downloads lie; None for PyTorch's cache, ``checkpoints`` in ``torch.hub.get_dir()``.

    Raises:
        InputError: If there are no published weights of that name, if they cannot be had, or if what came is something
            else; it says where to put the file by hand.
    """
    folder = Path(torch.hub.get_dir(), 'checkpoints') if folder is None else Path(folder)
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
    near = difflib.get_close_matches(name, PUBLISHED, n=1, cutoff=0)[0]
    raise InputError(f'there are no published weights {name!r}, the nearest name is {near!r}; '
                     'tools/model_converters/list_weights.py lists all')


def _fetch(what: str, entry: Published, path: Path) -> Path:
    by_hand = f'Download it by hand from {entry.page} and put it at {path}'
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            # Whoever gets the lock first downloads. It goes with its process, however that ends.
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
    """What came is not the file; the message says what it is."""


def _download(what: str, entry: Published, path: Path) -> None:
    part, digits = path.with_name(f'{path.name}.part'), len(entry.sha256 or '')
    is_resumable = digits == _SHA256_DIGITS  # a mixture of two files would not be found out otherwise
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
    """Writes the download to the end of ``part``, from where that ends."""
    start = part.stat().st_size if part.is_file() else 0
    with _open(entry, start) as answer, open(part, 'ab') as file:
        if answer.status != http.client.PARTIAL_CONTENT:
            file.truncate(start := 0)
        length = answer.length  # of what is to come; None if the server does not say
        total = entry.size if length is None else start + length
        if entry.size not in (None, total):
            raise _Unavailable(f'what the server offers has {total} bytes, not {entry.size}')
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
    """Asks for the file from byte ``start`` on; answers Google Drive's question whether one really wants it."""
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
            return _request(url, 0)  # there is nothing after what is here
        raise _Unavailable(f'the server answers {error.code} {error.reason}') from error


def _is_page(answer: http.client.HTTPResponse) -> bool:
    return answer.headers.get_content_type() == 'text/html'


class _Form(HTMLParser):
    """The form of Google Drive's page for large files, which it does not search for viruses."""

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
        return 'what came is empty'
    if begin.lstrip().startswith(b'<'):
        return 'what came is a web page, such as an error or a login, not weights'
    return f'what came is not a checkpoint of PyTorch, it begins with {begin[:16]!r}'


def _check(entry: Published, part: Path) -> None:
    """Raises _Unavailable if the file is not the published one, as far as can be told."""
    size = part.stat().st_size
    if entry.size not in (None, size):
        raise _Unavailable(f'what came has {size} bytes, not {entry.size}')
    with open(part, 'rb') as file:
        if entry.sha256 and not (actual := _sha256(file)).startswith(entry.sha256):
            raise _Unavailable(f'what came has the checksum {actual[:len(entry.sha256)]}, not {entry.sha256}')
        file.seek(0)
        _check_beginning(begin := file.read(16))
        # The table of contents of an archive is at its end.
        if begin.startswith(b'PK') and not zipfile.is_zipfile(file):
            raise _Unavailable(f'what came is cut short, after {size} bytes')


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def _progress(what: str, total: int | None) -> Iterator:
    """Yields what shows, in a terminal as a bar and elsewhere in steps of a tenth, how many bytes have come."""
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
