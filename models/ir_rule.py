"""Domains of record rules are remembered by Odoo; a recorded read must know from when."""

from odoo import api, models

from ..services import reading
from ..services.engine import engine_for


class IrRule(models.Model):
    _inherit = 'ir.rule'

    @api.model
    def _compute_domain(self, model_name, mode='read'):
        domain = super()._compute_domain(model_name, mode)
        if reading.is_recording() and not self.env.su:
            remembered = getattr(super()._compute_domain, '__cache__', None)
            if remembered is not None:
                reading.check_rule(
                    engine_for(self.env.registry),
                    self,
                    model_name,
                    mode,
                    domain,
                    lambda: remembered.method(self, model_name, mode),
                )
        return domain
