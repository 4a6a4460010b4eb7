"""Take one protection away at a time: some test must fail.

The one idea: tests prove something only if they would notice.  Each *mutant* of the table
(:mod:`.mutant_table`) is the addon with one protection removed; its tests run over a copy of the
checkout and a clone of a database, and one of them must fail.  First those that are named for it,
then, if they all pass, every test of the addon.

What may go wrong: a mutant that no longer applies, since the code has changed: that is an error, so
that the table stays true.  A mutant that cannot be loaded or only hangs is not "found" either.  And
tests that fail without any change would find everything, so they are run over the unchanged code
first.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import json
import shutil
import sys
import time
import typing
from pathlib import Path

from ..lab import ending
from .mutant_runs import REPO, DoesNotApply, Outcome, Workshop, replace_once
from .mutant_table import MUTANTS, NOT_PROTECTIONS, Mutant

ALL_TESTS = '/tiered_cache'
DOCS = REPO / 'docs' / 'planted-faults.md'
RECORD = REPO / 'proof' / 'results' / 'mutants.json'
BEGIN, END = '<!-- proof/mutants writes from here -->', '<!-- to here -->'

FOUND, SURVIVED, TIMEOUT, BROKEN, STALE = (
    'found',
    'SURVIVED',
    'TIMEOUT',
    'BROKEN',
    'DOES NOT APPLY',
)


class Result(typing.NamedTuple):
    """:param by: the test that failed first, or what went wrong"""

    mutant: Mutant
    outcome: str
    by: str
    seconds: float


def main() -> int:
    options = _options()
    mutants = _chosen(options.names)
    if options.left:
        known = _recorded()
        mutants = [one for one in mutants if known.get(one.name, {}).get('outcome') != FOUND]
    if options.list:
        for mutant in mutants:
            print(f'{mutant.name:36} {mutant.promise:4} {mutant.protection}')
        print(f'{len(mutants)} planted faults')
        return 0
    if not mutants:
        print('verdict: nothing wrong: every planted fault was found before')
        return 0
    stale = [result for mutant in mutants if (result := _applies(mutant))]
    if stale:
        return _verdict(stale, 0)
    started = time.monotonic()
    print(f'{len(mutants)} planted faults, jobs: {options.jobs} (no chance in it: no seed)')
    with Workshop(options.limit_s) as workshop:
        print('installing the addon ...', flush=True)
        workshop.prepare()
        if not options.quick and not _passes_unchanged(workshop, mutants, options):
            print('verdict: WRONG: tests fail without a planted fault; nothing is shown')
            return 1
        results = _run_all(workshop, mutants, options)
    if options.docs:
        _write_docs()
    return _verdict(results, time.monotonic() - started)


def _passes_unchanged(workshop: Workshop, mutants: list[Mutant], options) -> bool:
    print('the tests over the unchanged code ...', flush=True)
    tests = ALL_TESTS if options.all_tests else _tags(' '.join(m.tests for m in mutants))
    baseline = workshop.run('unchanged', (), tests, upgrade=True)
    print(f'{baseline.passed} passed in {baseline.seconds:.0f} s', flush=True)
    problems = [*baseline.failed, *baseline.broken]
    if not baseline.ended or not baseline.passed:
        problems.append('Odoo did not run the tests to their end')
    for problem in problems:
        print(f'without a planted fault: {problem}')
    return not problems


def _options():
    parser = argparse.ArgumentParser(prog='mutants', description=__doc__.split('\n')[0])
    parser.add_argument('names', nargs='*', metavar='NAME', help="only these, or beginning so")
    parser.add_argument('--list', action='store_true', help="print the table and end")
    parser.add_argument('--jobs', type=int, default=1, help="runs at once")
    parser.add_argument(
        '--all-tests', action='store_true', help="all tests for each, not only those named for it"
    )
    parser.add_argument(
        '--quick', action='store_true', help="do not run the tests over the unchanged code first"
    )
    parser.add_argument(
        '--no-fallback', action='store_true', help="do not try all tests when those named pass"
    )
    parser.add_argument('--limit-s', type=float, default=600, help="longest time of one run")
    parser.add_argument('--logs', type=Path, help="folder for the logs of what was not found")
    parser.add_argument(
        '--left', action='store_true', help=f"only those not found yet, says {RECORD.name}"
    )
    parser.add_argument('--docs', action='store_true', help=f"write the table to {DOCS.name}")
    return parser.parse_args()


def _chosen(names: list[str]) -> list[Mutant]:
    if not names:
        return list(MUTANTS)
    chosen = [mutant for mutant in MUTANTS if mutant.name.startswith(tuple(names))]
    if not chosen:
        sys.exit(f'no planted fault is called {" or ".join(names)}; see --list')
    return chosen


def _applies(mutant: Mutant) -> Result | None:
    """None, or a result that says why it cannot be planted."""
    texts: dict[str, str] = {}
    try:
        for file, old, new in mutant.edits:
            path = REPO / file
            texts[file] = replace_once(texts.get(file) or path.read_text(), old, new, file)
    except (DoesNotApply, OSError) as error:
        return Result(mutant, STALE, str(error), 0.0)
    return None


def _tags(tests: str) -> str:
    return ','.join(f'/tiered_cache:{name}' for name in sorted(set(tests.split())))


def _run_all(workshop: Workshop, mutants: list[Mutant], options) -> list[Result]:
    results = []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        waiting = [pool.submit(_run, workshop, mutant, options) for mutant in mutants]
        try:
            for number, future in enumerate(concurrent.futures.as_completed(waiting), 1):
                result = future.result()
                results.append(result)
                _record(result)
                print(
                    f'{number:3}/{len(mutants)} {result.outcome:9} {result.mutant.name:36}'
                    f' {result.seconds:4.0f} s  {result.by}',
                    flush=True,
                )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            workshop.stop()
            raise
    order = {mutant.name: place for place, mutant in enumerate(mutants)}
    return sorted(results, key=lambda result: order[result.mutant.name])


def _run(workshop: Workshop, mutant: Mutant, options) -> Result:
    tests = ALL_TESTS if options.all_tests else _tags(mutant.tests)
    outcome = workshop.run(mutant.name, mutant.edits, tests, mutant.upgrade)
    result = _result(mutant, outcome, 0.0)
    if result.outcome == SURVIVED and tests != ALL_TESTS and not options.no_fallback:
        outcome = workshop.run(mutant.name, mutant.edits, ALL_TESTS, mutant.upgrade)
        result = _result(mutant, outcome, result.seconds)
        if result.outcome == FOUND:
            result = result._replace(by=f'{result.by} (not one of those named for it)')
    if options.logs and result.outcome != FOUND:
        options.logs.mkdir(parents=True, exist_ok=True)
        shutil.copy(outcome.log, options.logs / f'{mutant.name}.log')
    workshop.forget(mutant.name)
    return result


def _result(mutant: Mutant, outcome: Outcome, before_s: float) -> Result:
    seconds = before_s + outcome.seconds
    if outcome.failed:
        more = len(outcome.failed) - 1
        by = outcome.failed[0] + (f' and {more} more' if more else '')
        return Result(mutant, FOUND, by, seconds)
    if outcome.timed_out:
        return Result(mutant, TIMEOUT, 'no test failed in time', seconds)
    if outcome.broken or not outcome.ended:
        by = outcome.broken[0] if outcome.broken else 'Odoo did not run the tests'
        return Result(mutant, BROKEN, by, seconds)
    return Result(mutant, SURVIVED, f'{outcome.passed} tests passed', seconds)


def _verdict(results: list[Result], seconds: float) -> int:
    missed = [result for result in results if result.outcome != FOUND]
    for result in missed:
        print(f'{result.outcome}: {result.mutant.name}: {result.mutant.protection}: {result.by}')
    found = len(results) - len(missed)
    print(f'{found} of {len(results)} planted faults were found, in {seconds / 60:.0f} minutes')
    if missed:
        print(f'verdict: WRONG: {len(missed)} planted faults were not found')
        return 1
    print('verdict: nothing wrong: a test fails for each planted fault')
    return 0


# -- the table in the docs -----------------------------------------------------------------------


def _recorded() -> dict[str, dict]:
    """Outcomes by name; not those of a fault that has been planted in another way since."""
    known = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    now = {mutant.name: _digest(mutant) for mutant in MUTANTS}
    return {name: row for name, row in known.items() if row.get('of') in (None, now.get(name))}


def _digest(mutant: Mutant) -> str:
    """Changes with what is planted and with the tests that are named for it."""
    what = repr((mutant.edits, mutant.tests)).encode()
    return hashlib.blake2b(what, digest_size=6).hexdigest()


def _record(result: Result) -> None:
    """After each one: a run takes more than an hour, and may be ended."""
    outcome = {
        'outcome': result.outcome,
        'by': result.by,
        'seconds': round(result.seconds),
        'of': _digest(result.mutant),
    }
    known = _recorded() | {result.mutant.name: outcome}
    RECORD.write_text(json.dumps(known, indent=1, sort_keys=True) + '\n')


def _write_docs() -> None:
    """The last outcome of each planted fault that is in the table now."""
    text = DOCS.read_text()
    before, _begin, rest = text.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not end:
        sys.exit(f'{DOCS} has no place for the table: {BEGIN}')
    DOCS.write_text(f'{before}{BEGIN}\n\n{_markdown(_recorded())}\n{END}{after}')


def _markdown(known: dict[str, dict]) -> str:
    never = {'outcome': 'not run yet', 'by': '', 'seconds': 0}
    rows = [(mutant, known.get(mutant.name, never)) for mutant in MUTANTS]
    found = sum(row['outcome'] == FOUND for _mutant, row in rows)
    lines = [
        f'{found} of {len(rows)} planted faults were found ({100 * found / len(rows):.1f} %).',
        '',
        '| removed | promise | planted fault | found by | s |',
        '|---|---|---|---|---|',
    ]
    lines += [
        f'| {mutant.protection} | {mutant.promise} | `{mutant.name}`'
        f' | {row["by"] if row["outcome"] == FOUND else row["outcome"]} | {row["seconds"]} |'
        for mutant, row in rows
    ]
    lines += ['', 'Looked at and left out, since another part gives the same protection:', '']
    lines += [f'* {what}: {why}' for what, why in NOT_PROTECTIONS]
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    sys.exit(ending.run(main))
