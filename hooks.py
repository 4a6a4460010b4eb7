"""Uninstalling: the journal is no Odoo model, so Odoo does not remove it."""

import psycopg2

from odoo.exceptions import UserError

from .services import journal, rollup, sums
from .services.engine import forget_engine

LOCK_TIMEOUT_S = 10
"""Dropping a trigger waits for everybody who reads its table, and makes new readers wait."""


def uninstall_hook(env):
    forget_engine(env.registry)
    env.cr.execute("SELECT set_config('lock_timeout', %s, true)", [f'{LOCK_TIMEOUT_S}s'])
    try:
        journal.uninstall(env.cr)
    except (psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected) as error:
        raise UserError(
            env._(
                "Tiered Cache cannot be uninstalled now, because other transactions are using "
                "its tables. Try again when the server is less busy."
            )
        ) from error
    env.cr.execute("SELECT set_config('lock_timeout', '0', true)")
    rollup.uninstall(env.cr)
    sums.uninstall(env.cr)
    parameters = env['ir.config_parameter'].sudo()
    parameters.search([('key', '=like', 'tiered\\_cache.%')]).unlink()
