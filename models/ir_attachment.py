"""A file that cannot be read for a moment: Odoo answers that it is empty."""

from odoo import api, models

from ..services import reading


class IrAttachment(models.Model):
    _inherit = 'ir.attachment'

    @api.model
    def _file_read(self, fname, size=None):
        content = super()._file_read(fname, size)
        if not content and size != 0:
            # an empty file is never written; it may be there again in the next moment
            reading.refuse('file')
        return content
