"""Options of tools that read a config."""

from argparse import Action, ArgumentError, ArgumentParser, Namespace

_CLOSING = {'(': ')', '[': ']'}


def add_cfg_options(parser: ArgumentParser) -> None:
    """Adds ``--cfg-options``, for :func:`load_config`."""
    parser.add_argument('--cfg-options', nargs='+', action=_KeysAndValues, metavar='KEY=VALUE',
                        help='override config values, as key=value or key="[a,b]"; data_root=FOLDER moves all '
                        'data')


def add_launcher(parser: ArgumentParser) -> None:
    """Adds ``--launcher`` and what PyTorch's launchers pass to each process."""
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


class _KeysAndValues(Action):
    """Collects ``KEY=VALUE`` into a dict; the option may be given several times."""

    def __call__(self, parser: ArgumentParser, namespace: Namespace, values: list[str], option_string=None) -> None:
        options = dict(getattr(namespace, self.dest) or {})
        for word in values:
            key, equals, text = word.partition('=')
            if not equals or not key:
                raise ArgumentError(self, f'it takes KEY=VALUE, got {word!r}')
            try:
                options[key] = parse_value(text)
            except ValueError as error:
                raise ArgumentError(self, f'the value of {key} {error}') from error
        setattr(namespace, self.dest, options)


def parse_value(text: str) -> object:
    """Reads a value of ``--cfg-options`` as MMEngine's ``DictAction`` does, but keeps spaces.

    Args:
        text: A number, ``True``, ``False``, ``None``, or else a string; a tuple ``(a, b)`` or a list ``[a, b]`` or
            ``a,b`` of these. What is between quotes is a string as it stands.

    Raises:
        ValueError: If brackets are left open.
    """
    text = text.strip()
    is_bracketed = text[:1] in _CLOSING and text[-1:] == _CLOSING[text[0]]
    parts = _parts(text) if is_bracketed or ',' in text else [text]
    if len(parts) > 1:
        return [parse_value(part) for part in parts if part.strip()]
    if is_bracketed:
        items = [parse_value(part) for part in _parts(text[1:-1]) if part.strip()]
        return tuple(items) if text[0] == '(' else items
    if len(text) > 1 and text[0] in '\'"' and text[-1] == text[0]:
        return text[1:-1]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return {'true': True, 'false': False}.get(text.lower(), None if text == 'None' else text)


def _parts(text: str) -> list[str]:
    """Splits at commas that are neither in brackets nor in quotes."""
    parts, opened, quote = [''], [], ''
    for i, letter in enumerate(text):
        if quote:
            quote = '' if letter == quote else quote
        elif letter in '\'"' and parts[-1].rstrip()[-1:] in ('', '(', '[', ',') and letter in text[i + 1:]:
            quote = letter  # an apostrophe within a word is not a quote
        elif letter in _CLOSING:
            opened.append(_CLOSING[letter])
        elif letter in _CLOSING.values() and (not opened or opened.pop() != letter):
            raise ValueError(f'has a {letter!r} that closes nothing: {text!r}')
        if letter == ',' and not opened and not quote:
            parts.append('')
        else:
            parts[-1] += letter
    if opened:
        raise ValueError(f'lacks a {opened[-1]!r}: {text!r}')
    return parts
