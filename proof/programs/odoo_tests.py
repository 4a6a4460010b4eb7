"""Odoo's own tests as a peer's test suite: without this addon, with it, and with hits.

The one idea: people who did not know this addon wrote down what Odoo must answer.  Each
suite runs in three copies of one database (the module, what it depends on, nothing that
installs itself), one Odoo at a time:

``without``
    no addon: what fails here fails by itself
``with``
    the addon, as it is after installing it
``cache``
    the addon, and ``TIERED_CACHE_TEST_SNAPSHOT=1``: the cache answers within the transactions
    of the tests, which never commit, and every answer is computed again and compared (see
    ``services/test_snapshot.py``)

What may go wrong: a test that is not the same twice.  What failed in one mode only is run once
more, alone, and called flaky when it passes then; it counts all the same, until somebody has found
out why: what other tests leave behind is what a cache might get wrong.  Or a test that fails
because it is asked in between: its class is run once more with the asking and without hits.
"""

import argparse
import contextlib
import functools
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import psycopg2

from bench.dropping import drop_database

from ..lab import ending
from . import odoo_tests_report as reports

ROOT = Path(__file__).resolve().parents[2]
ODOO = Path(os.environ['PYTHONPATH'].split(':')[1]) if os.environ.get('PYTHONPATH') else None
CACHE = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'tiered-cache'
RESULTS = ROOT / 'proof/results/odoo_tests.json'
PINNED = ROOT / 'proof/oca-addons.txt'
PREFIX = 'odootests'

MODULES = (
    'product',
    'sale',
    'purchase',
    'stock',
    'crm',
    'hr',
    'project',
    'base',
    'web',
    'mail',
    'account',
    'website_sale',
)
MODES = ('without', 'with', 'cache')

LEFT_OUT = '-/web:TestLogsAssetsGenerateTime'
"""Makes all bundles of JavaScript, for minutes."""

NO_AUTO_INSTALL = """
CREATE FUNCTION no_auto_install() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN NEW.auto_install := false; RETURN NEW; END';
CREATE TRIGGER no_auto_install BEFORE INSERT OR UPDATE ON ir_module_module
    FOR EACH ROW EXECUTE FUNCTION no_auto_install();
UPDATE ir_module_module SET auto_install = false;
"""

ENVIRONMENT = {
    'without': {},
    'with': {},
    'cache': {
        'TIERED_CACHE_TEST_SNAPSHOT': '1',
        'TIERED_CACHE_AUDIT_RATE': '1',
        'TIERED_CACHE_L1_MIN_COST_MS': '0',
        # a test may move the clock: nothing that looked at it is kept
        'TIERED_CACHE_TIME_DEPENDENT_TTL_S': '0',
    },
}

NO_HITS = {'ODOO_TESTS_NO_HITS': '1'}


class Failed(Exception):
    """Odoo could not be brought to run the tests."""


def main():
    options = parse()
    if options.table:
        print(reports.saved_table(options.results))
        return 0
    print(f'seed {options.seed}; Odoo {reports.odoo_version(ODOO)}', flush=True)
    modules = {name: [name] for name in options.modules or ([] if options.oca else MODULES)}
    path = ''
    if options.oca:
        modules['oca'], path = install_oca()
    work = CACHE / 'odoo_tests'
    work.mkdir(parents=True, exist_ok=True)
    rows = []
    try:
        for module in modules:
            try:
                rows.append(run_module(module, modules[module], options, work, path))
            finally:
                if not options.keep and module != 'base':
                    drop(f'{PREFIX}_{module}')
            reports.save(options.results, ODOO, rows)
            print(reports.line(rows[-1]), flush=True)
    finally:
        if not options.keep:
            drop(f'{PREFIX}_making')
            drop(f'{PREFIX}_base')
    print(reports.table(rows))
    wrong = [row for row in rows if reports.complaints(row)]
    for row in wrong:
        reports.tell(row)
        for complaint in reports.complaints(row):
            print(f'  {row["module"]} {complaint}')
    tests = sum(row[mode]['tests'] for row in rows for mode in options.modes[-1:])
    if wrong:
        print(f'verdict: WRONG: see {", ".join(row["module"] for row in wrong)}')
        return 1
    print(f'verdict: nothing wrong in {tests} tests of {len(rows)} modules')
    return 0


def parse():
    parser = argparse.ArgumentParser(
        prog='odoo_tests', description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('modules', nargs='*', help=f'default: {" ".join(MODULES)}')
    parser.add_argument('--oca', action='store_true', help=f'the addons of {PINNED.name}')
    parser.add_argument(
        '--use-cache', action='store_true', help="also with hits inside the tests' transactions"
    )
    parser.add_argument('--modes', default='', help='only these, e.g. without,cache')
    parser.add_argument('--limit-s', type=int, default=3600, help='for one run of one module')
    parser.add_argument('--tags', default='', help="Odoo's --test-tags instead of /MODULE")
    parser.add_argument('--reuse', default='', help='modes whose last logs do, e.g. without')
    parser.add_argument('--table', action='store_true', help='only show the results as they are')
    parser.add_argument('--keep', action='store_true', help='keep databases for the next time')
    parser.add_argument('--seed', type=int, default=0, help='chooses the reads that are repeated')
    parser.add_argument('--results', type=Path, default=RESULTS)
    options = parser.parse_args()
    default = MODES if options.use_cache else MODES[:2]
    options.modes = options.modes.split(',') if options.modes else default
    return options


# -- one module --------------------------------------------------------------------------


def run_module(module, names, options, work, path):
    """:param module: what the databases and logs are called after
    :param names: what is installed and tested: the module itself, or several together
    """
    prepare_base(work, path)
    template = f'{PREFIX}_{module}'
    if module in ('base', 'web'):
        template = f'{PREFIX}_base'
    elif not exists(template):
        clone(f'{PREFIX}_base', f'{PREFIX}_making')
        odoo(f'{PREFIX}_making', work / f'{module}-install.log', path, '-i', ','.join(names))
        rename(f'{PREFIX}_making', template)
    with_addon = f'{template}_addon'
    drop(with_addon)
    try:
        return run_modes(module, names, options, work, path, template)
    finally:
        drop(with_addon)


def run_modes(module, names, options, work, path, template):
    tags = ','.join([options.tags or ','.join(f'/{name}' for name in names), LEFT_OUT])
    row = {'module': module}
    for mode in options.modes:
        row[mode] = run_mode(module, mode, options, work, path, template, tags)
    reports.compare(row)
    if 'cache' in row and row['cache']['only']:
        _leave_out_what_asking_breaks(module, options, work, path, template, row['cache'])
    for mode in set(options.modes) - {'without'}:
        again = [test for test in row[mode]['only'] if reports.tag_of(test) != test]
        again = [test for test in again if test not in row[mode]['by_asking']]
        if again:
            chosen = ','.join(reports.tag_of(test) for test in again)
            print(f'{module} {mode}: once more: {chosen}', flush=True)
            second = run_mode(module, mode, options, work, path, template, chosen, '-again')
            row[mode]['flaky'] = sorted(set(again) - set(second['failed']))
    return row


def _leave_out_what_asking_breaks(module, options, work, path, template, result):
    """Run the classes of what failed once more, asking again all the same but without hits: what
    fails there, too, is no fault of the cache."""
    classes = {reports.tag_of(test).partition('.')[0] for test in result['only']}
    chosen = ','.join(sorted(name for name in classes if name.startswith('/')))
    if chosen:
        print(f'{module} cache: once more, without hits: {chosen}', flush=True)
        control = run_mode(
            module, 'cache', options, work, path, template, chosen, '-no-hits', NO_HITS
        )
        result['by_asking'] = sorted(set(result['only']) & set(control['failed']))


def run_mode(module, mode, options, work, path, template, tags, suffix='', more=None):
    database = f'{PREFIX}_{module}_{mode}'
    log = work / f'{module}-{mode}{suffix}.log'
    figures = log.with_suffix('.json')
    if mode in options.reuse.split(',') and not suffix and figures.exists():
        result = reports.read(log, figures, 0)
        result['duration_s'] = 0
        return result
    figures.unlink(missing_ok=True)
    started = time.monotonic()
    clone(template if mode == 'without' else addon_in(template, work, path), database)
    try:
        environment = {
            **ENVIRONMENT[mode],
            **(more or {}),
            'ODOO_TESTS_REPORT': str(figures),
            'ODOO_TESTS_SEED': str(options.seed),
        }
        code = odoo(
            database,
            log,
            path,
            '--test-tags',
            tags,
            environment=environment,
            limit_s=options.limit_s,
            tests=True,
        )
        result = reports.read(log, figures, code)
    finally:
        drop(database)
    result['duration_s'] = round(time.monotonic() - started)
    print(f'{module} {mode}{suffix}: {reports.short(result)}', flush=True)
    return result


def addon_in(template, work, path):
    """A copy of a database with the addon."""
    name = f'{template}_addon'
    if not exists(name):
        clone(template, name)
        odoo(name, work / f'{template}-addon.log', path, '-i', 'tiered_cache')
    return name


def odoo(database, log, path, *args, environment=None, limit_s=3600, tests=False):
    """Run one Odoo to its end; returns its exit code.

    :raise Failed: it is no run of tests and did not end well
    """
    command = [
        *('timeout', '--signal=QUIT', '--kill-after=15', str(limit_s)),
        *(sys.executable, '-m', 'proof.programs.odoo_tests_server'),
        *('-d', database, '--stop-after-init', '--max-cron-threads=0'),
        *('--http-interface=127.0.0.1', f'--http-port={free_port()}'),
        *args,
    ]
    env = {**os.environ, 'TIERED_CACHE_REDIS_URL': '', **(environment or {})}
    if path:
        env['ODOO_ADDONS_PATH'] = f'{env["ODOO_ADDONS_PATH"]},{path}'
    with log.open('wb') as output:
        code = ending.call(
            command,
            cwd=ROOT,
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        ).returncode
    if code and not tests:
        raise Failed(f'{" ".join(args)} ended with {code}; read {log}')
    return code


def free_port():
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return sock.getsockname()[1]


def install_oca():
    """Install the pinned addons of the OCA into a folder of their own.

    :return: their names, and the folder for the addons path
    """
    target = CACHE / 'oca'
    lines = [line for line in PINNED.read_text().splitlines() if line and line[0] != '#']
    pinned = [line.split('#')[0].strip() for line in lines]
    stamp = target / 'pinned.txt'
    if not stamp.exists() or stamp.read_text() != '\n'.join(pinned):
        shutil.rmtree(target, ignore_errors=True)
        pip = [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--target']
        subprocess.run([*pip, str(target), *pinned], check=True)  # noqa: S603
        stamp.write_text('\n'.join(pinned))
    tested = [line.split('==')[0] for line in lines if 'dependency' not in line]
    names = [name.removeprefix('odoo-addon-').replace('-', '_') for name in tested]
    return names, str(target / 'odoo/addons')


# -- databases ---------------------------------------------------------------------------


def prepare_base(work, path):
    """A database with base and web in which nothing installs itself; made once."""
    name = f'{PREFIX}_base'
    if exists(name):
        return
    making = f'{PREFIX}_making'
    drop(making)
    odoo(making, work / 'base-install.log', path, '-i', 'base', '--skip-auto-install')
    sql(making, NO_AUTO_INSTALL)
    odoo(making, work / 'web-install.log', path, '-i', 'web')
    rename(making, name)


def exists(name):
    return bool(sql('postgres', "SELECT 1 FROM pg_database WHERE datname = %s", name))


def rename(old, new):
    sql('postgres', f'ALTER DATABASE {old} RENAME TO {new}')
    drop_files(new)
    with contextlib.suppress(FileNotFoundError):
        filestore(old).rename(filestore(new))


def clone(source, target):
    drop(target)
    sql('postgres', f'CREATE DATABASE {target} TEMPLATE {source}')
    if filestore(source).is_dir():
        shutil.copytree(filestore(source), filestore(target))


def drop(name):
    drop_database(functools.partial(sql, 'postgres'), name)
    drop_files(name)


def drop_files(name):
    shutil.rmtree(filestore(name), ignore_errors=True)


def filestore(name):
    return Path(os.environ['ODOO_DATA_DIR']) / 'filestore' / name


def sql(database, statement, *params):
    connection = psycopg2.connect(dbname=database)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement, params or None)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


if __name__ == '__main__':
    sys.exit(ending.run(main))
