"""Tables: which are watched for changes, how often they change, and what went wrong.

The one idea: a view of what PostgreSQL and the journal know, made with each query, without a table
or an SQL view of its own; reading it locks nothing.  Guarding and releasing is left to
:class:`services.guards.Guards`, in transactions of its own.

What may go wrong: a guard waits for a writer and gives up; the record says so, and it is tried
again.  Figures of changes are as old as the last writing of figures, some seconds.
"""

from collections import Counter

import psycopg2

from odoo import api, fields, models
from odoo.exceptions import UserError
from odoo.tools import SQL

from ..services import preview
from ..services.engine import engine_for
from . import plain_words
from .cache_manager import GROUP_ADMIN

OWN_TABLES = (
    'cache_change',
    'cache_entry',
    'cache_guard_failure',
    'cache_log',
    'cache_metric',
    'cache_sum',
    'cache_total',
    'cache_version',
)
"""Nothing that is cached is read from these."""


class CacheRelation(models.Model):
    _name = 'cache.relation'
    _description = "Watched Table"
    _order = 'guarded desc, changes_day desc, name'
    _auto = False
    _log_access = False

    name = fields.Char(string="Table", readonly=True)
    model = fields.Char(compute='_compute_model', search='_search_model')
    state = fields.Selection(
        [('guarded', "Watched"), ('failed', "Failed"), ('none', "Not watched")], readonly=True
    )
    guarded = fields.Boolean(string="Is Watched", readonly=True)
    capture = fields.Selection(
        [('triggers', "Database triggers"), ('orm', "Odoo only")],
        string="How",
        readonly=True,
        help="Triggers see every change; \"Odoo only\" does not see SQL and other programs.",
    )
    guarded_at = fields.Datetime(string="Watched Since", readonly=True)
    always = fields.Boolean(
        string="Behind Every Answer",
        compute='_compute_always',
        help="Every cached answer depends on this table: it is about users, rights, companies, "
        "languages or settings.",
    )
    changes_hour = fields.Integer(
        string="Changes in the Last Hour",
        readonly=True,
        help="Transactions that have changed the table. All entries that were read from it are "
        "out of date after each of them.",
    )
    changes_day = fields.Integer(string="Changes in 24 Hours", readonly=True)
    stale_day = fields.Integer(
        string="Misses in 24 Hours",
        readonly=True,
        help="Reads that had to be computed again because this table had changed.",
    )
    last_change_at = fields.Datetime(
        string="Last Change", readonly=True, help="Empty: the journal has been summed up since."
    )
    error = fields.Char(string="Last Error", readonly=True)
    failed_at = fields.Datetime(readonly=True)
    failures = fields.Integer(readonly=True)
    entries_l1 = fields.Integer(
        string="Entries in L1",
        compute='_compute_entries_l1',
        help="Entries in the memory of the worker that answers which were read from this table.",
    )
    entries_l3 = fields.Integer(
        string="Entries in L3",
        compute='_compute_entries_l3',
        help="Entries in the database that were read from this table. What Redis holds is not "
        "counted: every value would have to be read.",
    )

    @property
    def _table_query(self):
        return SQL(
            """
            SELECT c.oid::bigint AS id, c.relname::varchar AS name,
                   v.relation IS NOT NULL AS guarded,
                   CASE WHEN v.relation IS NOT NULL THEN 'guarded'
                        WHEN f.relation IS NOT NULL THEN 'failed' ELSE 'none' END AS state,
                   v.capture, v.guarded_at AT TIME ZONE 'utc' AS guarded_at,
                   coalesce(m.hour, 0) + coalesce(j.changes, 0) AS changes_hour,
                   coalesce(m.day, 0) + coalesce(j.changes, 0) AS changes_day,
                   coalesce(m.stale, 0) AS stale_day,
                   j.last_change_at,
                   f.error, f.failed_at, f.count AS failures
              FROM pg_class c
              LEFT JOIN cache_version v ON v.relation = c.relname
              LEFT JOIN (SELECT relation, count(*) AS changes,
                                max(changed_at) AT TIME ZONE 'utc' AS last_change_at
                           FROM cache_change GROUP BY relation) j ON j.relation = c.relname
              LEFT JOIN (SELECT relation,
                                sum(count) FILTER (
                                    WHERE outcome = 'change' AND bucket
                                        >= now() AT TIME ZONE 'utc' - interval '1 hour'
                                ) AS hour,
                                sum(count) FILTER (WHERE outcome = 'change') AS day,
                                sum(count) FILTER (WHERE reason = 'stale') AS stale
                           FROM cache_metric
                          WHERE active AND bucket >= now() AT TIME ZONE 'utc' - interval '24 hours'
                            AND (outcome = 'change' OR reason = 'stale')
                          GROUP BY relation) m ON m.relation = c.relname
              LEFT JOIN cache_guard_failure f ON f.relation = c.relname
             WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
               AND c.relnamespace = current_schema()::regnamespace
               AND c.relname NOT IN %s
            """,
            OWN_TABLES,
        )

    def _compute_model(self):
        models_by_table = self._models_by_table()
        for relation in self:
            relation.model = ", ".join(sorted(models_by_table.get(relation.name, ())))

    @api.model
    def _models_by_table(self):
        found = {}
        for name, model in self.env.items():
            if not model._abstract and not model._transient and model._auto:
                found.setdefault(model._table, []).append(name)
        return found

    @api.model
    def _search_model(self, operator, value):
        if operator not in ('in', 'like', 'ilike', '=like', '=ilike'):
            return NotImplemented
        known = self.env['ir.model'].sudo().search([('model', operator, value)])
        tables = {self.env[name]._table for name in known.mapped('model') if name in self.env}
        return [('name', 'in', sorted(tables))]

    def _compute_always(self):
        engine = engine_for(self.env.registry)
        for relation in self:
            relation.always = engine is not None and relation.name in engine.always

    def _compute_entries_l1(self):
        engine = engine_for(self.env.registry)
        l1 = engine and engine.hierarchy.tiers.get('l1')
        counts = Counter(
            dependency[0]
            for entry in (l1.entries() if l1 else ())
            for dependency in entry.dependencies
        )
        for relation in self:
            relation.entries_l1 = counts[relation.name]

    def _compute_entries_l3(self):
        for relation in self:
            relation.entries_l3 = len(preview.rows_depending_on(self.env.cr, relation.name))

    # -- buttons -------------------------------------------------------------------------

    def action_guard(self):
        """Watch the tables from now on (button; cache administrators)."""
        engine = self._engine_of_administrator()
        failed = []
        for relation in self:
            error = plain_words.error(self.env, engine.guards.guard_now(relation.name))
            if error:
                failed.append(f"{relation.name} ({error})")
            self.env['cache.log']._note('guard', self.env._("Table %s", relation.name), error)
        if not failed:
            return self._notify('success', self.env._("From now on every change is noticed."))
        return self._notify(
            'warning',
            self.env._(
                "Not possible yet for %s; it is tried again in the background.",
                ", ".join(failed),
            ),
        )

    def action_release(self):
        """Stop watching the tables (button; cache administrators).

        What was read from them is computed again; the first answer that needs one of them has it
        watched again.
        """
        engine = self._engine_of_administrator()
        kept = []
        for relation in self:
            try:
                error = plain_words.error(self.env, engine.guards.release_now(relation.name))
            except psycopg2.Error as failure:
                raise UserError(
                    self.env._("%(table)s could not be released: %(error)s",
                               table=relation.name, error=failure)
                ) from failure  # fmt: skip
            if error:
                kept.append(relation.name)
            self.env['cache.log']._note('release', self.env._("Table %s", relation.name), error)
        if not kept:
            return self._notify('success', self.env._("Released."))
        return self._notify(
            'warning',
            self.env._(
                "Released, but somebody is using %s, so the triggers are still there. They do no "
                "harm; release it again to remove them.",
                ", ".join(kept),
            ),
        )

    def action_invalidate(self):
        """Remove what was read from the tables (button; cache administrators)."""
        for relation in self:
            self.env['cache.manager'].invalidate_relation(relation.name)
        return self._notify('success', self.env._("What was read from it is computed again."))

    def action_open_entries(self):
        """The entries of L3 that depend on the table (button)."""
        action = self.env['ir.actions.act_window']._for_xml_id('tiered_cache.cache_entry_action')
        action['context'] = {'search_default_depends_on': self.name}
        return action

    def action_open_changes(self):
        """The recent changes of the table; where the journal has been summed up, how many there
        were in each minute (button)."""
        name, domain = 'change', [('kind', '=', 'table'), ('relation', '=', self.name)]
        if not self.env['cache.change'].search_count(domain, limit=1):
            name, domain = 'metric', [('outcome', '=', 'change'), ('relation', '=', self.name)]
        action = self.env['ir.actions.act_window']._for_xml_id(f'tiered_cache.cache_{name}_action')
        action.update(name=self.env._("Changes of %s", self.name), domain=domain)
        if name == 'metric':
            views = dict((view_type, view_id) for view_id, view_type in action['views'])
            action['views'] = [(views[kind], kind) for kind in ('list', 'graph', 'pivot')]
            action['context'] = {'search_default_last_day': 1}
        return action

    def _engine_of_administrator(self):
        self.env['cache.manager']._check_group(GROUP_ADMIN)
        self.check_access('read')
        return self.env['cache.manager']._engine()

    @api.model
    def _notify(self, kind, message):
        return {
            'type': 'ir.actions.client',
            'tag': 'display_notification',
            'params': {
                'type': kind,
                'message': message,
                'next': {'type': 'ir.actions.client', 'tag': 'soft_reload'},
            },
        }
