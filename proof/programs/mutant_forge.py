"""A process that has imported Odoo once, and becomes an Odoo as often as it is told.

The one idea: importing Odoo takes half of the time of a short run, and is the same for each.  So
one process imports it, and all modules but the addon, and forks; only the fork reads the addon.

Read by :mod:`.mutant_runs`, which writes one job a line: {"arguments", "environment", "log"}; it is
answered with the process id of the fork, and then with its exit code.

What may go wrong: something that must not be shared by two processes is open when it forks.  It
only imports: no thread, no connection.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    _import_odoo(sys.argv[1:])
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if not pid:
            _become_odoo(**job)
        print(pid, flush=True)
        _pid, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _import_odoo(modules: list[str]) -> None:
    for name in (
        'odoo.cli.server',
        'odoo.service.server',
        'odoo.tests.common',
        'odoo.tests.loader',
    ):
        importlib.import_module(name)
    config = importlib.import_module('odoo.tools').config
    config.parse_config(['--http-interface=127.0.0.1'])
    importlib.import_module('odoo.modules.module').initialize_sys_path()
    for name in modules:
        importlib.import_module(f'odoo.addons.{name}')


def _become_odoo(arguments: list[str], environment: dict[str, str], log: str) -> None:
    os.setsid()
    with contextlib.suppress(AttributeError, OSError):
        # In a session of its own nothing else would end it when its forge is killed (Linux).
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.update(environment)
    sys.argv = ['odoo', *arguments]
    importlib.import_module('odoo.cli.server').main(arguments)
    sys.exit()


if __name__ == '__main__':
    main()
