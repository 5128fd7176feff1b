import dataclasses
import hashlib
import io
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from mmreplk.errors import InputError
from mmreplk.weights import PUBLISHED, Published, is_name, local_file, published, read_checkpoint
from tests.warm import python


def checkpoint(numbers: int = 500_000) -> bytes:
    file = io.BytesIO()
    torch.save(dict(weight=torch.arange(numbers, dtype=torch.float32)), file)
    return file.getvalue()


@pytest.fixture
def entry(server, torch_cache, monkeypatch):
    """Puts weights by the name 'slak-x_in1k' on the server and into the table; returns a function that changes both."""

    def put(data: bytes | None = None, **changes) -> Published:
        server.files['/files/own.pth'] = data = checkpoint() if data is None else data
        url, digest = f'{server.url}/files/own.pth', hashlib.sha256(data).hexdigest()
        made = Published('slak-x_in1k', 'SLaK', 'T', 'classifier', 'numbers', 224, 'none', url, len(data), digest, 1000)
        monkeypatch.setitem(PUBLISHED, made.name, made := dataclasses.replace(made, **changes))
        return made

    return put


def left_in(torch_cache) -> set[str]:
    return {path.name for path in torch_cache.iterdir()} - {'.own.pth.lock'}


def test_downloaded_once_to_pytorchs_cache(entry, server, torch_cache, capsys):
    entry()
    path = local_file('slak-x_in1k')
    assert path == torch_cache / 'own.pth'
    assert path.read_bytes() == server.files['/files/own.pth']
    assert re.search(r"Downloading the weights 'slak-x_in1k': 2\.0 MB of 2\.0 MB", capsys.readouterr().err)
    assert local_file('slak-x_in1k') == path
    assert len(server.requests) == 1
    assert left_in(torch_cache) == {'own.pth'}
    assert read_checkpoint('slak-x_in1k')['weight'][-1] == 499_999


def test_bar_in_a_terminal(entry, monkeypatch, capsys):
    entry()
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True, raising=False)
    local_file('slak-x_in1k')
    assert capsys.readouterr().err.endswith(f'{"#" * 30} 100% 2.0 MB\n')


def test_other_folder_and_addresses(entry, server, torch_cache, tmp_path):
    made = entry()
    assert local_file(made.name, tmp_path / 'other') == tmp_path / 'other' / 'own.pth'
    assert local_file(made.url) == torch_cache / 'own.pth'
    assert local_file(tmp_path / 'mine.pth') == tmp_path / 'mine.pth'
    assert [path for path, _ in server.requests] == ['/files/own.pth'] * 2


@pytest.mark.parametrize('source, expected', [('slak-x_in1', True), ('unireplknet-t_in1k', True), ('slak-x.pth', False),
                                              ('replknet-31b/last', False), ('resnet', False), ('work', False)])
def test_what_is_a_name(source, expected):
    assert is_name(source) == expected


def test_a_folder_is_no_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_name('slak-mine')
    (tmp_path / 'slak-mine').mkdir()
    assert not is_name('slak-mine')


def test_misspelt_name():
    with pytest.raises(InputError, match="no published weights 'unireplknet-t_1k'.*'unireplknet-t_in1k'"):
        local_file('unireplknet-t_1k')


def test_without_a_network(entry, server, torch_cache):
    made = entry(url='http://127.0.0.1:9/own.pth')
    with pytest.raises(InputError) as raised:
        local_file(made.name)
    assert str(raised.value) == (
        f"the weights 'slak-x_in1k' cannot be downloaded ([Errno 111] Connection refused). Download the file by "
        f'hand from {made.url} and put it at {torch_cache / "own.pth"}')
    assert left_in(torch_cache) == set()


def test_goes_on_where_it_broke_off(entry, server, torch_cache):
    made = entry()
    server.break_after = 1_234_567
    with pytest.raises(InputError, match=f'broke off after 1234567 of {made.size} bytes'):
        local_file(made.name)
    assert left_in(torch_cache) == {'own.pth.part'}
    assert hashlib.sha256(local_file(made.name).read_bytes()).hexdigest() == made.sha256
    assert [wanted for _, wanted in server.requests] == [None, 'bytes=1234567-']
    assert left_in(torch_cache) == {'own.pth'}


@pytest.mark.parametrize('change', [dict(sha256=None), dict(sha256=None, size=None), dict(sha256='')])
def test_starts_anew_without_a_checksum(entry, server, torch_cache, change):
    made = entry(**change)
    server.break_after = 1_234_567
    with pytest.raises(InputError, match='broke off'):
        local_file(made.name)
    assert left_in(torch_cache) == set()
    assert local_file(made.name).read_bytes() == server.files['/files/own.pth']
    assert [wanted for _, wanted in server.requests] == [None, None]


def test_server_that_cannot_go_on(entry, server):
    made = entry()
    server.break_after = 1_234_567
    with pytest.raises(InputError, match='broke off'):
        local_file(made.name)
    server.knows_ranges = False
    assert local_file(made.name).read_bytes() == server.files['/files/own.pth']


def test_part_that_is_whole_or_of_another_file(entry, server, torch_cache):
    made = entry()
    torch_cache.mkdir(parents=True)
    (torch_cache / 'own.pth.part').write_bytes(server.files['/files/own.pth'])
    assert local_file(made.name).read_bytes() == server.files['/files/own.pth']
    (torch_cache / 'own.pth').unlink()
    (torch_cache / 'own.pth.part').write_bytes(b'PK of something else')
    with pytest.raises(InputError, match='has the checksum'):
        local_file(made.name)
    assert left_in(torch_cache) == set()
    assert local_file(made.name).is_file()


@pytest.mark.parametrize('data, sentence', [
    (b'<!DOCTYPE html><title>Sign in</title>', 'the server sent a web page, such as an error or a login, not weights'),
    (b'weights, but of no kind that is known', "not a checkpoint of PyTorch: it begins with b'weights, but of '"),
    (b'', 'the server sent an empty file'),
    (checkpoint()[:-100], r'cut short after \d+ bytes'),
])
@pytest.mark.parametrize('knows_length', [True, False])
def test_wrong_file_is_not_kept(entry, server, torch_cache, data, sentence, knows_length):
    made = entry(data, size=None, sha256=None)
    server.knows_length = knows_length
    with pytest.raises(InputError, match=sentence):
        local_file(made.name)
    assert left_in(torch_cache) == set()


@pytest.mark.parametrize('change, sentence', [
    (dict(size=17), r'the server offers a file of \d+ bytes, not 17'),
    (dict(sha256='0' * 64), 'the downloaded file has the checksum [0-9a-f]{64}, not 0{64}'),
    (dict(sha256='00c0ffee', size=None), 'the downloaded file has the checksum [0-9a-f]{8}, not 00c0ffee'),
    (dict(url='{url}/nowhere.pth'), 'the server answers 404 Not Found'),
])
def test_another_file_than_published_is_not_kept(entry, server, torch_cache, change, sentence):
    made = entry(**{key: value.format(url=server.url) if key == 'url' else value for key, value in change.items()})
    with pytest.raises(InputError, match=sentence):
        local_file(made.name)
    assert left_in(torch_cache) <= {'.nowhere.pth.lock'}


def test_size_of_another_file_without_length(entry, server, torch_cache):
    made = entry(size=17, sha256=None)
    server.knows_length = False
    with pytest.raises(InputError, match=r'the downloaded file has \d+ bytes, not 17'):
        local_file(made.name)
    assert left_in(torch_cache) == set()


def test_file_put_there_by_hand_is_taken_or_refused(entry, server, torch_cache):
    made = entry()
    torch_cache.mkdir(parents=True)
    (torch_cache / 'own.pth').write_bytes(b'PK half')
    with pytest.raises(InputError, match=rf'own.pth is not the weights .* 7 bytes, not {made.size}; delete it'):
        local_file(made.name)
    (torch_cache / 'own.pth').write_bytes(server.files['/files/own.pth'])
    assert local_file(made.name) == torch_cache / 'own.pth'
    assert not server.requests


PAGE = '''<!DOCTYPE html><html><body><p>Google Drive can't scan this file for viruses.</p>
<form id="download-form" action="/download" method="get"><input type="submit" value="Download anyway"/>
<input type="hidden" name="id" value="abc"><input type="hidden" name="confirm" value="t">
<input type="hidden" name="uuid" value="1-2"></form></body></html>'''


def test_google_drives_question_is_answered(entry, server, torch_cache, monkeypatch):
    monkeypatch.setattr(published, 'DRIVE', f'{server.url}/uc?id=')
    made = entry(url=f'{server.url}/uc?id=abc')
    server.files['/uc?id=abc'] = PAGE.encode()
    server.files['/download?id=abc&confirm=t&uuid=1-2'] = data = server.files['/files/own.pth']
    assert made.page == 'https://drive.google.com/file/d/abc/view'
    assert local_file(made.name) == torch_cache / 'slak-x_in1k.pth'
    assert (torch_cache / 'slak-x_in1k.pth').read_bytes() == data


@pytest.mark.parametrize('first, second', [('<html>Quota exceeded</html>', ''), (PAGE, '<html>Sign in</html>')])
def test_google_drives_refusal(entry, server, torch_cache, monkeypatch, first, second):
    monkeypatch.setattr(published, 'DRIVE', f'{server.url}/uc?id=')
    made = entry(url=f'{server.url}/uc?id=abc')
    server.files |= {'/uc?id=abc': first.encode(), '/download?id=abc&confirm=t&uuid=1-2': second.encode()}
    with pytest.raises(InputError) as raised:
        local_file(made.name)
    assert 'the server sent a web page' in str(raised.value)
    assert str(raised.value).endswith('Download the file by hand from https://drive.google.com/file/d/abc/view and put '
                                      f'it at {torch_cache / "slak-x_in1k.pth"}')


ASK = '''
import sys
from mmreplk.weights import PUBLISHED, Published, local_file
PUBLISHED['slak-x_in1k'] = Published('slak-x_in1k', 'SLaK', 'T', 'classifier', '', 224, '', sys.argv[1],
                                     int(sys.argv[2]), sys.argv[3])
print(local_file('slak-x_in1k').stat().st_size)
'''


def ask(made: Published) -> subprocess.Popen:
    command = [python('torch'), '-c', ASK, made.url, str(made.size), made.sha256]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_one_process_downloads_and_the_other_waits(entry, server, torch_cache):
    made = entry()
    server.seconds_a_piece = 0.1  # three seconds in all: the other has begun by then
    processes = [ask(made) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [out.strip() for out, _ in outputs] == [str(made.size)] * 2, outputs
    assert len(server.requests) == 1
    assert sum('Downloading' in err for _, err in outputs) == 1
    assert left_in(torch_cache) == {'own.pth'}


def test_killed_process_leaves_what_the_next_one_goes_on_from(entry, server, torch_cache):
    made = entry()
    server.seconds_a_piece = 0.15  # 2.4 s for the first MiB, which is what is written at a time
    process, part = ask(made), torch_cache / 'own.pth.part'
    deadline = time.time() + 120
    while not part.is_file() or not part.stat().st_size:
        assert time.time() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    there = part.stat().st_size
    assert 0 < there < made.size
    server.seconds_a_piece = 0
    assert local_file(made.name).read_bytes() == server.files['/files/own.pth']
    assert [wanted for _, wanted in server.requests] == [None, f'bytes={there}-']
