"""What is released: which files and metadata the distributions have, in a small repository, and how they are tried."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path

import build_dist
import check_dist
import pytest

import mmreplk

ROOT = Path(__file__).parents[2]
README = 'A *page*.\n'
METADATA = f'Metadata-Version: 2.4\nName: x\nVersion: 1.0\nDescription-Content-Type: text/markdown\n\n{README}'


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with our recipe and few files, some of which are not to be released, and one that git ignores."""
    for name in ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE', 'model-index.yml', '.gitignore',
                 'mmreplk/__init__.py', 'mmreplk/version.py', 'mmreplk/mm/inference/page.css', 'tools/train.py',
                 'tools/demo.py', 'tools/dev/build_dist.py', 'configs/metafile.yml', 'docs/index.md',
                 'docs/pictures/camvid.jpg', 'tests/test_cli.py'):
        target = tmp_path / 'repository' / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    for name in ('mm/__init__.py', 'mm/inference/__init__.py'):
        (tmp_path / 'repository/mmreplk' / name).write_text('')
    (tmp_path / 'repository/configs/work_dirs').mkdir()
    (tmp_path / 'repository/configs/work_dirs/iter_1.pth').write_text('')
    subprocess.run(['git', 'init', '-q'], cwd=tmp_path / 'repository', check=True)
    monkeypatch.setattr(build_dist, 'ROOT', tmp_path / 'repository')
    monkeypatch.setattr(sys, 'argv', ['build_dist.py', str(tmp_path / 'dist')])
    return tmp_path / 'repository'


def build(capsys):
    build_dist.main(build_dist.parse_args())
    return map(Path, capsys.readouterr().out.splitlines())


def test_the_wheel_has_the_package_configs_and_tools_and_the_sdist_has_all(repository, capsys):
    sdist, wheel = build(capsys)
    assert sorted(build_dist.files_of_wheel(wheel)) == [
        'mmreplk/.mim/configs/metafile.yml', 'mmreplk/.mim/model-index.yml', 'mmreplk/.mim/tools/train.py',
        'mmreplk/__init__.py', 'mmreplk/mm/__init__.py', 'mmreplk/mm/inference/__init__.py',
        'mmreplk/mm/inference/page.css', 'mmreplk/version.py']
    sources = build_dist.files_of_sdist(sdist)
    assert {'docs/pictures/camvid.jpg', 'tests/test_cli.py', 'tools/dev/build_dist.py'} < {*sources}
    assert not [name for name in sources if 'work_dirs' in name]
    assert wheel.name.startswith(f'mmreplk-{mmreplk.__version__}-py3-none-any')


@pytest.mark.parametrize(('file', 'old', 'new', 'words'), [
    ('MANIFEST.in', 'graft docs\n', '', 'tar.gz lacks docs/index.md'),
    ('mmreplk/page.html', '', 'x', 'whl lacks mmreplk/page.html'),
    ('setup.py', "'dev', ", '', 'whl holds mmreplk/.mim/tools/dev/build_dist.py'),
    ('setup.py', 'text/markdown', 'text/plain', 'must be text/markdown, the metadata says text/plain'),
    ('setup.py', 'import shutil', '1 / 0', r'ZeroDivisionError.*\nerror: building failed'),
], ids=['manifest', 'package data', 'dev', 'description', 'broken'])
def test_what_is_wrong_is_not_released(repository, file, old, new, words):
    text = (repository / file).read_text() if (repository / file).exists() else ''
    assert old in text
    (repository / file).write_text(text.replace(old, new, 1))
    with pytest.raises(SystemExit, match=words):
        build_dist.main(build_dist.parse_args())


def test_without_git_nothing_is_released(repository):
    shutil.rmtree(repository / '.git')
    with pytest.raises(SystemExit, match='error: git must list the files to release, and in .* not a git repository'):
        build_dist.main(build_dist.parse_args())


@pytest.mark.parametrize(('old', 'new', 'words'), [
    ('', '', None),
    ('2.4', '0.1', 'metadata'),
    ('Version: 1.0', 'Version: one', 'version'),
    ('*page*', 'leaf', 'not the README'),
    ('Description-Content-Type: text/markdown\n', '', 'must be text/markdown, the metadata says None'),
])
def test_metadata(old, new, words):
    faults = build_dist.metadata_faults(METADATA.replace(old, new, 1).encode(), README)
    assert len(faults) == 1 and words in faults[0] if words else faults == []


def test_a_fresh_environment_sees_what_was_asked_for_and_what_that_requires(tmp_path):
    check_dist.link(['torch'], tmp_path)
    found = {path.name for path in tmp_path.iterdir()}
    assert {'torch', 'sympy', 'mpmath', 'typing_extensions.py'} < found and not found & {'mmengine', 'pytest', '..'}
    assert f'torch-{importlib.metadata.version("torch")}.dist-info' in found


def test_a_step_that_fails_ends_the_check(tmp_path, monkeypatch):
    python = check_dist.Installed.__new__(check_dist.Installed)
    python.work, python._python = tmp_path, sys.executable
    assert python('-c', 'print(1)') == '1\n'
    with pytest.raises(SystemExit, match=r'gone\n\nerror: python -c .* ended with 1 instead of 0'):
        python('-c', 'import sys; sys.exit("gone")')
    with pytest.raises(SystemExit, match='ended with 0 instead of 2'):
        python('-c', '1', status=2)
    with pytest.raises(SystemExit, match=r"'\^b' should be in the lines above"):
        python.require('^b', 'a b')


def test_the_changelog_begins_with_the_version():
    heading = re.search(r'^## (\S+)', (ROOT / 'CHANGELOG.md').read_text(), re.M)[1]
    assert heading == mmreplk.__version__


@pytest.mark.parametrize('tool', ['setup_env.py', 'build_dist.py'])
def test_a_folder_of_something_else_is_not_emptied(tool, tmp_path):
    (tmp_path / 'thesis.tex').touch()
    done = subprocess.run([sys.executable, ROOT / 'tools/dev' / tool, tmp_path], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith('error: ') and done.stderr.endswith('name another folder\n')
    assert (tmp_path / 'thesis.tex').is_file()
