"""Uninstalling: the journal is no Odoo model, so Odoo does not remove it."""
from .services import journal
from .services.engine import forget_engine


def uninstall_hook(env):
    forget_engine(env.registry)
    journal.uninstall(env.cr)
    parameters = env['ir.config_parameter'].sudo()
    parameters.search([('key', '=like', 'tiered\\_cache.%')]).unlink()
