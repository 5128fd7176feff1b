"""The executable that :func:`tests.warm.python` returns: has a server run a command line, and ends as that ends.

It imports little, to start in hundredths of a second.
"""

import json
import os
import signal
import socket
import sys


def main(address: str, executable: str, argv: list[str]) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.connect(address)
    request = dict(executable=executable, argv=argv, cwd=os.getcwd(), environment=dict(os.environ))
    socket.send_fds(server, [json.dumps(request).encode() + b'\n'], [0, 1, 2])
    with server.makefile() as answers:
        pid = int(answers.readline())
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: os.kill(pid, number))
        code = int(answers.readline())
    if code >= 0:
        sys.exit(code)
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)


if __name__ == '__main__':
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
