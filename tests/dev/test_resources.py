import subprocess
import tempfile
import threading

from resources import held_resources

from tests.processes import alone


def check_what_is_held():
    before, stop = held_resources(), threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    with tempfile.TemporaryFile(), subprocess.Popen(['sleep', '60']) as child:
        during = held_resources()
        child.kill()
    stop.set()
    thread.join()
    assert {name: during[name] - before[name] for name in ('files', 'threads', 'children')} == dict(
        files=1, threads=1, children=1)
    assert held_resources()['files'] == before['files']


def test_what_a_process_holds():
    alone(check_what_is_held)
