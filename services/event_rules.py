"""Rules: which event removes what; evaluated in the transaction that caused the event.

The one idea: what a rule removes is a row of the journal, written before the commit in the same
transaction, so it stands or falls with the change.  After the commit would be too late: a worker
that is killed in between would leave outdated entries for good.

Where no enabled rule concerns a model, nothing is done and nothing is asked: which models are
listened to is in memory, read on a cursor of its own when Odoo signals that rules have changed
(not in the caller's transaction, whose snapshot may be older than the signal).

Which records count, when a rule has a condition:

* created: those that match it before the commit
* updated: those that match then, and those of which a field of the condition was changed, as
  they may have matched before; all, when it asks for fields that are not columns
* deleted: all

A field of the record in a name (``{partner_id}``) stands for its value before the change and
for the one after it.

What may go wrong: a rule that cannot be evaluated.  The transaction does not suffer: what the
rule may have asked for is removed at large, every placeholder as ``*`` and whatever the
condition says; the error is logged once, counted, and shown on the rule.
"""

from __future__ import annotations

import ast
import collections
import logging
import typing

import psycopg2

from odoo import api
from odoo.fields import Domain
from odoo.tools import SQL

from . import journal
from .engine import engine_for
from .event_log import LOG_COLUMNS, Change, EventLog
from .event_names import CREATED, DELETED, UPDATED, Source, existing_sources
from .event_templates import (
    COLUMN_TYPES,
    MAX_NAMES,
    RELATION_TYPES,
    Template,
    parse_all,
    rows_of,
)
from .sentences import _lt

_logger = logging.getLogger(__name__)

_ERRORS_SLOT = '_tiered_cache_event_rule_errors'

_RULES = """
SELECT id, event, condition, field_names, names
  FROM cache_event_rule WHERE active ORDER BY sequence, id
"""

_FAILED = """
UPDATE cache_event_rule
   SET errors = errors + %s, last_error = %s, last_error_at = now() AT TIME ZONE 'UTC'
 WHERE id = %s
"""


class Rule(typing.NamedTuple):
    """:param condition: a domain as a list
    :param fields: an update counts if one of these has changed; empty for any
    :param broken: why it cannot be read, '' if it can; then it removes at large
    """

    id: int
    event: str
    condition: tuple
    fields: frozenset[str]
    templates: tuple[Template, ...]
    broken: str = ''


class Listener(typing.NamedTuple):
    """What is wanted of one model.

    :param rules: and the source by which they concern the model, None for what modules emit
    :param sources: of business events with a domain, by name
    :param columns: whose values before a change are wanted, as names depend on them
    :param relations: one2many and many2many fields, likewise, before a deletion
    """

    rules: tuple[tuple[Rule, Source | None], ...] = ()
    sources: tuple[tuple[str, Source], ...] = ()
    columns: frozenset[str] = frozenset()
    relations: frozenset[str] = frozenset()


# -- reading rules -----------------------------------------------------------------------------


def read_rules(cr) -> list[Rule]:
    """The active rules as a cursor's snapshot shows them.

    :raise psycopg2.Error: there is no such table yet
    """
    cr.execute(_RULES, log_exceptions=False)
    return [_rule(*row) for row in cr.fetchall()]


def read_rules_if_any(cr) -> list[Rule]:
    """The same in somebody's transaction: no error where the module is yet to be upgraded."""
    try:
        with cr.savepoint(flush=False):
            return read_rules(cr)
    except psycopg2.errors.UndefinedTable:
        return []


def remove_at_large(cr) -> None:
    """Remove whatever the active rules may ask for.

    After modules were installed or upgraded: nobody was told of what their data files changed.
    """
    rules = read_rules_if_any(cr)
    names = {template.widest for rule in rules for template in rule.templates}
    journal.note(cr, [row for name in names for row in rows_of(name)])


def _rule(id_, event, condition, field_names, names) -> Rule:
    fields = frozenset(split_names(field_names))
    try:
        templates = tuple(parse_all(names))
    except ValueError as error:
        # nothing is known of what it removes, so nothing can be removed at large either
        return Rule(id_, event, (), fields, (), str(error))
    try:
        return Rule(id_, event, tuple(parse_condition(condition)), fields, templates)
    except ValueError as error:
        return Rule(id_, event, (), fields, templates, str(error))


def parse_condition(text: str | None) -> list:
    """A domain that was written as a text, without names; empty for every record.

    :raise ValueError: with a sentence
    """
    try:
        domain = Domain(ast.literal_eval((text or '').strip() or '[]'))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(
            _lt(
                "The condition %(text)s is no domain of plain values: %(error)s",
                text=repr(text),
                error=str(error),
            )
        ) from error
    # as a list the domain that is always true would have a condition, and cost a search
    return [] if domain.is_true() else list(domain)


def split_names(text: str | None) -> list[str]:
    """Names separated by commas or spaces, each once."""
    return list(dict.fromkeys((text or '').replace(',', ' ').split()))


def listener_of(model, rules, wanted_names) -> Listener | None:
    """What rules and subscribers want of a model.

    :param model: a recordset of it
    :param wanted_names: of the events that somebody has subscribed to
    :return: None when nobody wants anything
    """
    registry, name = model.env.registry, model._name
    concerned = [
        (rule, source)
        for rule in rules
        for source in existing_sources(registry, rule.event)
        if source.model == name
    ]
    names = dict.fromkeys([*wanted_names, *(rule.event for rule, _source in concerned)])
    found = [
        (event, source)
        for event in names
        for source in existing_sources(registry, event)
        if source.model == name
    ]
    if not found:
        return None
    sources = tuple((event, source) for event, source in found if source.domain)
    return _with_fields(model, tuple(concerned), sources)


def emitted_listener(model, rules, name: str) -> Listener:
    """What rules want of an event that a module emits for records of a model."""
    concerned = tuple((rule, None) for rule in rules if rule.event == name)
    return _with_fields(model, concerned, ())


def _with_fields(model, rules, sources) -> Listener:
    placeholders = {
        name
        for rule, _source in rules
        for template in rule.templates
        for name in template.placeholders
    }
    return Listener(
        rules,
        sources,
        frozenset(name for name in placeholders if is_column(model, name)),
        frozenset(name for name in placeholders if is_relation(model, name)),
    )


def is_column(model, name: str) -> bool:
    """Whether a placeholder is a field whose value stands in one column."""
    field = model._fields.get(name)
    return bool(
        field
        and field.store
        and field.column_type
        and field.type in COLUMN_TYPES
        and not field.translate
        and not field.company_dependent
        and name not in ('id', 'uid')
    )


def is_relation(model, name: str) -> bool:
    """Whether a placeholder is a field that holds several records; not a computed one, which
    may raise anything."""
    field = model._fields.get(name)
    return bool(field and field.store and not field.compute and field.type in RELATION_TYPES)


# -- what records had --------------------------------------------------------------------------


def read_columns(model, ids, columns) -> dict[int, dict]:
    """Values of columns as the table holds them now, by id; lists, as a name may need several.

    An empty value is [None].
    """
    names = sorted(columns)
    if not ids or not names or model._abstract:
        return {}
    model.env.cr.execute(
        SQL(
            "SELECT id, %s FROM %s WHERE id = ANY(%s)",
            SQL(', ').join(map(SQL.identifier, names)),
            SQL.identifier(model._table),
            list(ids),
        )
    )
    return {
        id_: {name: [value or None] for name, value in zip(names, values, strict=True)}
        for id_, *values in model.env.cr.fetchall()
    }


def note_before(change: Change, model, ids, columns) -> None:
    """Remember what the table holds of records that are about to change."""
    for id_, values in read_columns(model, ids, columns).items():
        change.before.setdefault(id_, []).append(values)


class Gone(typing.NamedTuple):
    """What will not be known any more of records that are about to be deleted.

    :param values: of columns and relations, by id
    :param matched: ids that match, by name of a business event
    """

    values: dict[int, dict]
    matched: dict[str, set[int]]


def look_before_deletion(records, listener: Listener) -> Gone:
    """Read what rules will ask for."""
    records = as_superuser(records)
    values = read_columns(records, records._ids, listener.columns)
    for record in records if listener.relations else ():
        held = {name: list(record[name]._ids) for name in listener.relations}
        values.setdefault(record.id, {}).update(held)
    matched = {
        name: set(records.search([('id', 'in', records.ids), *source.domain], order='id')._ids)
        for name, source in listener.sources
        if DELETED in source.changes
    }
    return Gone(values, matched)


def note_deletion(change: Change, ids, gone: Gone) -> None:
    """They are deleted; the segment may be another one than that in which they were looked at,
    as there may have been savepoints meanwhile."""
    change.deleted.update(ids)
    for id_, values in gone.values.items():
        change.before.setdefault(id_, []).append(values)
    for name, matched in gone.matched.items():
        change.deleted_as.setdefault(name, set()).update(matched)


def as_superuser(records):
    """The same records, archived ones and those of all companies included."""
    env = api.Environment(records.env.cr, api.SUPERUSER_ID, {'active_test': False})
    return env[records._name].browse(records._ids)


# -- settling ----------------------------------------------------------------------------------


def settle(cr, log: EventLog, registry) -> None:
    """Find what unsettled changes remove, and write it to the journal; before the commit.

    :raise psycopg2.Error: what is wrong with the caller's own pending changes
    """
    if not any(_asked(change) for segment in log.unsettled() for change in segment.values()):
        log.take_unsettled()
        return
    env = api.Environment(cr, api.SUPERUSER_ID, {'active_test': False})
    # here and not below: an error in what the caller has written is the caller's
    env.flush_all()
    for segment in log.take_unsettled():
        for (name, _emitted), change in segment.items():
            settled = _settled(env[name], change, log)
            for template, rows in settled.items():
                log.add_rows(rows, template)
            _write(cr, registry, [row for rows in settled.values() for row in rows])


def _asked(change: Change) -> bool:
    return bool(change.listener.rules or change.listener.sources)


def _write(cr, registry, rows) -> None:
    if not rows:
        return
    engine = engine_for(registry)
    if engine is not None and engine.available:
        journal.note(cr, rows)
        return
    try:
        # the journal may be there, and other processes answer from the cache
        with cr.savepoint(flush=False):
            cr.execute(
                "INSERT INTO cache_change (relation) SELECT unnest(%s)",
                [sorted(set(rows))],
                log_exceptions=False,
            )
    except psycopg2.errors.UndefinedTable:
        _logger.info("Tiered Cache has no journal in %s: nothing to remove from", cr.dbname)


def _settled(model, change: Change, log: EventLog) -> dict[str, list[str]]:
    """New rows of the journal by template; also finds the records of business events."""
    listener = change.listener
    for name, source in listener.sources:
        change.matched[name] = matching(model, change, source.changes, source.domain, name)
    found: dict[str, list[str]] = collections.defaultdict(list)
    for rule, source in listener.rules:
        for template, rows in _rows_of_rule(model, change, rule, source, log).items():
            found[template] += [row for row in rows if row not in found[template]]
    return found


def _rows_of_rule(model, change, rule, source, log) -> dict[str, list[str]]:
    if not rule.broken:
        try:
            if not _asks(model, rule):
                return _removed_by(model, change, rule, source, log)
            with model.env.cr.savepoint(flush=False):
                return _removed_by(model, change, rule, source, log)
        except Exception as error:  # noqa: BLE001 see the docstring of the module
            report(model.env.registry, rule, f'{type(error).__name__}: {error}')
    else:
        report(model.env.registry, rule, rule.broken)
    return {t.text: _new_rows(log, t, [t.widest]) for t in rule.templates}


def _asks(model, rule: Rule) -> bool:
    """Whether evaluating a rule sends SQL that may fail."""
    return bool(rule.condition) or any(
        is_column(model, name) or is_relation(model, name)
        for template in rule.templates
        for name in template.placeholders
    )


def _removed_by(model, change, rule, source, log) -> dict[str, list[str]]:
    ids = _concerned(model, change, rule, source)
    found: dict[str, list[str]] = {}
    values: dict[int, list[dict]] | None = None
    for template in rule.templates if ids else ():
        if not _applies(model, rule, template):
            continue
        many = len(ids) > MAX_NAMES and 'id' in template.placeholders
        if not template.placeholders or many:
            found[template.text] = _new_rows(log, template, [template.widest])
            continue
        if values is None:
            values = _values(model, change, ids, rule)
        names = set().union(*(template.fill(v) for id_ in ids for v in values[id_]))
        found[template.text] = _new_rows(log, template, names)
    return found


def _concerned(model, change, rule, source) -> set[int]:
    if source is None:
        ids = change.emitted.get(rule.event, set())
        return ids & _matching_now(model, ids, rule.condition) if rule.condition else ids
    ids = matching(model, change, source.changes, rule.condition, '', rule.fields)
    return ids & change.matched.get(rule.event, set()) if source.domain else ids


def _applies(model, rule: Rule, template: Template) -> bool:
    """Whether a template is about this model: one that names a field of another source's model
    is about that one."""
    strange = [name for name in template.placeholders if not _is_known(model, name)]
    others = [
        model.env[source.model]
        for source in existing_sources(model.env.registry, rule.event)
        if source.model != model._name
    ]
    return not any(_is_known(other, name) for name in strange for other in others)


def _is_known(model, name: str) -> bool:
    return name in ('id', 'uid') or is_column(model, name) or is_relation(model, name)


def _new_rows(log: EventLog, template: Template, names) -> list[str]:
    """Rows that this transaction has not written yet, not too many per template."""
    widest = rows_of(template.widest)
    if template.placeholders and widest[0] in log.rows:
        return []
    rows = [row for name in sorted(names) for row in rows_of(name) if row not in log.rows]
    limit = MAX_NAMES * len(rows_of('v1:name'))
    if template.placeholders and log.counts[template.text] + len(rows) > limit:
        return [row for row in widest if row not in log.rows]
    return rows


def _values(model, change: Change, ids, rule: Rule) -> dict[int, list[dict]]:
    """Values of a rule's placeholders by id: those before and those now."""
    wanted = {name for template in rule.templates for name in template.placeholders}
    columns = {name for name in wanted if is_column(model, name)}
    relations = {name for name in wanted if is_relation(model, name)}
    always = dict.fromkeys(wanted, [None]) | {'uid': list(change.uids) or [None]}
    now = read_columns(model, ids, columns)
    found = {}
    for id_ in ids:
        variants = [*change.before.get(id_, ()), *([now[id_]] if id_ in now else ())] or [{}]
        held = always | {'id': [id_]}
        if id_ not in change.deleted:
            record = model.browse(id_)
            held |= {name: list(record[name]._ids) for name in relations}
        found[id_] = [held | values for values in variants]
    return found


# -- which records -----------------------------------------------------------------------------


def matching(model, change, changes, domain, name='', fields=frozenset()) -> set[int]:
    """Ids of records that were changed in one of some ways and match a domain before or after;
    see the docstring of the module.

    :param name: of a business event, for which deleted records were looked at before
    :param fields: an update counts if it changed one of these; empty for any
    """
    created = change.created if CREATED in changes else set()
    deleted = change.deleted if DELETED in changes else set()
    updated = set()
    if UPDATED in changes:
        updated = {
            id_
            for id_, names in change.updated.items()
            if id_ not in change.created and (not fields or names & fields)
        }
    if not domain or not (created or updated or deleted):
        return created | updated | deleted
    found = change.deleted_as.get(name, set()) if name else deleted
    columns = _columns_of(model, domain)
    found = found | {id_ for id_ in updated if columns is None or change.updated[id_] & columns}
    return found | _matching_now(model, (created | updated) - found, domain)


def _matching_now(model, ids, domain) -> set[int]:
    if not ids:
        return set()
    return set(model.search([('id', 'in', sorted(ids)), *domain], order='id')._ids)


def _columns_of(model, domain) -> frozenset[str] | None:
    """Fields of the record that a domain asks for; None when one of them is not a column.

    :raise ValueError: there is no such field (any more)
    """
    names = {
        condition.field_expr.split('.')[0] for condition in Domain(list(domain)).iter_conditions()
    }
    for name in names:
        field = model._fields.get(name)
        if field is None:
            raise ValueError(f'{model._name} has no field {name}')
        if not (field.store and field.column_type) or name in LOG_COLUMNS:
            return None
    return frozenset(names)


# -- failures ----------------------------------------------------------------------------------


def report(registry, rule: Rule, error: str) -> None:
    """A rule could not be evaluated: tell the log once, the figures, and the rule itself.

    On a cursor of our own, later: in the caller's transaction, two that fail at once would
    update the same row, and one would have to be repeated.
    """
    engine = engine_for(registry)
    if engine is None:
        _logger.warning("Tiered Cache: event rule %d failed: %s", rule.id, error)
        return
    engine.metrics.event('event_rule_failed')
    engine.log_once(
        f'event rule {rule.id} {error}'[:200],
        "Tiered Cache: rule %d for %s cannot be evaluated, so everything is removed that it may "
        "have asked for: %s",
        rule.id,
        rule.event,
        error,
    )
    waiting = registry.__dict__.setdefault(_ERRORS_SLOT, {})
    waiting[rule.id] = (waiting.get(rule.id, (0, ''))[0] + 1, error[:1000])
    engine.outbox.post_job('event rule errors', lambda: _write_errors(engine, waiting))


def _write_errors(engine, waiting: dict) -> None:
    with engine.cursor() as cr:
        for id_ in sorted(waiting):
            count, error = waiting.pop(id_)
            cr.execute(_FAILED, [count, error, id_])
