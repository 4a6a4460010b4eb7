"""Does the random walk find what is wrong?  It walks over a copy with a planted fault.

The one idea: a walk that finds nothing proves nothing unless it finds what is there.  Some faults
of :mod:`.mutant_table`, one for each kind of protection, are planted one at a time in a copy of the
checkout, and ``proof/model`` walks there until it finds a difference.

What may go wrong: a worker that cannot start would look like a find.  So only a difference counts.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from pathlib import Path

from ..lab import ending
from .mutant_runs import copy_checkout
from .mutant_table import MUTANTS

PLANTS = (
    'judge-version',
    'judge-first-only',
    'store-newest-versions',
    'delta-covers',
    'delta-generation',
    'delta-in-place',
    'look-running',
    'own-write-sql',
    'own-write-later',
    'compact-sums',
    'compact-mark',
    'trigger-insert',
    'trigger-update',
    'trigger-delete',
    'record-nothing',
    'position-asked',
    'inner-dependencies',
    'memory-ignored',
    'x2many-in-memory',
    'always-security',
    'rule-check',
    'rule-same-object',
    'signals-ormcache',
    'memory-keep',
    'key-uid',
    'key-su',
    'key-companies',
    'key-language',
    'key-arguments',
)
"""Names of planted faults that operations of the walk can show."""

_FOUND = re.compile(r'^verdict: WRONG: a difference after ([\d,]+) checked hits', re.MULTILINE)


def run(names: list[str], minutes: float, seed: int) -> int:
    """Walk over each.

    :param names: of planted faults, or ``['all']`` for :data:`PLANTS`
    :param minutes: longest time for each
    :return: exit code
    :raise SystemExit: there is no such fault
    """
    table = {mutant.name: mutant for mutant in MUTANTS}
    chosen = list(PLANTS) if names == ['all'] else names
    if unknown := set(chosen) - set(table):
        raise SystemExit(f"no such planted fault: {', '.join(sorted(unknown))}")
    missed = [name for name in chosen if not _find(table[name], minutes, seed)]
    print(f'{len(chosen) - len(missed)} of {len(chosen)} planted faults were found')
    if missed:
        print(f"verdict: WRONG: the walk did not find {', '.join(missed)}")
        return 1
    print('verdict: nothing wrong: the walk found every planted fault')
    return 0


def _find(mutant, minutes: float, seed: int) -> bool:
    with tempfile.TemporaryDirectory(prefix='tiered_cache_plant_') as folder:
        copy = Path(folder) / 'tiered_cache'
        copy_checkout(copy, mutant.edits)
        command = [copy / 'proof' / 'model', '--minutes', str(minutes), '--seed', str(seed)]
        command += ['--minimise', '0', '--script', Path(folder) / 'script']
        started = time.monotonic()
        pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE}
        run = ending.call(command, **pipes, text=True)
    seconds = time.monotonic() - started
    found = _FOUND.search(run.stdout)
    said = f'after {found[1]} checked hits' if found else (run.stdout or run.stderr)[-300:]
    print(
        f"{'found' if found else 'MISSED':6} {mutant.name:24} {seconds:4.0f} s  {said}", flush=True
    )
    return bool(found)
