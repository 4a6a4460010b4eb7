"""Entries of the database tier (L3), to look at.

The one idea: :class:`services.tiers.database.DatabaseTier` writes the table, on a
connection of its own; this model only shows it.  ``body`` is the truth (a packed
:class:`services.entry.Entry`), the other columns are copies for lists and searches.

What may go wrong: the table is UNLOGGED, so PostgreSQL empties it after a crash; entries
are only ever a copy of what can be computed again.  A value was computed with the rights of
one user, or of the superuser, so it is not shown to everybody who may look at the list.
Neither are keys, sizes and tables: who knows how keys are made could ask whether somebody
has read a certain record.  A Cache User sees what was computed for themself with their own
rights (a record rule); see "What a Cache User can learn" in ``docs/security.md``.
"""

import itertools
import time

from markupsafe import Markup

from odoo import api, fields, models
from odoo.exceptions import UserError
from odoo.tools import SQL

from ..services import codec, journal, keys, positions, pretty, preview, versions
from ..services import entry as entry_format
from ..services.keys import sql_like
from ..services.removal import ANY
from . import plain_words
from .cache_manager import GROUP_ADMIN, MAX_KEYS

MAX_SHOWN_CHARS = 20_000

MAX_SELECTED = 4000
"""Keys that one press of the button removes: beyond 5,000 the journal would rather remove all."""


class CacheEntry(models.Model):
    _name = 'cache.entry'
    _description = "Cache Entry"
    _order = 'id desc'
    _rec_name = 'key'
    _log_access = False

    key = fields.Char(required=True, readonly=True)
    model = fields.Char(readonly=True)
    method = fields.Char(readonly=True)
    uid = fields.Integer(string="User ID", readonly=True, aggregator=None)
    user_id = fields.Many2one(
        'res.users',
        compute='_compute_user_id',
        search='_search_user_id',
        help="Who asked first. Whoever else is served the entry would have got the same.",
    )
    superuser = fields.Boolean(
        readonly=True, help="Computed past access rights and record rules, for code of Odoo."
    )
    created = fields.Datetime(readonly=True)
    expires = fields.Datetime(readonly=True)
    cost_ms = fields.Float(
        string="Cost (ms)",
        readonly=True,
        digits=(16, 1),
        aggregator='avg',
        help="Time it took to compute, in milliseconds.",
    )
    size_bytes = fields.Integer(string="Size (bytes)", readonly=True)
    hits = fields.Integer(
        readonly=True, help="How often a worker fetched the entry from this tier."
    )
    age = fields.Char(compute='_compute_age', help="How long ago it was computed; s, min, h or d.")
    left = fields.Char(
        string="Expires In", compute='_compute_age', help="How much of its time to live is left."
    )
    is_expired = fields.Boolean(compute='_compute_age')
    pattern = fields.Char(store=False, search='_search_pattern', string="Key Pattern")
    depends_on = fields.Char(
        store=False,
        search='_search_depends_on',
        groups='tiered_cache.group_cache_admin',
        help="A table that the value was read from, or tag: and a tag.",
    )
    body = fields.Binary(readonly=True, attachment=False, groups=fields.NO_ACCESS)
    payload = fields.Text(string="Value", compute='_compute_content')
    payload_note = fields.Char(compute='_compute_content')
    dependencies = fields.Html(
        compute='_compute_content', sanitize=False, groups='tiered_cache.group_cache_admin'
    )
    is_valid = fields.Boolean(
        string="Valid Now",
        compute='_compute_content',
        help="Whether a reader would be served this entry now: it has not expired, nobody has "
        "removed it, and no table it was read from has changed.",
    )

    _key_uniq = models.UniqueIndex('(key)')
    _key_prefix_idx = models.Index('(key text_pattern_ops)')
    _expires_idx = models.Index('(expires)')
    _uid_idx = models.Index('(uid)')

    def init(self):
        # at every installation and upgrade, as for the table of this model
        journal.install(self.env.cr)
        # Entries need no crash safety, and without WAL a write costs half.
        self.env.cr.execute(
            "SELECT relpersistence FROM pg_class WHERE oid = 'cache_entry'::regclass"
        )
        if self.env.cr.fetchone()[0] == 'p':
            self.env.cr.execute("ALTER TABLE cache_entry SET UNLOGGED")
        # Rows of an earlier version do not say whether they were computed past access rights.
        self.env.cr.execute("DELETE FROM cache_entry WHERE superuser IS NULL")

    @api.depends('uid')
    def _compute_user_id(self):
        users = self.env['res.users'].browse(set(self.mapped('uid')) - {0}).exists()
        for entry in self:
            entry.user_id = users.filtered(lambda user, uid=entry.uid: user.id == uid)

    @api.model
    def _search_user_id(self, operator, value):
        if operator == 'in':
            return [('uid', 'in', list(value))]
        if operator == 'any':
            users = self.env['res.users'].with_context(active_test=False).search(value)
            return [('uid', 'in', users.ids)]
        return NotImplemented

    @api.depends('created', 'expires')
    def _compute_age(self):
        now = fields.Datetime.now()
        for entry in self:
            entry.is_expired = bool(entry.expires) and entry.expires <= now
            entry.age = entry.created and self._duration((now - entry.created).total_seconds())
            entry.left = entry.expires and (
                self._duration((entry.expires - now).total_seconds())
                if entry.expires > now
                else self.env._("expired")
            )

    @api.model
    def _duration(self, seconds):
        """As short as it can be said."""
        for least, unit_s, text in (
            (172800, 86400, self.env._("%s d")),
            (7200, 3600, self.env._("%s h")),
            (120, 60, self.env._("%s min")),
        ):
            if seconds >= least:
                return text % round(seconds / unit_s)
        return self.env._("%s s", max(0, round(seconds)))

    @api.model
    def _search_pattern(self, operator, value):
        """Keys by a pattern with ``*``, ``?`` and ``[abc]``; without any, by a part of the key."""
        if operator not in ('in', '=', 'ilike', 'like'):
            return NotImplemented
        found = set()
        for text in _texts(value):
            if not set(text) & set('*?[]'):
                text = f'*{text}*'
            try:
                target = keys.pattern_target(text)
            except keys.InvalidKey as error:
                raise UserError(plain_words.error(self.env, error)) from None
            found.update(self._ids_of_keys(target))
        return [('id', 'in', list(found))]

    @api.model
    def _ids_of_keys(self, target):
        """Rows whose keys are meant, at most :data:`services.preview.MAX_BODIES`."""
        self.env.cr.execute(
            SQL(
                "SELECT id, key FROM cache_entry WHERE key LIKE %s ORDER BY id DESC",
                sql_like(target.candidates),
            )
        )
        rows = (id_ for id_, key in self.env.cr.fetchall() if target.wants(key))
        return list(itertools.islice(rows, preview.MAX_BODIES))

    @api.model
    def _search_depends_on(self, operator, value):
        if operator not in ('in', '=', 'ilike', 'like'):
            return NotImplemented
        self.env['cache.manager']._check_group(GROUP_ADMIN)
        found = set()
        for name in _texts(value):
            found.update(preview.rows_depending_on(self.env.cr, name))
        return [('id', 'in', list(found))]

    def _compute_content(self):
        # None when this transaction has written; a fresh book sees just this snapshot
        state = versions.VersionBook().look(self.env.cr)
        bodies = self._bodies()
        for record in self:
            entry, payload, note = record._unpacked(bodies.get(record.id))
            record.payload = payload
            record.payload_note = note
            record.dependencies = record._dependency_table(entry, state)
            record.is_valid = bool(entry) and record._is_valid(entry, state)

    def _bodies(self):
        """Packed entries by id, read past the ORM, to which the column is closed."""
        self.check_access('read')
        self.env.cr.execute(
            SQL("SELECT id, body FROM cache_entry WHERE id IN %s", tuple(self.ids) or (0,))
        )
        return {id_: bytes(body) for id_, body in self.env.cr.fetchall() if body is not None}

    def _unpacked(self, body):
        """The entry, its value as text, and a note to go with the text or instead of it."""
        try:
            entry = entry_format.from_bytes(body or b'')
        except entry_format.CorruptEntry:
            return (
                None,
                False,
                self.env._(
                    "The bytes of this entry cannot be read: it is damaged, or another version of "
                    "the addon wrote it. Readers skip it and compute."
                ),
            )
        if reason := self._why_hidden(entry):
            return entry, False, reason
        try:
            value = codec.unpack(entry.payload)
        except codec.CorruptPayload:
            return (
                entry,
                False,
                self.env._("The value of this entry is damaged. Readers skip it and compute."),
            )
        text, cut = pretty.render(value, MAX_SHOWN_CHARS)
        note = cut and self._cut_note()
        return entry, text, note

    def _cut_note(self):
        number = self.env['ir.qweb.field.integer'].value_to_html(MAX_SHOWN_CHARS, {})
        return self.env._("Only the first %s characters are shown.", number)

    def _why_hidden(self, entry):
        """Why this user may not see the value, or False.

        Record rules and the groups of fields shaped the value for whoever asked, perhaps in
        superuser mode, and cannot be applied to it again.  So it is for system
        administrators, whose business it is to see everything.
        """
        model = self.env.get(entry.model)
        if model is None:
            return self.env._("The value is hidden: its model is not installed.")
        if not model.has_access('read'):
            return self.env._("The value is hidden: you may not read \"%s\".", model._description)
        if not (self.env.su or self.env.user.has_group('base.group_system')):
            return self.env._(
                "The value is hidden: it was computed with the rights of the user above, which "
                "may be more than yours. System administrators can see it."
            )
        return False

    def _is_valid(self, entry, state):
        """Whether a reader with this snapshot would be served the entry."""
        return bool(
            state is not None
            and entry.expires > time.time()
            and entry.removal_version == state.removals.version(entry.key, entry.uid)
            and all(
                state.versions.get(relation) == version
                or state.removals.is_current(relation, version, uid)
                or self._stands(relation, version)
                for relation, version, uid in entry.dependencies
            )
        )

    def _stands(self, name, version):
        """Whether a sequence is where it was."""
        return name.startswith(positions.PREFIX) and positions.stands(self.env.cr, name, version)

    def _dependency_table(self, entry, state):
        if not entry or not entry.dependencies:
            return False
        row = Markup("<tr><td>{}</td><td class='font-monospace'>{}</td><td>{}</td></tr>")
        rows = Markup().join(
            row.format(
                self._relation_label(relation),
                f'{version:016x}',
                self._since_then(relation, version, uid, state),
            )
            for relation, version, uid in sorted(entry.dependencies, key=lambda d: d[0])
        )
        return Markup(
            "<table class='table table-sm'><thead><tr><th>{}</th><th>{}</th><th>{}</th></tr>"
            "</thead><tbody>{}</tbody></table>"
        ).format(self.env._("Table"), self.env._("Version"), self.env._("Since Then"), rows)

    @api.model
    def _relation_label(self, relation):
        if relation.startswith(journal.TAG):
            return self.env._("tag %s", relation.removeprefix(journal.TAG))
        if relation.startswith(positions.PREFIX):
            return self.env._("sequence %s", relation.removeprefix(positions.PREFIX))
        if relation == ANY:
            return self.env._("(very many entries)")
        if relation.startswith(journal.KEY):
            return self.env._("entry %s", relation.removeprefix(journal.KEY))
        return self.env._("(everything)") if relation == journal.ALL else relation

    def _since_then(self, relation, version, uid, state):
        if state is None:
            return ""
        current = state.removals.is_current(relation, version, uid)
        if state.versions.get(relation) == version or current or self._stands(relation, version):
            return Markup("<i class='fa fa-check text-success'></i> {}").format(
                self.env._("unchanged")
            )
        return Markup("<i class='fa fa-times text-danger'></i> {}").format(self.env._("changed"))

    def action_invalidate(self):
        """Remove the entries from every tier and worker (button; cache administrators)."""
        manager, names = self.env['cache.manager'], self.mapped('key')
        if len(names) > MAX_SELECTED:
            raise UserError(
                self.env._(
                    "These are %(count)s entries. More than %(limit)s are removed by a pattern, a "
                    "model or a table: use Operations, Remove.",
                    count=len(names),
                    limit=MAX_SELECTED,
                )
            )
        if len(names) == 1:
            manager.invalidate_key(names[0])  # the log names it
        else:
            for start in range(0, len(names), MAX_KEYS):
                manager.invalidate_keys(names[start : start + MAX_KEYS])
        # a form has nothing to show any more, a list shows what is left
        in_form = self.env.context.get('tiered_cache_form')
        return {
            'type': 'ir.actions.client',
            'tag': 'display_notification',
            'params': {
                'type': 'success',
                'message': self.env._("The entry is removed from all tiers.")
                if len(self) == 1
                else self.env._("%s entries are removed from all tiers.", len(self)),
                'next': {
                    'type': 'ir.actions.client',
                    'tag': 'tiered_cache_leave' if in_form else 'soft_reload',
                },
            },
        }


def _texts(value):
    """What is searched for; "not set", which a filter may ask too, is no text and finds nothing."""
    values = [value] if isinstance(value, str) else value or ()
    return [text for text in values if isinstance(text, str)]
