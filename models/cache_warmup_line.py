"""One call of a warm-up's list, and what became of it in the last run."""

from odoo import api, fields, models

from ..services import warming


class CacheWarmupLine(models.Model):
    _name = 'cache.warmup.line'
    _description = "Warm-up Call"
    _order = 'sequence, id'
    _log_access = False

    warmup_id = fields.Many2one('cache.warmup', required=True, ondelete='cascade', index=True)
    sequence = fields.Integer(default=10)
    call_id = fields.Many2one(
        'cache.call', string="Recorded Call", ondelete='cascade', index=True, readonly=True
    )
    name = fields.Char(string="Call", readonly=True)
    user_id = fields.Many2one('res.users', ondelete='cascade', readonly=True)
    lang = fields.Char(string="Language", readonly=True)
    outcome = fields.Selection(
        [
            ('warmed', "Warmed"),
            ('present', "Was there"),
            ('skipped', "Skipped"),
            ('failed', "Failed"),
        ],
        readonly=True,
        copy=False,
        help="Warmed: computed and kept. Was there: a tier had it, with half of its time or more "
        "to live. Skipped: its user or record is gone, may not be read any more, or the cache "
        "does not keep it.",
    )
    message = fields.Char(
        string="Why", readonly=True, copy=False, size=warming.MAX_MESSAGE, help="In the last run."
    )
    duration_ms = fields.Float(string="Took (ms)", readonly=True, copy=False, digits=(16, 1))
    value_ms = fields.Float(related='call_id.value_ms')

    @api.depends('name')
    def _compute_display_name(self):
        for record in self:
            record.display_name = record.name
