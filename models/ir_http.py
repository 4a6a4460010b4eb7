"""What the cache did, said in the header of a response; and what the web client has to know.

The one idea: ``X-Odoo-Cache: L1; age=12; saved=48ms`` or ``X-Odoo-Cache: miss; reason=stale``, for
people who look at single requests.  It is about the read that the client has called, or else about
the slowest one that the request made; ``reads`` and ``hits`` follow where there were several.

What may go wrong: somebody learns from it what is not theirs to know.  So it is sent to the cache
groups only, names no table and no other user's read, and says nothing about values that are kept
under a name.
"""

from odoo import models
from odoo.http import request

from ..services import trail
from .cache_manager import GROUP_ADMIN, GROUP_USER

HEADER = 'X-Odoo-Cache'


class IrHttp(models.AbstractModel):
    _inherit = 'ir.http'

    @classmethod
    def _auth_method_cache_optional(cls):
        """For ``auth='cache_optional'``: an API key if there is one, else nobody in particular."""
        if request.httprequest.headers.get('Authorization'):
            cls._auth_method_bearer()
        else:
            cls._auth_method_public()

    @classmethod
    def _dispatch(cls, endpoint):
        if not request.env.uid or not request.env.user.has_group(GROUP_USER):
            return super()._dispatch(endpoint)
        with trail.recorded() as lines:
            response = super()._dispatch(endpoint)
        params = request.params
        line = lines.telling((params.get('model'), params.get('method')))
        if line is not None:
            request.future_response.headers.set(HEADER, header_text(line, lines))
        return response

    def session_info(self):
        info = super().session_info()
        if self.env.user.has_group(GROUP_ADMIN):
            settings = self.env['res.config.settings']._tiered_cache_settings()
            info['tiered_cache'] = {'indicator': settings.indicator}
        return info


def header_text(line: trail.Line, lines: trail.Trail) -> str:
    """The value of the header.

    :param line: what it is about
    :param lines: all reads of the request
    """
    if line.tier:
        parts = [line.tier.upper(), f'age={line.age_s:.0f}', f'saved={line.saved_ms:.0f}ms']
    else:
        parts = ['miss', f'reason={line.reason}']
    if lines.reads > 1:
        parts += [f'reads={lines.reads}', f'hits={lines.hits}']
    return '; '.join(parts)
