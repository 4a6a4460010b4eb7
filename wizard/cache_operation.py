"""The wizard that removes something from the cache, after having shown how much that is.

The one idea: nothing but a form before :class:`cache.manager`: it asks for what it would take away,
then does it, and shows the record of the log that tells how far it is.

What may go wrong: what is counted has changed when the button is pressed.  The figures are a hint,
the removal is exact.
"""

from odoo import api, fields, models
from odoo.exceptions import UserError

from ..models.cache_manager import GROUP_ADMIN
from ..services import policy, preview
from ..services.engine import engine_for

TIERS = ('l1', 'l2', 'l3')


# Every model of the addon is in this folder.
# pylint: disable-next=no-wizard-in-models
class CacheOperation(models.TransientModel):
    _name = 'cache.operation'
    _description = "Removal from the Cache"
    _rec_name = 'kind'

    kind = fields.Selection(
        [
            ('model', "Everything of a model"),
            ('pattern', "Keys that match a pattern"),
            ('key', "One key"),
            ('relation', "What was read from a table"),
            ('tag', "What has a tag"),
            ('user', "What was computed for a user"),
            ('all', "Everything"),
        ],
        string="What",
        required=True,
        default='model',
    )
    model_id = fields.Many2one(
        'ir.model',
        domain=[
            ('transient', '=', False),
            ('abstract', '=', False),
            ('model', 'not in', policy.OWN_MODELS),
        ],
    )
    pattern = fields.Char(help="A key with * (anything), ? (one character), [abc] (one of these).")
    key = fields.Char(help="A name means all its variants.")
    relation = fields.Char(string="Table")
    tag = fields.Char()
    user_id = fields.Many2one('res.users')
    count_l1 = fields.Char(string="L1, this worker", compute='_compute_counts')
    count_l2 = fields.Char(string="L2, Redis", compute='_compute_counts')
    count_l3 = fields.Char(string="L3, database", compute='_compute_counts')
    note = fields.Char(compute='_compute_counts')
    problem = fields.Char(compute='_compute_counts')
    log_id = fields.Many2one('cache.log', readonly=True)
    summary = fields.Char(related='log_id.summary', string="Removed")

    def _target(self):
        """What to remove, as ``cache.manager`` takes it; '' where it is not given yet."""
        return {
            'model': self.model_id.model,
            'pattern': self.pattern,
            'key': self.key,
            'relation': self.relation,
            'tag': self.tag,
            'user': self.user_id.id and str(self.user_id.id),
        }.get(self.kind) or ''

    @api.depends('kind', 'model_id', 'pattern', 'key', 'relation', 'tag', 'user_id')
    def _compute_counts(self):
        for operation in self:
            counts, operation.problem = {}, False
            target = operation._target()
            if target or operation.kind == 'all':
                try:
                    counts = self._manager()._preview(operation.kind, target.strip())
                except UserError as error:
                    operation.problem = str(error)
            for tier in TIERS:
                operation[f'count_{tier}'] = self._text(tier, counts.get(tier)) if counts else False
            operation.note = bool(counts) and operation._note()

    @api.model
    def _manager(self):
        manager = self.env['cache.manager']
        manager._check_group(GROUP_ADMIN)
        return manager

    @api.model
    def _text(self, tier, count: preview.Count | None):
        if count is None:
            engine = engine_for(self.env.registry)
            in_use = engine is not None and tier in engine.hierarchy.tiers
            return self.env._("not counted") if in_use else self.env._("not in use")
        number = self.env['ir.qweb.field.integer'].value_to_html(count.entries, {})
        return number if count.is_complete else self.env._("at least %s", number)

    def _note(self):
        if self.kind == 'model':
            return self.env._(
                "These are the calls of the model. Whatever else was read from its table is "
                "removed as well."
            )
        if self.kind in ('relation', 'tag', 'user'):
            return self.env._(
                "Where they are not counted or not taken out at once, they are never served again, "
                "and go when they expire."
            )
        return False

    def action_remove(self):
        """Do it, and show what becomes of it (button; cache administrators)."""
        self.ensure_one()
        manager = self._manager()
        target = self._target().strip()
        if self.kind != 'all' and not target:
            raise UserError(self.env._("Say what to remove first."))
        last = self.env['cache.log'].search([], limit=1, order='id desc')
        manager._remove(self.kind, target)
        self.log_id = self.env['cache.log'].search(
            [('id', '>', last.id or 0), ('create_uid', '=', self.env.uid)], limit=1, order='id desc'
        )
        return self._show()

    def action_again(self):
        """Another one (button)."""
        self.ensure_one()
        self.log_id = False
        return self._show()

    def _show(self):
        action = self.env['ir.actions.act_window']._for_xml_id(
            'tiered_cache.cache_operation_action'
        )
        return {**action, 'res_id': self.id}
