"""What the dashboard shows, in one call, and what its buttons do.

The one idea: :mod:`services.dashboard` reads the figures, :mod:`services.advice` draws
conclusions, and this model adds who may see what, words, and what the registry knows: which models
write to a table, which fields look at the clock.

What may go wrong: a Cache User must not learn how large records are that they may not read (see
"What a Cache User can learn" in ``docs/security.md``).  So they get calls, hits and reasons, those
per model only of models that they may read; everything else is added by
:meth:`CacheDashboard._for_administrators`, which nobody else reaches.
"""

import calendar
import itertools

from odoo import api, models
from odoo.exceptions import AccessError, UserError
from odoo.tools.misc import formatLang

from ..services import advice, clock, dashboard, options
from ..services.engine import engine_for
from . import plain_words
from .cache_manager import GROUP_ADMIN, GROUP_USER
from .cache_rule import split_methods

_SLOT = '_tiered_cache_dashboard'
"""Under which a registry remembers what it was asked about itself."""

MAX_FIELDS = 3
"""Fields that an advice names."""


class CacheDashboard(models.AbstractModel):
    _name = 'cache.dashboard'
    _description = "Cache Dashboard"

    @api.model
    @api.readonly
    def get_figures(self, period='day'):
        """Everything that the dashboard shows.

        :param str period: 'hour', 'day', 'week' or 'month'; the last one, days as in the user's
            time zone
        :return: a dictionary of plain values; times in epoch seconds.  Which keys there are only
            for Cache Administrators stands in :meth:`_for_administrators`.
        :raise AccessError: the user is no Cache User
        """
        self.env['cache.manager']._check_group(GROUP_USER)
        if period not in dashboard.PERIODS:
            raise UserError(
                self.env._("There is no such period, only: %s", ", ".join(dashboard.PERIODS))
            )
        cr, zone = self.env.cr, self.env.context.get('tz') or self.env.user.tz or 'UTC'
        when = dashboard.period(period, cr.now().replace(microsecond=0), zone)
        curves = dashboard.curves(cr, when)
        admin = self.env['cache.manager']._may(GROUP_ADMIN)
        shown = None if admin else self.env['cache.metric']._shown_models()
        methods = dashboard.methods(cr, when, shown, self._sum_book())
        totals = curves['totals']
        audit = totals['audit']
        figures = {
            'period': period,
            'now': _epoch(when.now),
            'starts': [_epoch(start) for start in when.starts],
            'is_admin': admin,
            'is_empty': self._is_empty(),
            'is_enabled': self._settings().enabled,
            'calls': int(sum(totals[name]['calls'] for name in dashboard.CALLS)),
            'hits': int(sum(totals[name]['hits'] for name in dashboard.HITS)),
            'recent': {'minutes': dashboard.NOW_MINUTES, **curves['recent']},
            'outcomes': curves['outcomes'],
            'reasons': curves['reasons'],
            'audited': int(audit['audited']),
            'differences': int(audit['differences']),
            'methods': self._methods(methods, when, admin),
            'labels': self._labels(),
        }
        if admin:
            figures.update(self._for_administrators(when, curves, methods))
        return figures

    def _for_administrators(self, when, curves, methods):
        """Times, sizes, tables and processes: what speaks of records that others read."""
        totals = curves['totals']
        workers = self.env['cache.worker']._alive()
        settings = self._settings()
        measured = _measured(workers)
        return {
            'saved_ms': sum(totals[name]['saved_ms'] for name in dashboard.HITS),
            'duration_ms': sum(totals[name]['duration_ms'] for name in dashboard.CALLS),
            'saved_queries': int(sum(totals[name]['saved_queries'] for name in dashboard.HITS)),
            'latency': {
                name: dashboard.percentiles(bins) for name, bins in curves['latency'].items()
            },
            'saved_by_model': dashboard.saved_by_model(methods),
            'tiers': self._tiers(workers, measured, settings),
            'redis': self._redis(workers, measured, settings),
            'guards': self._guards(workers, settings),
            'workers': [_worker(row) for row in workers],
            'advice': self._advice(when, curves, methods, workers, settings),
        }

    @api.model
    def apply_advice(self, action):
        """Do what an advice says.

        :param dict action: as in an advice of :meth:`get_figures`: do 'option' with name and
            value, or 'rule_off' with model and method
        :return: a sentence about what was done
        :raise AccessError: options are changed by system administrators, rules by Cache
            Administrators
        """
        self.env['cache.manager']._check_group(GROUP_ADMIN)
        action = action if isinstance(action, dict) else {}
        if action.get('do') == 'rule_off':
            return self._switch_off(action.get('model'), action.get('method'))
        if action.get('do') == 'option':
            return self._set_option(action.get('name'), action.get('value'))
        raise UserError(self.env._("There is no such advice."))

    @api.model
    def _switch_off(self, model, method):
        rule = self.env['cache.rule'].create(
            {
                'model': model,
                'methods': method,
                'enabled': False,
                'note': self.env._("Advice of the dashboard: the cache hardly ever answered it."),
            }
        )
        return self.env._("There is a rule now: %s", rule.display_name)

    @api.model
    def _set_option(self, name, value):
        if not self._may_set(name):
            raise AccessError(self.env._("Only system administrators can change the settings."))
        settings, option = self._settings(), options.OPTIONS[name]
        if settings.is_overridden(name):
            raise UserError(
                self.env._(
                    "This option is set by %s and can only be changed there.",
                    self._place_of(name, settings),
                )
            )
        try:
            options.check(name, str(value))
        except ValueError as error:
            raise UserError(plain_words.error(self.env, error)) from None
        form = self.env['res.config.settings']
        before = form._tiered_cache_shown(options.to_text(getattr(settings, name)))
        self.env['ir.config_parameter'].sudo().set_param(option.parameter, str(value))
        self.env['cache.log']._note(
            'change',
            self.env._("Settings"),
            form._tiered_cache_change(name, before, form._tiered_cache_shown(str(value))),
        )
        return self.env._(
            "%(option)s is %(value)s %(unit)s now; all workers follow with their next transaction.",
            option=self._label_of(name),
            value=value,
            unit=plain_words.unit(self.env, option.unit),
        )

    # -- who may see what ----------------------------------------------------------------

    @api.model
    def _is_empty(self):
        self.env.cr.execute("SELECT NOT EXISTS (SELECT FROM cache_total WHERE calls > 0)")
        return self.env.cr.fetchone()[0]

    @api.model
    def _settings(self):
        return self.env['res.config.settings']._tiered_cache_settings()

    @api.model
    def _may_set(self, name):
        return name in advice.OPTIONS and self.env['res.config.settings']._tiered_cache_may()

    @api.model
    def _labels(self):
        """Words for outcomes, reasons and kinds of processes, the same as elsewhere."""
        return {
            name: dict(self.env[model]._fields[name]._description_selection(self.env))
            for model, name in (
                ('cache.metric', 'outcome'),
                ('cache.metric', 'reason'),
                ('cache.worker', 'kind'),
            )
        }

    @api.model
    def _place_of(self, option, settings):
        place = options.describe_source(option, settings.source(option))
        return plain_words.error(self.env, place)

    @api.model
    def _label_of(self, option):
        field = self.env['res.config.settings']._fields[f'tiered_cache_{option}']
        return field._description_string(self.env)

    # -- why it misses -------------------------------------------------------------------

    @api.model
    def _methods(self, methods, when, admin):
        shown = [method for method in methods if method.misses][: dashboard.MAX_METHODS]
        active = self._rules()
        titles = self._titles({method.model for method in shown})
        found = []
        for method in shown:
            rule = _rule_of(active, method.model, method.method)
            row = {
                'model': method.model,
                'model_id': titles.get(method.model, (False,))[0],
                'title': titles.get(method.model, ('', ''))[1],
                'method': method.method,
                'calls': int(method.calls),
                'hits': int(method.hits),
                'reasons': {name: int(calls) for name, calls in method.reasons.items() if calls},
                'rule_id': rule and rule['id'],
            }
            if admin:
                row['relations'] = self._relations(method, when)
            found.append(row)
        return found

    @api.model
    def _relations(self, method, when):
        """The relations whose changes made most answers of a method stale."""
        stale = dashboard.stale_relations([method])
        return [
            {
                'relation': relation,
                'calls': int(calls),
                'per_hour': calls / when.hours,
                'writers': self._writers(relation),
            }
            for relation, calls in list(stale.items())[: dashboard.MAX_RELATIONS]
        ]

    @api.model
    def _titles(self, names):
        found = self.env['ir.model'].sudo().search_fetch([('model', 'in', list(names))], ['name'])
        return {model.model: (model.id, model.name) for model in found}

    @api.model
    def _remembered(self):
        return self.env.registry.__dict__.setdefault(_SLOT, {})

    @api.model
    def _sum_book(self):
        engine = engine_for(self.env.registry)
        # without an engine there is no background: nothing is remembered then
        return engine.sums if engine else None

    @api.model
    def _tables(self):
        """By model, its own tables: that of its records, and those of its many2many fields."""
        known = self._remembered()
        if 'tables' not in known:
            registry = self.env.registry
            found = {
                name: {model._table}
                for name, model in registry.models.items()
                if not model._abstract
            }
            for (relation, *_columns), users in registry.many2many_relations.items():
                for name, _field in users:
                    if name in found:
                        found[name].add(relation)
            known['tables'] = found
        return known['tables']

    @api.model
    def _writers(self, relation):
        """Models that write to a table."""
        known = self._remembered().setdefault('writers', {})
        if relation not in known:
            known[relation] = sorted(
                name for name, tables in self._tables().items() if relation in tables
            )
        return known[relation]

    @api.model
    def _fields_reading(self, model, relation):
        """Fields of a model whose values are made of another table."""
        known = self._remembered().setdefault('reading', {})
        if (model, relation) not in known:
            fields = self.env[model]._fields.values() if model in self.env else ()
            found = [field for field in fields if self._reads(field, relation)]
            # those that lead there say more than those that are computed from them
            found.sort(key=lambda field: (not field.relational, field.name))
            known[model, relation] = [field.name for field in found[:MAX_FIELDS]]
        return known[model, relation]

    @api.model
    def _reads(self, field, relation):
        if field.name in models.MAGIC_COLUMNS or (field.store and not field.relational):
            return False
        if field.relational:
            return not field.inherited and self.env[field.comodel_name]._table == relation
        for path in self.env.registry.field_depends[field]:
            model = self.env[field.model_name]
            for name in path.split('.'):
                step = model._fields.get(name)
                if step is None or not step.relational:
                    break
                model = self.env[step.comodel_name]
                if model._table == relation:
                    return True
        return False

    @api.model
    def _fields_of_the_clock(self, model):
        """Fields of a model whose code looks at the time of day."""
        known = self._remembered().setdefault('clock', {})
        if model not in known:
            records = self.env.get(model)
            fields = [] if records is None else sorted(records._fields.items())
            # one by one, since to read the code of a field takes up to a millisecond
            found = (n for n, f in fields if f.compute and 'clock' in clock.uses(records, f))
            known[model] = list(itertools.islice(found, MAX_FIELDS))
        return known[model]

    # -- tiers, Redis, guards --------------------------------------------------------------

    @api.model
    def _tiers(self, workers, measured, settings):
        """Entries and bytes by tier, with limits; None is unknown or unlimited."""
        total = {
            name: int(sum(row[name] or 0 for row in workers))
            for name in ('l1_entries', 'l1_bytes', 'l1_max_entries', 'l1_max_bytes')
        }
        found = {
            'l1': {
                'entries': total['l1_entries'],
                'bytes': total['l1_bytes'],
                'max_entries': total['l1_max_entries'] or None,
                'max_bytes': total['l1_max_bytes'] or None,
                'is_on': bool(settings.l1_max_entries and settings.l1_max_mb),
            }
        }
        for name, is_on in (('l2', bool(settings.redis_url)), ('l3', settings.l3_enabled)):
            stats = measured.get(name) or {}
            # what Redis itself says counts for all that it holds, and is better than nothing
            size_bytes = stats.get('bytes') if name == 'l3' else stats.get('server_bytes')
            max_bytes = stats.get('max_bytes') or stats.get('server_max_bytes') or None
            found[name] = {
                'entries': stats.get('entries'),
                'bytes': size_bytes,
                'max_entries': stats.get('max_entries'),
                'max_bytes': max_bytes,
                'is_on': is_on,
            }
        return found

    @api.model
    def _redis(self, workers, measured, settings):
        """How Redis does, as the processes see it.

        :return: ``state``: 'off', 'unknown' (no process has said), 'up', 'down', or what is wrong
            with its configuration; ``since`` when; ``down`` and ``processes``: how many
        """
        seen = [row['details']['redis'] for row in workers if row['details'].get('redis')]
        if not settings.redis_url and not seen:
            return {'state': 'off'}
        broken = [health for health in seen if health['state'] != 'up']
        stats = measured.get('l2') or {}
        first = broken[0] if broken else {}
        return {
            'state': (first['state'] if broken else 'up') if seen else 'unknown',
            'since': min((h['since'] for h in broken if h['since']), default=None),
            'fault': plain_words.redis_fault(self.env, first.get('last_fault') or ''),
            'address': (first or (seen or [{}])[0]).get('address', ''),
            'version': stats.get('version') or '',
            'down': len(broken),
            'processes': len(seen),
        }

    @api.model
    def _guards(self, workers, settings):
        self.env.cr.execute(
            "SELECT count(*) FROM cache_version"
            " WHERE relation NOT LIKE '#%' AND capture <> 'removal'"
        )
        waiting, failed = set(), {}
        for row in workers:
            waiting.update(row['details'].get('waiting', ()))
            failed.update(row['details'].get('failed', {}))
        return {
            'guarded': self.env.cr.fetchone()[0],
            'waiting': sorted(waiting - failed.keys()),
            'failed': [{'relation': name, 'error': failed[name]} for name in sorted(failed)],
            'capture': settings.capture,
        }

    # -- advice ----------------------------------------------------------------------------

    @api.model
    def _rules(self):
        found = self.env['cache.rule'].search_fetch([], ['model', 'methods', 'enabled'])
        return [
            {
                'id': rule.id,
                'model': rule.model,
                'methods': split_methods(rule.methods),
                'enabled': rule.enabled,
            }
            for rule in found
        ]

    @api.model
    def _advice(self, when, curves, methods, workers, settings):
        scene = advice.Scene(
            methods=methods,
            totals=curves['totals'],
            settings=settings,
            workers=workers,
            rules=self._rules(),
            tables=self._tables(),
            changed=self._changed_since(when.start),
        )
        return [self._in_words(found, settings) for found in advice.advise(scene)]

    @api.model
    def _changed_since(self, start):
        """Options that were changed in the database since then."""
        names = {options.OPTIONS[name].parameter: name for name in advice.OPTIONS}
        found = (
            self.env['ir.config_parameter']
            .sudo()
            .search_fetch([('key', 'in', list(names)), ('write_date', '>=', start)], ['key'])
        )
        return frozenset(names[parameter.key] for parameter in found)

    @api.model
    def _in_words(self, found, settings):
        """An advice as the client shows it: ``title``, ``text``, ``action``, ``button``,
        ``confirm``."""
        words = getattr(self, f'_words_{found.kind}')(found.evidence, settings)
        action = found.action
        if action is not None and action['do'] == 'option':
            action = self._option_action(action, settings, words)
        return {
            'kind': found.kind,
            'model': found.evidence.get('model', ''),
            'model_id': self.env['ir.model']._get_id(found.evidence.get('model', '')) or False,
            'method': found.evidence.get('method', ''),
            'relation': found.evidence.get('relation', ''),
            **words,
            'action': action,
        }

    @api.model
    def _option_action(self, action, settings, words):
        """The action, if the user may; otherwise a sentence says who or where."""
        name = action['name']
        if settings.is_overridden(name):
            words['text'] += " " + self.env._(
                "The option is set by %s; change it there.",
                self._place_of(name, settings),
            )
            return None
        if not self._may_set(name):
            words['text'] += " " + self.env._("A system administrator can change this setting.")
            return None
        unit = plain_words.unit(self.env, options.OPTIONS[name].unit)
        words['button'] = self.env._(
            "Set to %(value)s %(unit)s", value=options.to_text(action['value']), unit=unit
        )
        words['confirm'] = self.env._(
            "%(option)s is changed from %(before)s to %(after)s %(unit)s, for all processes of all "
            "servers, at once. You can change it back in Settings.",
            option=self._label_of(name),
            before=options.to_text(getattr(settings, name)),
            after=options.to_text(action['value']),
            unit=unit,
        )
        return action

    def _words_does_not_pay(self, found, _settings):
        reasons = self._labels()['reason']
        text = self.env._(
            "%(calls)s calls, of which the cache answered %(hit_rate)s. Most frequent reason: "
            "%(reason)s (%(share)s). Looking and recording costs time and gains nothing here.",
            calls=self._number(found['calls']),
            hit_rate=self._percent(found['hit_rate']),
            reason=reasons.get(found['reason'], found['reason']),
            share=self._percent(found['reason_share']),
        )
        if found['suspended'] > 0.5:
            text += " " + self.env._("It is suspended most of the time already.")
        return {
            'title': self.env._("Caching %s does not pay", _call(found)),
            'text': text,
            'button': self.env._("Stop Caching It"),
            'confirm': self.env._(
                "A rule is created that switches the cache off for %s. Delete the rule to switch "
                "it on again.",
                _call(found),
            ),
        }

    def _words_l1_too_small(self, found, _settings):
        text = self.env._(
            "%(count)s calls (%(share)s of all) asked for something that had been pushed out of "
            "memory before.",
            count=self._number(found['evicted']),
            share=self._percent(found['share']),
        )
        if not found['fits']:
            text += " " + self.env._(
                "The processes are too near their memory limit for a larger L1: raise "
                "limit_memory_soft, or keep less."
            )
        return {'title': self.env._("L1 is too small"), 'text': text}

    def _words_just_too_large(self, found, _settings):
        return {
            'title': self.env._("Results just above the size limit"),
            'text': self.env._(
                "%(count)s results were larger than %(limit)s kB, and at most twice as large; most "
                "of them of %(call)s. They are computed each time.",
                count=self._number(found['count']),
                limit=found['limit_kb'],
                call=_call(found),
            ),
        }

    def _words_busy_relation(self, found, _settings):
        writers = ", ".join(self._writers(found['relation'])) or found['relation']
        text = self.env._(
            "%(count)s answers (%(share)s of all that were out of date) had to be computed again "
            "since table %(relation)s had changed, which %(writers)s writes. Most of the time was "
            "lost in %(call)s.",
            count=self._number(found['count']),
            share=self._percent(found['share']),
            relation=found['relation'],
            writers=writers,
            call=_call(found),
        )
        engine = engine_for(self.env.registry)
        if engine and found['relation'] in engine.always:
            text += " " + self.env._("Every answer depends on this table, whatever its columns.")
        elif not found['own']:
            fields = self._fields_reading(found['model'], found['relation'])
            text += " " + (
                self.env._(
                    "It is not the table of that model. Fields that read it: %s. If the list can "
                    "do without them, hide these columns.",
                    ", ".join(fields),
                )
                if fields
                else self.env._(
                    "It is not the table of that model: access rights, a record rule or a "
                    "computed field reads it."
                )
            )
        text += " " + self.env._(
            "If a few seconds of delay do no harm there, a rule can allow them."
        )
        return {
            'title': self.env._("Changes of %s cost most", found['relation']),
            'text': text,
            'button': self.env._("Write a Rule"),
        }

    def _words_needless_column(self, found, _settings):
        model, column = self.env.get(found['model']), found['column']
        field = model is not None and model._fields.get(column)
        label = field and field._description_string(self.env)
        writers = ", ".join(self._writers(found['relation'])) or found['relation']
        return {
            'title': self.env._(
                "Column %(column)s makes %(call)s out of date, mostly for nothing",
                column=f"\u201c{label}\u201d" if label else column,
                call=_call(found),
            ),
            'text': self.env._(
                "%(count)s answers (%(share)s of those computed) had to be computed again since "
                "table %(relation)s had changed, which %(writers)s writes. %(same)s of them "
                "(%(same_share)s) came out as before. Of the columns asked for, only %(column)s "
                "reads that table. If the list can do without it, hide this column; if a few "
                "seconds of delay do no harm there, a rule can allow them.",
                count=self._number(found['count']),
                share=self._percent(found['of_misses']),
                relation=found['relation'],
                writers=writers,
                same=self._number(found['same']),
                same_share=self._percent(found['share']),
                column=column,
            ),
            'button': self.env._("Write a Rule"),
        }

    def _words_memory_is_scarce(self, found, _settings):
        text = self.env._(
            "Process %(pid)s on %(host)s takes %(used)s of %(limit)s MB (%(share)s), %(l1)s MB of "
            "it for L1. At its limit Odoo restarts it.",
            pid=found['pid'],
            host=found['host'],
            used=self._number(found['used_bytes'] / 2**20),
            limit=self._number(found['limit_bytes'] / 2**20),
            share=self._percent(found['share']),
            l1=self._number(found['l1_bytes'] / 2**20),
        )
        if found['workers'] > 1:
            text += " " + self.env._("%s processes are in this state.", found['workers'])
        if found['sheds']:
            text += " " + self.env._("L1 had to give way %s times.", found['sheds'])
        if found['l1_bytes'] < 0.1 * found['limit_bytes']:
            text += " " + self.env._("L1 is not the cause: raise limit_memory_soft.")
        return {'title': self.env._("A process is near its memory limit"), 'text': text}

    def _words_redis_is_slow(self, found, _settings):
        return {
            'title': self.env._("Redis saves hardly any time"),
            'text': self.env._(
                "%(hits)s answers of Redis took %(took)s ms each and saved %(saved)s ms. What is "
                "computed that fast need not be kept in Redis.",
                hits=self._number(found['hits']),
                took=self._decimal(found['duration_ms']),
                saved=self._decimal(found['saved_ms']),
            ),
        }

    def _words_clock_shortens(self, found, _settings):
        fields = self._fields_of_the_clock(found['model'])
        text = self.env._(
            "%(count)s calls (%(share)s) were computed again only because their result looks at "
            "the time of day and so lives for %(ttl)s s at most.",
            count=self._number(found['count']),
            share=self._percent(found['share']),
            ttl=found['ttl_s'],
        )
        if fields:
            text += " " + self.env._("Fields that look at the clock: %s.", ", ".join(fields))
        text += " " + self.env._(
            "With a longer life these may show the state of some minutes ago, in all models."
        )
        return {
            'title': self.env._("The clock shortens the life of %s", _call(found)),
            'text': text,
        }

    @api.model
    def _number(self, number):
        return formatLang(self.env, number, digits=0)

    @api.model
    def _decimal(self, number):
        return formatLang(self.env, number, digits=1)

    @api.model
    def _percent(self, share):
        text = self._number(100 * share) if share >= 0.1 else self._decimal(100 * share)
        return f"{text} %"


def _epoch(moment):
    return calendar.timegm(moment.timetuple())


def _call(found):
    return f"{found['model']}.{found['method']}"


def _rule_of(active, model, method):
    for rule in active:
        if rule['model'] == model and (not rule['methods'] or method in rule['methods']):
            return rule
    return False


def _measured(workers):
    """What the process has measured that did so last."""
    newest = max(
        (row for row in workers if row['measured_at'] and row['measured']),
        key=lambda row: row['measured_at'],
        default={},
    )
    return newest.get('measured') or {}


def _worker(row):
    return {
        'id': row['id'],
        'host': row['host'],
        'pid': row['pid'],
        'kind': row['kind'],
        'started_at': _epoch(row['started_at']),
        'seen_at': _epoch(row['seen_at']),
        'calls': row['calls'],
        'hits': row['hits'],
        'l1_entries': row['l1_entries'],
        'l1_bytes': int(row['l1_bytes'] or 0),
        'l1_max_bytes': int(row['l1_max_bytes'] or 0),
        'memory_bytes': int(row['memory_bytes'] or 0),
        'memory_limit_bytes': int(row['memory_limit_bytes'] or 0),
        'suspended': len(row['details'].get('suspended', ())),
    }
