"""``env['cache.event']``: how modules say that something has happened.

The one idea: a façade over :mod:`services.events`, where everything else about events is told.
Not for RPC: whoever may emit an event may empty the cache.

What may go wrong: a name that is none; the caller gets a ValueError, nothing is emitted.
"""

from odoo import api, models

from ..services import events


class CacheEvent(models.AbstractModel):
    _name = 'cache.event'
    _description = "Cache Event"

    @api.model
    @api.private
    def emit(self, name, records):
        """Tell rules in this transaction, and subscribers after its commit, that something has
        happened to records; nothing if it is rolled back.

        :param str name: in capitals, e.g. 'ORDER_SYNCED', or one of your own
        :param records: a recordset; those that were never saved are left out
        :raise ValueError: a name that is none
        """
        events.emit(name, records)
