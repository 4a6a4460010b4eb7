"""What the runs of :mod:`.odoo_tests` say: read, compared, written down.

The one idea: a test that fails with the addon and not without it counts, and so does a test
that makes another number of queries; the rest is Odoo's own business.
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / 'scripts'))

from read_log import TIMED_OUT, read_allowed, read_run  # noqa: E402

SWITCH = 'TIERED_CACHE_TEST_SNAPSHOT'

QUERY_COUNT = re.compile(r'Query count more than expected|actual quer(y|ies):')


EXCUSED = {
    'two answers': re.compile(r' gives two answers in one transaction by itself'),
    'memory': re.compile(r' gives another answer where values of tools\.ormcache are in memory'),
}
"""What the auditor logs and does not take for a difference, see ``services/auditor.py``."""


def odoo_version(odoo):
    release = (odoo / 'odoo/release.py').read_text() if odoo else ''
    found = re.search(r'version_info = \((\d+), (\d+), (\d+)', release)
    changelog = '.'.join(found.groups()) if found else 'unknown'
    return changelog


def read(log, figures, code):
    """What one run said.

    :return: ``tests``: how many ran; ``failed``: name → its last line; ``counts``: those that
        failed because they count queries; ``queries``: by test; ``cache``: what the cache did
    """
    run = read_run(log, read_allowed(ROOT / 'scripts/expected-warnings.txt'))
    report = json.loads(figures.read_text()) if figures.exists() else {'tests': {}}
    if code in TIMED_OUT or not run.started:
        run.failed[WHOLE] = None
    failed = {name: without_folders(_reason(record)) for name, record in run.failed.items()}
    cache = report.get('cache') or {}
    return {
        'tests': len(run.started),
        'skipped': len(run.skipped),
        'failed': failed,
        'counts': sorted(name for name, why in failed.items() if is_count(name, why)),
        'queries': {name: test['queries'] for name, test in report['tests'].items()},
        'logged': sorted({without_folders(record.key[1]) for record in run.unexpected}),
        'time_s': round(sum(test['time_s'] for test in report['tests'].values()), 1),
        'exit_code': code,
        'cache': {
            'hits': sum(cache.get('hits', {}).values()),
            'misses': cache.get('misses', {}),
            'audited': cache.get('audited', 0),
            'differences': cache.get('differences', 0),
            'faults': cache.get('faults', {}),
        },
        'excused': excused(log.read_text(errors='replace')),
        'replay': report.get('replay', {}),
    }


_FOLDERS = re.compile(r'(?<![\w:/.])/(?:[\w.@+-]+/)+')


def without_folders(text):
    """Files by their names alone: where they lie says something of one machine only."""
    return _FOLDERS.sub('', text)


def excused(text):
    """:return dict: how often the auditor has let a difference pass, by kind"""
    found = {name: len(pattern.findall(text)) for name, pattern in EXCUSED.items()}
    return {name: count for name, count in found.items() if count}


def is_count(name, why):
    """Whether a test fails since it counts queries, or in between what ``tools.ormcache`` did."""
    return bool(QUERY_COUNT.search(why)) or name.endswith('_query_count')


def _reason(record):
    if record is None:
        return 'it did not end'
    lines = [line.strip() for line in record.all_lines if line.strip()]
    for line in lines:
        if QUERY_COUNT.search(line):
            return line
    return lines[-1]


NOTHING = {'failed': (), 'queries': {}, 'logged': ()}


def compare(row):
    """Add to each mode what it does not share with the run without the addon: ``only`` failed
    there, ``missing`` did not run, ``logged_only``: warnings and errors in the log."""
    base = row.get('without', NOTHING)
    for mode in ('with', 'cache'):
        result = row.get(mode)
        if result is None:
            continue
        result['only'] = sorted(set(result['failed']) - set(base['failed']))
        result['flaky'] = []
        result['by_asking'] = []
        result['missing'] = sorted(base['queries'].keys() - result['queries'].keys())
        logged = set(result['logged']) - set(base['logged'])
        result['logged_only'] = sorted(line for line in logged if SWITCH not in line)
        shared = base['queries'].keys() & result['queries'].keys()
        result['more_queries'] = {
            name: [base['queries'][name], result['queries'][name]]
            for name in sorted(shared)
            if base['queries'][name] != result['queries'][name]
        }


WHOLE = 'the whole run'


def complaints(row):
    """:return list: sentences; what is left to explain or to mend, and what a run did not show"""
    found = []
    for mode in ('without', 'with', 'cache'):
        result = row.get(mode)
        if result is None:
            continue
        if WHOLE in result['failed'] or not result['tests']:
            found.append(f'{mode}: the tests did not run to their end')
        if mode != 'without':
            found += [f'{mode}: {one}' for one in _with_addon(result, mode)]
    return found


def _with_addon(result, mode):
    left = set(result['only']) - set(_excused(result, mode))
    if left:
        yield f'{len(left)} tests fail only with the addon'
    if result['missing']:
        yield f"{len(result['missing'])} tests did not run"
    if result['logged_only']:
        yield f"{len(result['logged_only'])} lines in the log"
    cache = result['cache']
    if cache['differences']:
        yield f"{cache['differences']} answers differ"
    if cache['faults']:
        yield f"faults: {cache['faults']}"
    broken = [name for name in result['replay'] if name.startswith('fault ')]
    if broken:
        yield f'asking again failed: {broken}'
    if mode == 'cache' and not cache['hits']:
        yield 'the cache answered nothing, so nothing was compared'
    if mode == 'cache' and cache['audited'] < cache['hits']:
        yield f"only {cache['audited']} of {cache['hits']} hits were compared"


def _excused(result, mode):
    # Where answers come from the cache, and are computed again, queries cannot be counted.  What
    # passes when it runs alone is not excused: what other tests leave behind is just what a
    # cache might get wrong.
    return {*(result['counts'] if mode == 'cache' else ()), *result['by_asking']}


def tell(row):
    for mode in ('with', 'cache'):
        result = row.get(mode) or {}
        for name in result.get('only', ()):
            note = ' (passes when it runs alone)' if name in result['flaky'] else ''
            note = ' (also without hits)' if name in result['by_asking'] else note
            print(f'  {row["module"]} {mode}: {name}{note}: {result["failed"][name]}')
        missing = result.get('missing', ())
        if missing:
            print(f'  {row["module"]} {mode}: {len(missing)} were not run, the first: {missing[0]}')
        for line in result.get('logged_only', ()):
            print(f'  {row["module"]} {mode}: in the log: {line}')


def short(result):
    cache = result['cache']
    return (
        f'{result["tests"]} tests, {result["skipped"]} skipped, {len(result["failed"])} failed, '
        f'{_sum(result["queries"])} queries, {result["duration_s"]} s; '
        f'{cache["hits"]} hits, {cache["audited"]} audited, {cache["differences"]} differ, '
        f'let pass: {result["excused"] or "none"}'
    )


def line(row):
    return '\n'.join(table([row]).splitlines()[2:])


COLUMNS = (
    'module',
    'tests',
    'fail without',
    'fail with',
    'only with',
    'queries without',
    'queries with',
    'hits',
    'audited',
    'differ',
    'only with hits',
    'of these count queries',
    'also without hits',
)


def table(rows):
    """The rows in Markdown."""
    lines = ['| ' + ' | '.join(COLUMNS) + ' |', '|---' * len(COLUMNS) + '|']
    for row in rows:
        lines.append('| ' + ' | '.join(str(cell) for cell in _cells(row)) + ' |')
    return '\n'.join(lines)


def _cells(row):
    base, plain, cache = (row.get(mode) for mode in ('without', 'with', 'cache'))
    some = plain or cache or base
    yield row['module']
    yield some['tests']
    yield len(base['failed']) if base else ''
    yield len(plain['failed']) if plain else ''
    yield len(plain['only']) if plain else ''
    yield _sum(base['queries']) if base else ''
    yield _sum(plain['queries']) if plain else ''
    if cache:
        yield from (cache['cache'][name] for name in ('hits', 'audited', 'differences'))
        yield len(cache['only'])
        yield len(set(cache['only']) & set(cache['counts']))
        yield len(cache.get('by_asking', ()))
    else:
        yield from ('',) * 6


def saved_table(path):
    """The table of a results file."""
    saved = json.loads(Path(path).read_text())['modules']
    return table([{'module': module, **modes} for module, modes in saved.items()])


def _sum(queries):
    return queries if isinstance(queries, int) else sum(queries.values())


def tag_of(test):
    """Odoo's --test-tags notation of a test's name in the log."""
    found = re.match(r'odoo\.addons\.(\w+)\.tests\.(.*)\.(\w+)\.(\w+)$', test)
    if not found:
        return test
    module, _file, class_name, method = found.groups()
    return f'/{module}:{class_name}.{method}'


def save(path, odoo, rows):
    """Replace what the file holds of these modules."""
    old = json.loads(Path(path).read_text()) if Path(path).exists() else {'modules': {}}
    for row in rows:
        kept = {mode: _kept(row[mode]) for mode in ('without', 'with', 'cache') if mode in row}
        old['modules'][row['module']] = {**old['modules'].get(row['module'], {}), **kept}
    old['odoo'] = odoo_version(odoo)
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text(json.dumps(old, indent=1, sort_keys=True) + '\n')


def _kept(result):
    """Sums instead of a number for each test: the file stays readable."""
    return {**result, 'queries': _sum(result['queries'])}
