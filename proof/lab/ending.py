"""How a program of ``proof/`` ends: with a verdict, and with nothing left behind.

The one idea: whoever ends a program, by Ctrl-C, SIGTERM or by closing the terminal, interrupts its
main thread the same way, so that servers end, databases are dropped and folders removed on the way
out.  A program that fails says so in its verdict: a traceback is none.

What may go wrong: SIGKILL.  Nobody can clean up after that.
"""

from __future__ import annotations

import signal
import subprocess
import traceback

INTERRUPTED = 130
"""Exit code, as of a shell."""


def run(main) -> int:
    """Run a program.

    :param main: takes nothing, returns the exit code
    :return: its exit code; INTERRUPTED; 1 if it raised
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, _interrupt)
    try:
        return main()
    except KeyboardInterrupt:
        print('verdict: interrupted; nothing is shown', flush=True)
        return INTERRUPTED
    except Exception as error:
        traceback.print_exc()
        said = f'{type(error).__name__}: {error}'.partition('\n')[0]
        print(f'verdict: WRONG: the program itself failed: {said}', flush=True)
        return 1


def call(command, grace_s: float = 60, **options) -> subprocess.CompletedProcess:
    """``subprocess.run``, which would kill a program of ours in the middle of its cleaning up.

    :param grace_s: how long it may take for that, after SIGTERM
    :param options: of ``subprocess.Popen``
    """
    process = subprocess.Popen(command, **options)
    try:
        output, errors = process.communicate()
    except BaseException:
        process.terminate()
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def _interrupt(_number, _frame):
    for number in (signal.SIGTERM, signal.SIGHUP):
        # what comes next must not interrupt the cleaning up; SIG_IGN would be inherited by programs
        # that are started meanwhile
        signal.signal(number, lambda *_args: None)
    raise KeyboardInterrupt
