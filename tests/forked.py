"""Server of Python processes that have imported Keras and NumPy, and nothing of segzoo.

A process that imports TensorFlow takes ten seconds for it; one that this server forks has done so. It reads a line of
JSON for each on the standard input, and answers with its exit code: a negative one is the signal that ended it.
"""

from __future__ import annotations

import json
import os
import sys
import traceback

import keras  # noqa: F401  (before segzoo: whoever needs the other order starts a process)


def run(code: str, arguments: list[str], folder: str, path: list[str], out: str, errors: str) -> None:
    """Run code as `python -c` does, its standard output and errors in files."""
    for number, name in ((1, out), (2, errors)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(folder)
    sys.path[:0] = path
    sys.argv = ["-c", *arguments]
    status = 1
    try:
        exec(compile(code, "<forked>", "exec"), {"__name__": "__main__"})
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    del sys.path[0]  # this file's folder
    assert not [name for name in sys.modules if name.partition(".")[0] == "segzoo"]
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            run(**json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
