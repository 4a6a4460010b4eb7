"""``odoo-bin cache``: the cache of a database, from the command line.

What is it? Odoo finds this file in the addons path, imports it as ``odoo.cli.cache`` and calls
:meth:`Cache.run`. What the subcommands know and do is in ``services/``; this file reads arguments
and writes tables.

The one idea: standard output is the answer, as a table for people or as one JSON document;
everything else goes to standard error, and the exit code says how it went (:data:`EXIT_CODES`).

What may go wrong: anything about the database; it becomes one sentence and an exit code. The addon
must not be imported before the registry is loaded, or Odoo skips its ``post_load``: hence imports
inside functions.
"""

# pylint: disable=print-used  # tables are what a command is for
# ruff: noqa: PLC0415, T201

import argparse
import contextlib
import json
import logging
import os
import sys
import textwrap
from datetime import date, datetime

import psycopg2

from odoo import SUPERUSER_ID, api
from odoo.cli.command import PROG_NAME, Command
from odoo.exceptions import UserError
from odoo.modules.registry import Registry
from odoo.sql_db import db_connect
from odoo.tools import config

_logger = logging.getLogger(__name__)

OK, FAILED, USAGE, DATABASE, NOT_RUNNING, NOT_AVAILABLE, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

EXIT_CODES = {
    OK: "done; check has found no error",
    FAILED: "check has found errors, or something could not be done",
    USAGE: "wrong arguments, or something that does not exist",
    DATABASE: "the database is missing, cannot be reached, or is none of Odoo's",
    NOT_RUNNING: "Tiered Cache is not installed in the database, or cannot start",
    NOT_AVAILABLE: "this version has no such function",
    INTERRUPTED: "interrupted",
}

UNKNOWN_NOTE = (
    "Not known here: {names}. They are in the memory of each server process; ask the servers with"
    " cache.manager.get_stats()."
)
OPTIONS_NOTE = (
    "Options are those that this command sees; a server whose environment or configuration file"
    " sets others has others."
)

_MOST = 100_000
_WIDEST = 60
_SHOWN_REASONS = 2


class Failure(Exception):
    """:param code: one of EXIT_CODES"""

    def __init__(self, code: int, text: str):
        super().__init__(text)
        self.code = code


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        print(f"{self.prog}: {message}. See --help.", file=sys.stderr)
        sys.exit(USAGE)


class Cache(Command):
    """Look at, check, empty and warm up Tiered Cache"""

    description = """
        The cache of one database: what it does and saves, whether it is in order, what to remove.

        Tables go to standard output, logs to standard error. With --json standard output is one
        JSON document.
    """
    epilog = "exit codes:\n" + "\n".join(f"  {code:<4}{text}" for code, text in EXIT_CODES.items())

    def __init__(self):
        super().__init__()
        self._parser = _Parser(
            prog=f'{PROG_NAME} {self.name}',
            formatter_class=argparse.RawDescriptionHelpFormatter,
            description=textwrap.dedent(self.description).strip(),
            epilog=self.epilog,
        )
        _add_subcommands(self._parser)

    def run(self, cmdargs):
        args = self.parser.parse_args(cmdargs)
        try:
            code = _run(args)
            sys.stdout.flush()
        except Failure as failure:
            code = _say(failure)
        except UserError as error:
            code = _say(Failure(USAGE, str(error)))
        except psycopg2.Error as error:
            code = _say(Failure(DATABASE, f"PostgreSQL: {_first_line(error)}"))
        except BrokenPipeError:
            # whoever read the table has enough; Python must not write to it at its end either
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = OK
        except KeyboardInterrupt:
            code = INTERRUPTED
        except Exception as error:  # noqa: BLE001  a bug, which --verbose shows
            _logger.info("what went wrong", exc_info=True)
            code = _say(Failure(FAILED, f"{type(error).__name__}: {_first_line(error)}"))
        sys.exit(code)


def _say(failure: Failure) -> int:
    print(f'{PROG_NAME} cache: {failure}', file=sys.stderr)
    return failure.code


# -- arguments -------------------------------------------------------------------------


def _add_subcommands(parser) -> None:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument('-d', '--database', metavar='DB', help="the database")
    common.add_argument('-c', '--config', metavar='FILE', help="configuration file of Odoo")
    common.add_argument('-D', '--data-dir', metavar='DIR', help="folder of Odoo's files")
    common.add_argument('--json', action='store_true', help="one JSON document, for programs")
    common.add_argument('-v', '--verbose', action='store_true', help="log on standard error")
    period = argparse.ArgumentParser(add_help=False)
    period.add_argument(
        '--hours', type=_positive, default=24, metavar='N',
        help="figures of the last N hours (default 24)",
    )  # fmt: skip
    subcommands = parser.add_subparsers(dest='subcommand', required=True, metavar='SUBCOMMAND')

    def add(name, function, text, *parents):
        sub = subcommands.add_parser(
            name, help=text, description=f"{text}.", parents=[common, *parents]
        )
        sub.set_defaults(function=function)
        return sub

    add('stats', _stats, "What the cache does and saves, over all server processes", period)

    top = add('top', _top, "The reads that matter most, and why they are computed", period)
    top.add_argument(
        '--by', choices=('saved', 'missed', 'calls'),
        help="sort by time saved, time spent on computing, or calls (default: a table of the"
        " first and one of the second)",
    )  # fmt: skip
    top.add_argument(
        '--limit', type=_positive, default=10, metavar='N', help="rows of a table (default 10)"
    )

    _add_invalidate(add('invalidate', _invalidate, "Remove entries from all tiers and workers"))

    warm = add('warm', _warm, "Start a warm-up")
    warm.add_argument('name', nargs='?', help="its name (default: all that are active)")
    warm.add_argument(
        '--wait', action='store_true',
        help="do it in this process, and wait: fills the shared tiers only",
    )  # fmt: skip

    guards = add('guards', _guards, "The tables that are watched for changes")
    actions = guards.add_mutually_exclusive_group()
    actions.add_argument('--guard', nargs='+', metavar='TABLE', help="guard these tables now")
    actions.add_argument(
        '--release', nargs='+', metavar='TABLE',
        help="take the guards off these tables; they come back when they are needed",
    )  # fmt: skip
    actions.add_argument(
        '--repair', action='store_true', help="make guards anew that are not as they were made"
    )

    check = add('check', _check, "Whether guards, journal, tiers and entries are in order")
    check.add_argument(
        '--sample', type=_not_negative, default=100, metavar='N',
        help="entries of each shared tier to compare with the database (default 100, 0 for none)",
    )  # fmt: skip


def _add_invalidate(parser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        '--key', action='append', help="the entry of this name, with all variants; repeatable"
    )
    what.add_argument('--pattern', help="entries whose key or name matches, e.g. 'v1:supplier:*'")
    what.add_argument('--tag', help="entries with this tag")
    what.add_argument('--model', help="calls of a model, and what was read from its table")
    what.add_argument('--relation', metavar='TABLE', help="what was read from a table")
    what.add_argument('--user', metavar='ID|LOGIN', help="what was computed for a user")
    what.add_argument('--all', action='store_true', help="every entry of the database")
    parser.add_argument(
        '--dry-run', action='store_true', help="count what would go, and remove nothing"
    )


def _positive(text: str) -> int:
    return _number(text, 1)


def _not_negative(text: str) -> int:
    return _number(text, 0)


def _number(text: str, least: int) -> int:
    if not text.isdecimal() or not least <= int(text) <= _MOST:
        raise argparse.ArgumentTypeError(f"give a number from {least} to {_MOST}")
    return int(text)


# -- the database ----------------------------------------------------------------------


def _run(args) -> int:
    database = _configure(args)
    _check_database(database)
    with _quiet(args), contextlib.closing(_registry(database).cursor()) as cr:
        env = api.Environment(cr, SUPERUSER_ID, {'lang': 'en_US'})
        engine = _engine(env)
        try:
            return args.function(env, engine, args)
        finally:
            cr.rollback()
            engine.close()


def _configure(args) -> str:
    options = ['--no-http', '--log-level', 'info' if args.verbose else 'warn']
    if args.config:
        if not os.path.isfile(args.config):
            raise Failure(USAGE, f"there is no configuration file {args.config}.")
        options += ['-c', args.config]
    if args.data_dir:
        options += ['-D', args.data_dir]
    if args.database:
        options += ['-d', args.database]
    config.parse_config(options, setup_logging=True)
    names = config['db_name']
    if len(names) != 1:
        raise Failure(USAGE, "say which database: -d DB.")
    return names[0]


def _check_database(name: str) -> None:
    """Look before the registry is loaded, which would log tracebacks."""
    pool = logging.getLogger('odoo.sql_db')
    level, pool.level = pool.level, logging.CRITICAL
    try:
        with contextlib.closing(db_connect(name).cursor()) as cr:
            cr.execute("SELECT to_regclass('ir_module_module')")
            if not cr.fetchone()[0]:
                raise Failure(DATABASE, f"{name} is not a database of Odoo.")
            cr.execute("SELECT state FROM ir_module_module WHERE name = 'tiered_cache'")
            row = cr.fetchone()
    except psycopg2.Error as error:
        raise Failure(DATABASE, f"cannot open database {name}: {_first_line(error)}") from None
    finally:
        pool.level = level
    if row is None or row[0] not in ('installed', 'to upgrade'):
        raise Failure(
            NOT_RUNNING,
            f"Tiered Cache is not installed in {name}. Install it: {PROG_NAME} module install -d"
            f" {name} tiered_cache",
        )


def _registry(name: str) -> Registry:
    try:
        return Registry(name)
    except psycopg2.Error:
        raise
    except Exception as error:
        raise Failure(
            NOT_RUNNING,
            f"the apps of {name} cannot be loaded ({type(error).__name__}: {_first_line(error)})."
            " Does Odoo itself start?",
        ) from error


def _engine(env):
    from odoo.addons.tiered_cache.services import walking
    from odoo.addons.tiered_cache.services.engine import engine_for

    engine = engine_for(env.registry)
    if engine is None or not engine.available:
        raise Failure(
            NOT_RUNNING,
            "Tiered Cache cannot start in this database; the lines above say why. If apps are"
            " being installed or upgraded, try again when that is done.",
        )
    walking.be_patient(engine)
    return engine


@contextlib.contextmanager
def _quiet(args):
    """Whatever prints meanwhile does not get between the lines of the answer."""
    answer = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        args.write = lambda text: print(text, file=answer)
        yield


def _first_line(error: Exception) -> str:
    return str(error).strip().partition('\n')[0] or type(error).__name__


# -- subcommands -----------------------------------------------------------------------


def _stats(env, engine, args) -> int:
    from odoo.addons.tiered_cache.services import figures, inspection

    document = {
        'database': env.cr.dbname,
        'enabled': engine.settings.enabled,
        'hours': args.hours,
        'figures': figures.totals(env.cr, args.hours),
        'flush_s': engine.settings.metrics_flush_s,
        'tiers': inspection.tier_figures(engine),
        'journal': inspection.journal_figures(env.cr),
        'problems': list(engine.settings.problems),
        'unknown': list(figures.UNKNOWN),
    }
    if args.json:
        return _document(args, document)
    totals, labels = document['figures'], _labels(env)
    reasons = [(labels.get(name, name), count) for name, count in totals['misses'].items()]
    others = [*totals['faults'].items(), *totals['events'].items()]
    tiers = [_tier_row(name, stats) for name, stats in document['tiers'].items()]
    journal = [(name.replace('_', ' '), value) for name, value in document['journal'].items()]
    _table(args, f"Reads of the last {args.hours} h, all server processes", (), _totals(totals))
    _table(args, "Why reads were computed", ('reason', 'calls'), reasons)
    _table(args, "Faults and events", ('what', 'count'), others)
    _table(args, "Shared tiers", ('tier', 'state', 'entries', 'bytes', 'most', 'most bytes'), tiers)
    _table(args, "Journal", (), journal)
    for problem in document['problems']:
        args.write(f"Option ignored: {problem}")
    args.write(UNKNOWN_NOTE.format(names=', '.join(figures.UNKNOWN)))
    args.write(f"The last {document['flush_s']} s of each process are not counted yet.")
    args.write(OPTIONS_NOTE)
    return OK


def _totals(totals: dict) -> list[tuple]:
    rate = totals['hit_rate']
    return [
        ('calls', totals['calls']),
        *((f'hits of {tier.upper()}', count) for tier, count in totals['hits'].items()),
        ('hit rate', '-' if rate is None else f'{100 * rate:.1f} %'),
        ('time saved', _duration(totals['saved_ms'])),
        ('queries saved', totals['saved_queries']),
        ('hits audited', totals['audited']),
        ('differences found', totals['differences']),
        ('first figure (UTC)', totals['since']),
    ]


def _tier_row(name: str, stats: dict) -> tuple:
    numbers = (stats[key] for key in ('entries', 'bytes'))
    limits = (stats[key] or 'no limit' for key in ('max_entries', 'max_bytes'))
    return name.upper(), stats['state'], *numbers, *limits


def _top(env, engine, args) -> int:
    from odoo.addons.tiered_cache.services import figures

    orders = [args.by] if args.by else ['saved', 'missed']
    tables = {order: figures.reads(env.cr, args.hours, order, args.limit) for order in orders}
    if args.json:
        return _document(args, {'database': env.cr.dbname, 'hours': args.hours, **tables})
    titles = {
        'saved': "Most valuable: time saved",
        'missed': "Most missed: time spent on computing",
        'calls': "Most called",
    }
    labels = _labels(env)
    for order, reads in tables.items():
        _table(
            args,
            f"{titles[order]}, last {args.hours} h",
            ('model', 'method', 'calls', 'hits', 'saved', 'computing', 'computed because'),
            [_read_row(read, labels) for read in reads],
        )
    return OK


def _read_row(read: dict, labels: dict) -> tuple:
    reasons = (
        f"{known['count']} × {labels.get(known['reason'], known['reason'])}"
        + (f" ({known['detail'][:_WIDEST]})" if known['detail'] else '')
        for known in read['reasons'][:_SHOWN_REASONS]
    )
    return (
        read['model'] or '(named)',
        read['method'],
        read['calls'],
        '-' if read['hit_rate'] is None else f"{100 * read['hit_rate']:.0f} %",
        _duration(read['saved_ms']),
        _duration(read['missed_ms']),
        ', '.join(reasons),
    )


def _labels(env) -> dict[str, str]:
    return dict(env['cache.metric']._fields['reason'].selection)


def _invalidate(env, engine, args) -> int:
    from odoo.addons.tiered_cache.services import walking

    kind, target = _target(env, args)
    manager = env['cache.manager']
    for one in target if kind == 'key' else [target]:
        manager._check_removal(kind, one and str(one))
    document = {'database': env.cr.dbname, 'kind': kind, 'target': target, 'dry_run': args.dry_run}
    if args.dry_run:
        records = env[target] if kind == 'model' else None
        tiers = walking.preview(engine, records, kind, target)
    else:
        tiers = _remove(env, engine, kind, target)
    if args.json:
        return _document(args, {**document, 'tiers': tiers})
    what = 'everything' if kind == 'all' else f"{kind} {', '.join(_as_list(target))}"
    _show_removal(args, what, tiers)
    return OK


def _remove(env, engine, kind: str, target) -> dict[str, dict]:
    from odoo.addons.tiered_cache.services import walking

    manager = env['cache.manager']
    if kind == 'key':
        counts = manager.invalidate_keys(target)
    else:
        counts = manager._remove(kind, str(target))
    env.cr.commit()  # pylint: disable=invalid-commit  # a cursor of our own
    counts |= walking.finish(engine)
    return {
        name: {'removed': counts.get(name, 0), 'faults': dict(tier.faults)}
        for name, tier in engine.hierarchy.tiers.items()
        if name != 'l1'
    }


def _show_removal(args, what: str, tiers: dict) -> None:
    head, names = ('tier', 'removed'), ('removed',)
    if args.dry_run:
        head = ('tier', 'would be removed at once', 'would not be served any more')
        names = ('removed', 'invalid')
    rows = [(name.upper(), *(counts[key] for key in names)) for name, counts in tiers.items()]
    _table(args, f"{'Would remove' if args.dry_run else 'Removed'}: {what}", head, rows)
    for name, counts in tiers.items():
        if counts['faults']:
            args.write(
                f"{name.upper()} failed ({', '.join(counts['faults'])}): not all was counted, and"
                " what is left there is not served, but stays until it expires."
            )
    if not args.dry_run:
        args.write(
            "It counts from now on, in every worker and tier. L1 of the server processes follows"
            " with their next transaction; what was there cannot be counted here."
        )


def _target(env, args) -> tuple[str, object]:
    for kind in ('key', 'pattern', 'tag', 'model', 'relation'):
        if (target := getattr(args, kind)) is not None:
            return kind, target
    if args.user is None:
        return 'all', ''
    if args.user.isdecimal():
        return 'user', int(args.user)
    user = env['res.users'].with_context(active_test=False).search([('login', '=', args.user)])
    if not user:
        raise Failure(USAGE, f"there is no user with the login {args.user}.")
    return 'user', user.id


def _warm(env, engine, args) -> int:
    if 'cache.warmup' not in env:
        raise Failure(NOT_AVAILABLE, "this version of Tiered Cache has no warm-up.")
    warmups = env['cache.warmup'].search([('name', '=', args.name)] if args.name else [])
    if not warmups:
        raise Failure(USAGE, "there is no such warm-up that is active; names stand in the backend.")
    if args.wait:
        results = {warmup: warmup._run() for warmup in warmups}
    else:
        warmups._start()
        env.cr.commit()  # pylint: disable=invalid-commit  # a cursor of our own
        results = {warmup: {'state': warmup.state} for warmup in warmups}
    busy = {'state': 'another process is at it'}
    rows = [{'name': warmup.name, **(result or busy)} for warmup, result in results.items()]
    if args.json:
        _document(args, {'database': env.cr.dbname, 'warmups': rows})
    else:
        head = max(map(tuple, rows), key=len)
        _table(args, "Warm-ups", head, [tuple(map(row.get, head)) for row in rows])
        if not args.wait:
            args.write("The scheduled actions of the servers do it, from the next minute on.")
    done = not args.wait or all(row['state'] == 'done' and not row.get('failed') for row in rows)
    return OK if done else FAILED


def _guards(env, engine, args) -> int:
    from odoo.addons.tiered_cache.services import inspection

    done = _change_guards(engine, args)
    if done is not None:
        failed = {relation: reason for relation, reason in done.items() if reason}
        if args.json:
            _document(args, {'database': env.cr.dbname, 'done': sorted(done.keys() - failed),
                             'failed': failed})  # fmt: skip
        else:
            _table(args, "", ('table', 'result'), [(r, why or 'done') for r, why in done.items()])
        return FAILED if failed else OK
    listed, failing = inspection.guards(engine, env.cr), inspection.failing(engine, env.cr)
    if args.json:
        waiting = [{'relation': r, 'reads': n, 'reason': why} for r, n, why in failing]
        return _document(args, {'database': env.cr.dbname, 'guards': listed, 'unguarded': waiting})
    _table(
        args,
        f"{len(listed)} guarded tables",
        ('table', 'since (UTC)', 'by', 'state'),
        [(g['relation'], g['since'], g['capture'], g['problem'] or 'ok') for g in listed],
    )
    _table(args, "Needed in the last day, and not guarded",
           ('table', 'reads not kept', 'why'), failing)  # fmt: skip
    return OK


def _change_guards(engine, args) -> dict[str, str] | None:
    if args.repair:
        return engine.guards.repair()
    if args.guard:
        return {relation: engine.guards.guard_now(relation) for relation in args.guard}
    if args.release:
        unknown = [name for name in args.release if not engine.catalogue.knows(name)]
        if unknown:
            raise Failure(USAGE, f"there is no table {unknown[0]}.")
        return {relation: engine.guards.release_now(relation) for relation in args.release}
    return None


def _check(env, engine, args) -> int:
    from odoo.addons.tiered_cache.services import inspection, sampling

    found = [*inspection.inspect(engine, env.cr), *sampling.check(engine, env, args.sample)]
    errors = sum(finding.level == inspection.ERROR for finding in found)
    if args.json:
        findings = [finding._asdict() for finding in found]
        _document(args, {'database': env.cr.dbname, 'errors': errors, 'findings': findings})
    else:
        width = max(map(len, inspection.AREAS))
        for area, level, text in found:
            indent = ' ' * (width + 10)
            lines = textwrap.wrap(text, 100 - len(indent), break_on_hyphens=False)
            args.write(f'{area:<{width}}  {level:<8}' + f'\n{indent}'.join(lines))
        args.write(f"\n{errors or 'No'} error{'' if errors == 1 else 's'}. {OPTIONS_NOTE}")
    return FAILED if errors else OK


# -- writing ---------------------------------------------------------------------------


def _document(args, value) -> int:
    args.write(json.dumps(value, indent=2, default=_plain))
    return OK


def _plain(value):
    if isinstance(value, date | datetime):
        return value.isoformat(sep=' ')
    return str(value)


def _as_list(value) -> list[str]:
    return list(map(str, value)) if isinstance(value, list) else [str(value)]


def _duration(ms: float) -> str:
    if ms < 1000:
        return f'{ms:.0f} ms'
    return f'{ms / 1000:,.1f} s' if ms < 3_600_000 else f'{ms / 3_600_000:,.1f} h'


def _table(args, title: str, head: tuple, rows: list) -> None:
    """Columns as wide as needed, numbers to the right; nothing where there are no rows."""
    if not rows and head:
        args.write(f'{title}: none\n')
        return
    texts = [[_cell(value) for value in row] for row in rows]
    lines = [list(head), *texts] if head else texts
    widths = [min(max(map(len, column)), _WIDEST) for column in zip(*lines, strict=True)]
    right = [all(isinstance(value, int | None) for value in column)
             for column in zip(*rows, strict=True)]  # fmt: skip
    if title:
        args.write(title)
    for number, line in enumerate(lines):
        cells = [
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(line, widths, right, strict=True)
        ]
        args.write(('  ' + '  '.join(cells)).rstrip())
        if head and not number:
            args.write('  ' + '  '.join('-' * width for width in widths))
    args.write('')


def _cell(value) -> str:
    if value is None:
        return '-'
    return f'{value:,}' if type(value) is int else str(value)
