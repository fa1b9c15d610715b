"""`python -m calot.tracking SERVICE RUN HOME`: follow a run, woken by lines on standard input, until they end.

The one line that it writes to standard output is why it failed, with exit code 1; what libraries print goes to
standard error. After its input has ended it takes at most ten minutes.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from calot.errors import first_line
from calot.tracking.followed import Followed
from calot.tracking.follower import follow
from calot.tracking.services import find_service

_LONGEST_S = 600.0


def _lines(number: int) -> Iterator[str]:
    with os.fdopen(number, encoding="utf-8") as file:
        yield from file
    left = threading.Timer(_LONGEST_S, os._exit, (1,))
    left.daemon = True
    left.start()


def _main() -> int:
    """The exit code: 0 if the service has every row."""
    orders, answer, nothing = os.dup(0), os.dup(1), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # no library may ask for a password there
    os.dup2(2, 1)
    name, folder, home = sys.argv[1:]
    try:
        follow(Followed.of(Path(folder), home=Path(home)), service=find_service(name), lines=_lines(orders))
    except BaseException as error:  # whatever a library of somebody else's raises: the run is told in one line
        message = f"{type(error).__name__}: {first_line(error)}"[:300]
        with contextlib.suppress(OSError):
            os.write(answer, message.encode(errors="replace"))
        import traceback

        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    code = _main()
    sys.stderr.flush()
    os._exit(code) if code else sys.exit(0)
