"""The processes that are alive, for the dashboard.

The one idea: each process writes its own row (:mod:`services.workers`); here they are only read,
by Cache Administrators, since sizes say how much others have read.

What may go wrong: a row of a process that was killed stays until somebody else writes; ``_alive``
leaves it out before.
"""

from odoo import api, fields, models


class CacheWorker(models.Model):
    _name = 'cache.worker'
    _description = "Cache Process"
    _order = 'host, kind, pid, id'
    _rec_name = 'pid'
    _log_access = False

    token = fields.Char(required=True, readonly=True)
    host = fields.Char(required=True, readonly=True)
    pid = fields.Integer(string="Process", required=True, readonly=True)
    kind = fields.Selection(
        [
            ('http', "HTTP worker"),
            ('cron', "Cron worker"),
            ('gevent', "Live chat and notifications"),
            ('threaded', "Server with threads"),
            ('other', "Shell or script"),
        ],
        required=True,
        readonly=True,
    )
    started_at = fields.Datetime(readonly=True)
    seen_at = fields.Datetime(string="Last Seen", readonly=True)
    gone_at = fields.Datetime(
        readonly=True, help="If the process has not written by then, it is gone."
    )
    calls = fields.Integer(readonly=True, help="Read calls since the process started.")
    hits = fields.Integer(readonly=True, help="Those of them that a tier answered.")
    l1_entries = fields.Integer(string="Entries in L1", readonly=True)
    l1_bytes = fields.Float(string="Bytes in L1", readonly=True, digits=(16, 0))
    l1_max_entries = fields.Integer(readonly=True)
    l1_max_bytes = fields.Float(readonly=True, digits=(16, 0))
    memory_bytes = fields.Float(string="Memory of the Process", readonly=True, digits=(16, 0))
    memory_limit_bytes = fields.Float(readonly=True, digits=(16, 0))
    sheds = fields.Integer(readonly=True, help="How often L1 had to give way.")
    details = fields.Json(
        readonly=True, help="Guards that wait or fail, what is suspended, how Redis does."
    )
    measured_at = fields.Datetime(readonly=True)
    measured = fields.Json(readonly=True, help="What this process has measured of L2 and L3.")

    _token_uniq = models.UniqueIndex('(token)')

    @api.model
    def _alive(self):
        """Rows of processes that have written in time, as dictionaries."""
        self.env.cr.execute(
            "SELECT * FROM cache_worker WHERE gone_at > now() AT TIME ZONE 'UTC'"
            " ORDER BY host, kind, pid, id"
        )
        numbers = [f.name for f in self._fields.values() if f.type in ('integer', 'float')]
        return [
            {
                **row,
                **{n: row[n] or 0 for n in numbers},
                'details': row['details'] or {},
                'guards_waiting': len((row['details'] or {}).get('waiting') or ()),
            }
            for row in self.env.cr.dictfetchall()
        ]
