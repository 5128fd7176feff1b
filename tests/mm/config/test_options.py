import argparse
import re

import pytest

from mmreplk.mm.config import add_cfg_options
from mmreplk.mm.config.options import parse_value


def parse(*words):
    parser = argparse.ArgumentParser()
    add_cfg_options(parser)
    return parser.parse_args(words).cfg_options


@pytest.mark.parametrize(('text', 'value'), [
    ('3', 3), ('1e-3', 1e-3), ('true', True), ('False', False), ('None', None), ('', ''), ('[]', []), ('()', ()),
    ('1,2,3', [1, 2, 3]), ('[a, b, c]', ['a', 'b', 'c']), ('[(1, 2, 3), [a, b], c]', [(1, 2, 3), ['a', 'b'], 'c']),
    ('(64,64)', (64, 64)), ('a,', ['a']), ('"[1,2]"', '[1,2]'), ("['a','b']", ['a', 'b']),
    ('/data/my pictures', '/data/my pictures'), ('/data/a (copy)/b', '/data/a (copy)/b'), ('a(b', 'a(b'),
    ("['traffic light', 'stop sign']", ['traffic light', 'stop sign']), ("'a, b'", 'a, b'),
    ("[['x', 'a]b'], it's]", [['x', 'a]b'], "it's"]), ('https://a/b?c=d', 'https://a/b?c=d'),
])
def test_what_a_value_stands_for(text, value):
    assert parse_value(text) == value and parse('--cfg-options', f'a.b={text}') == {'a.b': value}


def test_several_options_add_up():
    assert parse('--cfg-options', 'a=1', 'b=x y', '--cfg-options', 'a=2') == {'a': 2, 'b': 'x y'}
    assert parse() is None


@pytest.mark.parametrize(('words', 'sentence'), [
    (['lr', '0.1'], "argument --cfg-options: it takes KEY=VALUE, got 'lr'"),
    (['a=1', '=2'], "it takes KEY=VALUE, got '=2'"),
    (['a=[1,2'], r"the value of a lacks a ']': '\[1,2'"),
    (['a=[1)]'], r"the value of a has a '\)' that closes nothing: '\[1\)\]'"),
])
def test_what_is_none(words, sentence, capsys):
    with pytest.raises(SystemExit) as end:
        parse('--cfg-options', *words)
    said = capsys.readouterr().err
    assert end.value.code == 2 and re.search(sentence, said.splitlines()[-1]), said
