"""Our own kernel for CPUs: what it computes, and the compilation at its first use."""

import itertools
import logging
import os
import re
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from mmreplk.ops import depthwise_conv2d, memory_format, reference
from mmreplk.ops.cpu import compiled, costs, direct, facts, ways

from .operands import SHAPES, assert_close, make

pytestmark = pytest.mark.skipif(not facts.IS_SUPPORTED, reason='this CPU has no ways of our own')
FORMATS = list(itertools.product((False, True), repeat=2))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    'shape', [*SHAPES, (1, 16, 100, 300, 9, 7), (2, 33, 17, 64, 5, 3), (1, 1, 40, 130, 1, 1), (3, 5, 15, 15, 3, 3)],
    ids=str)
def test_every_format_agrees_with_the_reference(shape, dtype):
    n, _, h, w, kh, kw = shape
    x, weight, bias = (t.detach() for t in make(shape, dtype))
    grad = torch.randn_like(x)
    expected = reference.forward(x.double(), weight.double(), bias.double())
    flipped = reference.grad_input(grad.double(), weight.double())
    taps = reference.grad_weight(x.double(), grad.double(), (kh, kw))
    for a_last, b_last in FORMATS:
        maps = memory_format.laid_out(x, a_last), memory_format.laid_out(grad, b_last)
        out = direct.convolve(maps[0], weight, bias, (1, 1), False, b_last)
        assert out.dtype == dtype and out.stride() == memory_format.strides(x.shape, b_last)
        assert_close(out, expected, kh * kw)
        rectified = direct.convolve(maps[0], weight, bias, (1, 1), False, b_last, True)
        assert torch.equal(rectified, out.relu())
        assert_close(direct.convolve(maps[1], weight, None, (1, 1), True, a_last), flipped, kh * kw)
        assert_close(direct.grad_weight(*maps, (kh, kw), (1, 1)), taps, n * h * w, scale=(n * h * w)**.5)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize('dilation', [(2, 2), (7, 1), (3, 5), (40, 40)], ids=str)
def test_dilated_kernels(dilation, dtype):
    x, weight, bias = (t.detach() for t in make((2, 18, 23, 35, 5, 7), dtype))
    padding = 2 * dilation[0], 3 * dilation[1]
    for flip, (x_last, last) in itertools.product((False, True), FORMATS):
        taps = weight.flip(-1, -2) if flip else weight
        expected = F.conv2d(x.double(), taps.double(), bias.double(), 1, padding, dilation, 18)
        out = direct.convolve(memory_format.laid_out(x, x_last), weight, bias, dilation, flip, last)
        assert_close(out, expected, 35)
    taps, grad = weight.double().requires_grad_(), torch.randn_like(x)
    F.conv2d(x.double(), taps, None, 1, padding, dilation, 18).backward(grad.double())
    for x_last, last in FORMATS:
        found = direct.grad_weight(memory_format.laid_out(x, x_last), memory_format.laid_out(grad, last), (5, 7),
                                   dilation)
        assert_close(found, taps.grad, 2 * 23 * 35)


@pytest.mark.parametrize('channels_last', [False, True])
def test_the_number_of_threads_changes_no_bit(channels_last):
    x, grad = (memory_format.laid_out(torch.randn(2, 20, 70, 260), channels_last) for _ in range(2))
    weight, threads, found = torch.randn(20, 1, 13, 13), torch.get_num_threads(), []
    try:
        for count in (1, 2, 7):
            torch.set_num_threads(count)
            found.append([direct.convolve(x, weight, None, (1, 1), False, channels_last),
                          direct.grad_weight(x, grad, (13, 13), (1, 1)),
                          direct.grad_weight(x, grad, (13, 13), (2, 3)),
                          direct.grad_weight(x, grad, (51, 51), (1, 1))])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize('value', [float('inf'), -float('inf'), float('nan')])
def test_what_is_not_finite_stays_so_where_the_filter_reaches(value, dtype):
    x = torch.randn(1, 2, 20, 20).to(dtype)
    x[0, 0, 10, 10] = value
    out = direct.convolve(x, torch.ones(2, 1, 3, 3, dtype=dtype), None, (1, 1), False, True, True)
    met = torch.zeros(20, 20, dtype=torch.bool)
    met[9:12, 9:12] = True
    expected = torch.full((9,), value).relu()
    assert torch.equal(out[0, 0][met].float().nan_to_num(-1), expected.nan_to_num(-1))
    near = met.clone()
    near[9:12, 8:13] = True  # a pair of taps has a zero
    assert out[0, 0][~near].isfinite().all() and out[0, 1].isfinite().all()


def test_bfloat16_is_rounded_to_the_nearest_once():
    x = torch.randn(1, 16, 9, 40).bfloat16()
    ones = torch.ones(16, 1, 1, 1, dtype=torch.bfloat16)
    bias = torch.full((16,), 2.0**-9)
    for last in (False, True):
        out = direct.convolve(x, ones, bias, (1, 1), False, last)
        assert torch.equal(out, (x.float() + 2.0**-9).bfloat16())


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """A process that has not compiled yet, and a folder that holds nothing."""
    made = compiled.library()
    assert made is not None, compiled.problem()
    monkeypatch.setenv('MMREPLK_CACHE', str(tmp_path / 'cache'))
    compiled._library.cache_clear()
    costs.cheapest.cache_clear()
    yield made._name
    compiled._library.cache_clear()
    costs.cheapest.cache_clear()


def fake_compiler(path, script):
    path.write_text(f'#!/bin/sh\necho >> {path}.calls\nfor out; do :; done\n{script}\n')
    path.chmod(0o755)
    return str(path)


def calls(compiler):
    return open(f'{compiler}.calls').read().count('\n')


def test_it_is_compiled_once_and_kept(fresh, monkeypatch, tmp_path, caplog):
    compiler = fake_compiler(tmp_path / 'g++', f'cp {fresh} "$out"')
    monkeypatch.setenv('CXX', compiler)
    caplog.set_level('INFO', logger='mmreplk')
    assert compiled.library() is compiled.library() is not None and compiled.problem() is None
    compiled._library.cache_clear()
    assert compiled.library() is not None and calls(compiler) == 2, 'compiled and linked'
    assert 'compiling the convolutions for this CPU' in caplog.text
    kept, = (tmp_path / 'cache').glob('*.so')
    assert [path.suffix for path in (tmp_path / 'cache').iterdir() if path != kept] == ['.lock']


@pytest.mark.parametrize('what', ['a folder that cannot be written', 'a broken file'])
def test_without_the_cache_it_is_compiled_for_this_process(fresh, monkeypatch, tmp_path, what):
    compiler = fake_compiler(tmp_path / 'g++', f'cp {fresh} "$out"')
    monkeypatch.setenv('CXX', compiler)
    if what == 'a broken file':
        assert compiled.library() is not None
        kept, = (tmp_path / 'cache').glob('*.so')
        (tmp_path / 'other').mkdir()
        (tmp_path / 'other' / kept.name).write_bytes(b'not a library')
        monkeypatch.setenv('MMREPLK_CACHE', str(tmp_path / 'other'))
        compiled._library.cache_clear()
    else:
        (tmp_path / 'cache').write_text('a file where the folder should be')
    assert compiled.library() is not None
    assert calls(compiler) == (4 if what == 'a broken file' else 2)


@pytest.mark.parametrize(('script', 'reason'), [
    ('echo "depthwise.cpp:3: error: what is that?" >&2; exit 1', 'error: what is that?'),
    ('exit 3', 'ended with 3'),
    ('echo text > "$out"', 'invalid ELF header|file too short'),
    (None, 'there is no /nowhere/g'),
])
def test_without_a_compiler_the_other_ways_remain(fresh, monkeypatch, tmp_path, caplog, script, reason):
    monkeypatch.setenv('CXX', fake_compiler(tmp_path / 'g++', script) if script else '/nowhere/g++')
    x, weight = torch.randn(1, 16, 40, 40), torch.randn(16, 1, 13, 13)
    for _ in range(2):
        assert_close(depthwise_conv2d(x, weight), reference.forward(x.double(), weight.double()), 169)
    problem = ways.Problem(1, 16, 40, 40, 13, 13, torch.float32, False, False)
    assert not any(way.kernel == 'direct' for way in ways.convolving(problem) + ways.grad_weight(problem))
    message, = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert 'depthwise convolutions are slower on this CPU than they could be' in message
    assert re.search(reason, message)


@pytest.mark.skipif(facts.INSTRUCTIONS != 'AVX512', reason='this is how it is compiled here')
def test_a_cpu_without_avx512():
    code = ('import torch\nfrom mmreplk.ops import reference\nfrom mmreplk.ops.cpu import compiled, direct, facts\n'
            'assert facts.INSTRUCTIONS == "AVX2" and compiled.problem() is None, compiled.problem()\n'
            'for dtype, limit in ((torch.float32, 1e-5), (torch.bfloat16, 1e-2)):\n'
            '    x, w = torch.randn(2, 19, 30, 37).to(dtype), torch.randn(19, 1, 13, 9).to(dtype)\n'
            '    for last in (False, True):\n'
            '        a = x.contiguous(memory_format=torch.channels_last) if last else x\n'
            '        for out, good in ((direct.convolve(a, w, None, (1, 1), False, not last),\n'
            '                           reference.forward(x.double(), w.double())),\n'
            '                          (direct.grad_weight(a, x, (13, 9), (1, 1)),\n'
            '                           reference.grad_weight(x.double(), x.double(), (13, 9)))):\n'
            '            assert (out - good).abs().max() < limit * good.abs().max()\n')
    environment = dict(os.environ, ATEN_CPU_CAPABILITY='avx2', ONEDNN_MAX_CPU_ISA='AVX2')
    done = subprocess.run([sys.executable, '-c', code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
