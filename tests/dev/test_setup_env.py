"""The set-up of an environment, without the minutes it takes: what is compiled, and what is done where that fails."""

import subprocess
import sys
import time
from types import SimpleNamespace

import mmcv_wheel
import psutil
import pytest
import setup_env


@pytest.fixture
def source(tmp_path):
    """Sources that clash as MMCV's do, and a setup.py that prints which it compiles."""
    sources = tmp_path / 'mmcv/ops/csrc/pytorch'
    (sources / 'cpu').mkdir(parents=True)
    (sources / 'header.h').write_text('#pragma once\n')
    (sources / 'nms.cpp').write_text('#include "header.h"\n#include <torch/script.h>\nint nms() { return USED; }\n')
    for name in ('bezier_align', 'roi_align', 'roi_align_rotated'):
        (sources / f'cpu/{name}.cpp').write_text(
            f'int add(int x) {{ return x + 1; }}\nint {name}(int x) {{ return add(x); }}\n')
    (sources / 'cpu/psamask.cpp').write_text('#define min(a, b) 0\nint psamask() { return min(1, 2); }\n')
    (sources / 'cpu/voxelization.cpp').write_text('int min(int a, int b) { return a < b ? a : b; }\n')
    (tmp_path / 'setup.py').write_text(
        "import glob\ninclude_dirs = []\nextra_compile_args = {}\nextra_compile_args['cxx'] = ['-std=c++17']\n"
        "print(glob.glob('./mmcv/ops/csrc/pytorch/*.cpp') + glob.glob('./mmcv/ops/csrc/pytorch/cpu/*.cpp'))\n"
        "print(extra_compile_args)\nprint(*include_dirs)\n")
    (tmp_path / 'torch/csrc/utils').mkdir(parents=True)
    for header in ('extension.h', 'script.h'):
        (tmp_path / 'torch' / header).write_text('#error "all of PyTorch is read"\n')
    (tmp_path / 'torch/types.h').write_text('#define USED 1\n')
    (tmp_path / 'torch/csrc/utils/pybind.h').write_text('')
    return tmp_path


def test_two_files_compile_what_all_did(source):
    mmcv_wheel.unite(source)
    said = subprocess.run([sys.executable, 'setup.py'], cwd=source, capture_output=True, text=True).stdout
    files, arguments, headers = said.splitlines()
    assert files == "['./united/all.cpp', './united/cpu/all.cpp']"
    assert arguments == "{'cxx': ['-std=c++17', '-g0']}"
    for unit in ('all', 'cpu/all'):
        subprocess.run(['c++', f'-I{headers}', '-I.', '-c', f'united/{unit}.cpp', '-o', f'{unit[:3]}.o'], cwd=source,
                       check=True)
    symbols = (source / 'cpu.o').read_bytes()
    assert all(name in symbols for name in (b'bezier_align', b'roi_align_rotated', b'psamask'))


def test_another_setup_py_is_refused(source):
    (source / 'setup.py').write_text("glob.glob('./mmcv/ops/csrc/*.cpp')\n")
    with pytest.raises(SystemExit, match=r'setup.py does not take its sources from mmcv/ops/csrc/pytorch/\*.cpp'):
        mmcv_wheel.unite(source)


def test_other_versions_and_builds_for_gpus_are_refused(monkeypatch):
    for name in mmcv_wheel.SWITCHES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(mmcv_wheel.torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(sys, 'argv', ['mmcv_wheel.py', 'mmcv==2.2.0'])
    with pytest.raises(SystemExit, match=r'==2.3.6 and mmcv==2.1.0 can be compiled this way, not mmcv==2.2.0'):
        mmcv_wheel.main(mmcv_wheel.parse_args())
    monkeypatch.setenv('FORCE_CUDA', '1')
    monkeypatch.setattr(sys, 'argv', ['mmcv_wheel.py', 'mmcv==2.1.0'])
    with pytest.raises(SystemExit, match='only builds for CPUs are fast'):
        mmcv_wheel.main(mmcv_wheel.parse_args())


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """An environment whose pip notes what it is asked for and succeeds, and a wheel builder that a test writes."""
    asked, run, builder = [], setup_env.run, tmp_path / 'builder.py'

    def run_all_but_pip(title, python, *arguments):
        if arguments[:3] != setup_env.PIP:
            return run(title, python, *arguments)
        asked.append([str(argument) for argument in arguments[3:]])
        return 0, ''

    (tmp_path / 'bin').mkdir()
    python = tmp_path / 'bin/python'
    python.symlink_to(sys.executable)
    monkeypatch.setattr(setup_env, 'WHEEL_BUILDER', builder)
    monkeypatch.setattr(setup_env, 'run', run_all_but_pip)
    monkeypatch.setattr(setup_env, 'imports', lambda python, modules: True)
    return SimpleNamespace(asked=asked, python=python, builder=builder, log=tmp_path / setup_env.LOG)


def install_mmcv(environment, uses_cache):
    built = setup_env.run('[2/5]', environment.python, environment.builder)
    setup_env.install_mmcv(environment.python, 'mmcv==2.1.0', *built, uses_cache)


def test_the_fast_wheel_is_installed(environment):
    environment.builder.write_text('print("much"); print("/cache/mmcv-2.1.0.whl")')
    install_mmcv(environment, uses_cache=True)
    assert environment.asked == [[*setup_env.INSTALL, '/cache/mmcv-2.1.0.whl']]
    assert environment.log.read_text() == 'much\n/cache/mmcv-2.1.0.whl\n'


def test_where_it_fails_pip_builds_and_says_why(environment, capsys):
    environment.builder.write_text('import sys; print("much"); sys.exit("pip wheel failed")')
    install_mmcv(environment, uses_cache=False)
    assert environment.asked == [[*setup_env.INSTALL, '--no-cache-dir', 'mmcv==2.1.0']]
    assert '[2/5] the fast way failed: pip wheel failed\n' in capsys.readouterr().out


def test_a_wheel_that_does_not_import_goes(environment, tmp_path, monkeypatch, capsys):
    wheel, answers = tmp_path / 'mmcv-2.1.0.whl', [False, True]
    wheel.write_text('damaged')
    environment.builder.write_text(f'print({str(wheel)!r})')
    monkeypatch.setattr(setup_env, 'imports', lambda python, modules: answers.pop(0))
    install_mmcv(environment, uses_cache=True)
    assert environment.asked == [[*setup_env.INSTALL, str(wheel)], [*setup_env.INSTALL, 'mmcv==2.1.0']]
    assert not wheel.exists()
    assert 'the fast way failed: the wheel that it built cannot be imported' in capsys.readouterr().out


def test_two_jobs_go_on_at_once_and_end_with_their_block(environment, capsys):
    wait = 'import pathlib, time\nwhile not pathlib.Path("go").exists(): time.sleep(.01)\nprint("gone on")'
    python, folder = environment.python, environment.log.parent
    wait = wait.replace('"go"', repr(str(folder / 'go')))
    with setup_env.Job('[2/5] waits', python, '-c', wait, log='other.log') as first:
        assert setup_env.run('[3/5] lets it go on', python, '-c', f'open({str(folder / "go")!r}, "w")') == (0, '')
        assert first.wait() == (0, 'gone on')
    assert (folder / 'other.log').read_text() == 'gone on\n' and environment.log.read_text() == ''
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ['[2/5] waits ...', '[3/5] lets it go on ...'] and said[-1].startswith('[2/5] done')


@pytest.mark.parametrize('end', [SystemExit, KeyboardInterrupt])
def test_what_a_job_has_started_ends_with_it(environment, end):
    """A step beside it fails, or Ctrl-C: the compilers end as well."""
    code = 'import subprocess; subprocess.run(["sleep", "600"])'
    with pytest.raises(end), setup_env.Job('', environment.python, '-c', code) as endless:
        while not (compilers := psutil.Process(endless.process.pid).children()):
            time.sleep(.01)
        raise end
    assert endless.process.wait(60) != 0
    assert psutil.wait_procs(compilers, 60)[1] == []
