"""What the documentation says is so."""

import re
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, VISUALIZERS, init_default_scope

from mmreplk import InputError, RepLKNet, shipped
from mmreplk.benchmarks import benchmark_tables
from mmreplk.mm.checks.channels import check_channels
from mmreplk.mm.config import load_config
from mmreplk.weights.conversion import describe
from tests.configs.narrowing import inputs
from tests.conftest import randomize
from tests.networks.layouts import official_classification

ROOT = Path(__file__).parents[2]
# The name and the text of each function that adds an option to several tools.
SHARED_OPTIONS = [found for path in ('cli.py', 'mm/config/options.py') for found in re.findall(
    r'^def (add_\w+)(.*?)(?=^def |\Z)', (ROOT / 'mmreplk' / path).read_text(), re.M | re.S)]
COMMAND = r'(?:^|`|\$ |python )(tools/[\w/]+\.(?:py|sh)[^`|#]*)'
OF_MAINTAINERS = [ROOT / 'CONTRIBUTING.md', ROOT / 'RELEASING.md']
PAGES = [ROOT / 'README.md', *OF_MAINTAINERS, *sorted((ROOT / 'docs').glob('*.md'))]
TEMPLATES = sorted((ROOT / '.github/ISSUE_TEMPLATE').glob('*.md'))


def as_file(command):
    """Returns a command of ``python -m mmreplk`` as that of the file that it runs."""
    return f'python {shipped.tool_names()[command[1]].relative_to(ROOT)}'


@pytest.mark.parametrize('page', [*PAGES, *TEMPLATES], ids=lambda page: page.name)
def test_commands_exist(page):
    """Every tool that a page names is there, and takes the options that the page gives it."""
    text = re.sub(r'python -m mmreplk (\w+)\b(?!-)', as_file, page.read_text())
    for tool in set(re.findall(r'(?<![\w/])tools/[\w/]+\.(?:py|sh)', text)):
        assert (ROOT / tool).is_file(), f'{page.name}: there is no {tool}'
    for line in text.replace('\\\n', ' ').splitlines():
        for command in re.findall(COMMAND, line):
            tool, *words = command.split()
            source = (ROOT / tool).read_text()
            source += (ROOT / 'tools/train.py').read_text() if tool.endswith('.sh') else ''
            source += ''.join(option for name, option in SHARED_OPTIONS if f'{name}(parser)' in source)
            for word in words:
                if word.startswith('--'):
                    assert f"'{word.split('=')[0]}'" in source, f'{page.name}: {tool} has no {word}'


def test_commands_are_found():
    found = {command.split()[0] for page in PAGES for line in page.read_text().splitlines()
             for command in re.findall(COMMAND, line)}
    assert {'tools/train.py', 'tools/dist_train.sh', 'tools/deployment/export.py'} <= found


@pytest.mark.parametrize('page', OF_MAINTAINERS, ids=lambda page: page.name)
def test_places_and_targets_exist(page):
    """Every file, folder and target of make that a page for maintainers names is there."""
    text = page.read_text()
    pairs = re.findall(r'`([\w./-]+/[\w./-]*|[\w.-]+\.(?:md|py|yml))`|\]\(([^)#]+)', text)
    found = {place.rstrip('/') for pair in pairs for place in pair if place}
    missing = [place for place in found if not (ROOT / place).exists() and not any(ROOT.glob(f'*/**/{place}'))]
    assert len(found) > 5 and missing in ([], ['dist'], ['mmreplk/.mim']), missing
    targets = {*re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.M)}
    assert {*re.findall(r'\bmake ([\w-]+)', text)} <= targets | {'the'}


def test_reports_of_bugs_begin_with_what_is_installed():
    assert len(TEMPLATES) == 3
    assert [page.stem for page in TEMPLATES if '`python -m mmreplk`' in page.read_text()] == [
        'bug_report', 'slow_or_inaccurate']


@pytest.mark.parametrize('page', ['benchmarks', 'acceleration'])
def test_benchmarks_are_those_of_the_files(page):
    text, tables = (ROOT / f'docs/{page}.md').read_text(), benchmark_tables(ROOT / f'docs/{page}')
    assert tables and text.endswith(tables), 'run tools/dev/benchmark_page.py'


def test_weights_are_described_and_refused_as_shown():
    text = (ROOT / 'docs/weights.md').read_text()
    with torch.device('meta'):
        small, large = RepLKNet('31B'), RepLKNet('31L')
    for title, words in describe(official_classification(small.state_dict())).items():
        assert f'\n{title:<14} {words}\n' in text
    with pytest.raises(InputError) as refused:
        small.load_state_dict(large.state_dict())
    assert f'\n{refused.value}\n' in text


def test_a_network_of_ones_own(tmp_path, monkeypatch):
    """It trains by its config, merges, and takes its own merged weights and no others."""
    network, config = re.findall(r'```python\n(.*?)```', (ROOT / 'docs/own_network.md').read_text(), re.DOTALL)
    (tmp_path / 'my_network.py').write_text(network)
    (tmp_path / 'mine.py').write_text(config.replace("_base_ = '", f"_base_ = '{ROOT}/configs/"))
    monkeypatch.syspath_prepend(tmp_path)
    cfg = load_config(str(tmp_path / 'mine.py'))
    cls = sys.modules['my_network'].MyNetwork
    try:
        check_channels(cfg)
        init_default_scope('mmseg')
        model = MODELS.build(cfg.model).train()
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
        rates = {group['lr'] for group in optimizer.optimizer.param_groups}
        assert sorted(rates) == pytest.approx([2e-3 * .9**i for i in (4, 3, 2, 1, 0)])
        loss, _ = model.parse_losses(model(*inputs(cfg), mode='loss'))
        optimizer.update_params(loss)

        backbone, x = randomize(model.backbone).eval(), torch.randn(1, 3, 64, 96)
        with torch.no_grad():
            before = backbone(x)
            with pytest.raises(InputError, match=r'channels \(16, 64, 128\)'):
                backbone.load_state_dict(cls(dict(layers=[2, 2, 4], channels=[16, 64, 128])).state_dict())
            for fuse_bn, form in ((False, 'merged'), (True, 'folded')):
                backbone.reparameterize(fuse_bn)
                assert backbone.form_of(backbone.state_dict()) == form
                deploy = cls(deploy=True, fuse_bn=fuse_bn).eval()
                deploy.load_state_dict(backbone.state_dict())
                for actual, expected in zip(deploy(x), before, strict=True):
                    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    finally:
        MODELS.module_dict.pop('MyNetwork')
        sys.modules.pop('my_network')


def test_tensorboard_is_a_line_of_a_config(tmp_path):
    line = re.findall(r'^visualizer = .*TensorboardVisBackend.*$', (ROOT / 'docs/reports.md').read_text(), re.M)[0]
    path = tmp_path / 'mine.py'
    path.write_text(f"_base_ = '{ROOT}/configs/upernet_replknet_tiny_camvid.py'\n{line}\n")
    cfg = Config.fromfile(path)
    init_default_scope('mmseg')
    visualizer = VISUALIZERS.build(dict(cfg.visualizer, save_dir=str(tmp_path), name='tensorboard'))
    visualizer.add_scalars(dict(loss=1.0), step=1)
    visualizer.close()
    assert list(tmp_path.rglob('events.out.tfevents.*')) and list(tmp_path.rglob('scalars.json'))


@pytest.mark.parametrize('page', [page for page in PAGES if page.name not in ('index.md', 'README.md')],
                         ids=lambda page: page.stem)
def test_a_page_begins_with_what_one_can_do_after_it(page):
    title, blank, first = page.read_text().split('\n')[:3]
    assert title.startswith('# ') and not blank and re.match('After this page you (can|know) ', first)
