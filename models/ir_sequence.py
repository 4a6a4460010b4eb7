"""The time of day in prefixes of sequences."""

from odoo import models

from ..services import reading

TIMES = ('h24', 'h12', 'min', 'sec')
"""Legends that change within a day.  Source: ``ir.sequence``, ``_interpolation_dict``."""


class IrSequence(models.Model):
    _inherit = 'ir.sequence'

    def _get_prefix_suffix(self, date=None, date_range=None):
        if reading.is_recording():
            text = f'{self.prefix}{self.suffix}'
            if any(f'{legend})' in text for legend in TIMES):
                reading.note_clock()
        return super()._get_prefix_suffix(date, date_range)
