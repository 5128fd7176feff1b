"""``python -m mmreplk`` says what is installed and what this machine can use; with a tool's name, it runs that tool."""

import argparse
import ast
import importlib.util
import shutil
import sys
import textwrap
import types
from pathlib import Path

from .about import describe
from .cli import run
from .errors import InputError
from .shipped import nearest, tool_names
from .stand_in import stand_in_path

PROG = 'python -m mmreplk'
STAND_IN = 'stand-in'


def main() -> None:
    parser = argparse.ArgumentParser(
        prog=PROG, formatter_class=argparse.RawDescriptionHelpFormatter, description='Without a command, says what is '
        'installed and what this machine can use.', epilog=_commands())
    parser.add_argument('command', nargs='?', help='one of the commands below')
    parser.add_argument('arguments', nargs=argparse.REMAINDER, help='of the command; COMMAND --help lists them')
    args = parser.parse_args()
    if args.command is None:
        print(describe())
    elif args.command == STAND_IN:
        print(stand_in_path())
    else:
        run(lambda: _run_tool(args.command, args.arguments))


def _commands() -> str:
    summaries = {STAND_IN: 'Prints the folder with the stand-in for depthwise_conv2d_implicit_gemm, for PYTHONPATH.'}
    summaries |= {name: _summary(path) for name, path in tool_names().items()}
    name_width, width = max(map(len, summaries)), shutil.get_terminal_size().columns
    return 'commands:\n' + '\n'.join(f'  {name:{name_width}}  ' + textwrap.shorten(text, width - name_width - 4)
                                     for name, text in summaries.items())


def _summary(tool: Path) -> str:
    return (ast.get_docstring(ast.parse(tool.read_text())) or '').partition('\n')[0]


def _run_tool(name: str, arguments: list[str]) -> None:
    """Runs a tool as ``python tools/...`` would, but its help shows the command as it was typed.

    Raises:
        InputError: If there is no such tool, or it needs a package that is not installed.
    """
    tools = tool_names()
    if name not in tools:
        raise InputError(f'{PROG} has no command {name!r}{nearest(name, [STAND_IN, *tools])}')
    sys.argv = [f'{PROG} {name}', *arguments]
    module = sys.modules['__main__'] = types.ModuleType('__main__')
    module.__file__ = str(tools[name])
    try:
        exec(compile(tools[name].read_bytes(), module.__file__, 'exec'), vars(module))
    except ImportError as error:
        if error.name is None or importlib.util.find_spec(error.name.partition('.')[0]) is not None:
            raise  # the package is installed but broken, and the traceback says more
        raise InputError(f'{PROG} {name} needs a package that is not installed: {error}') from error


if __name__ == '__main__':
    main()
