"""Python imports this first where its folder is on the path: every way out of the machine is noted and refused.

``EVIT_EDGE_CALLS`` names the file of the notes. Child processes inherit both by their environment.
"""

import os
import sys
from pathlib import Path

ASKING_NAMES = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}
SENDING = {"socket.connect", "socket.sendto", "socket.sendmsg"}
LOCAL = (None, "", "localhost", "127.0.0.1", "::1")


def _outward(event: str, arguments: tuple) -> bool:
    if event in ASKING_NAMES:
        return arguments[0] not in LOCAL
    # A Unix socket's address is a path, of another machine's a pair of host and port.
    return event in SENDING and isinstance(arguments[1], tuple)


def _refuse(event: str, arguments: tuple) -> None:
    if _outward(event, arguments):
        with Path(os.environ["EVIT_EDGE_CALLS"]).open("a", encoding="utf-8") as notes:
            notes.write(f"{event} {arguments[-1] if event in SENDING else arguments[0]}\n")
        raise OSError(f"{event} in a test that allows no network")


sys.addaudithook(_refuse)
