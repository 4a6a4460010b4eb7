"""Installing and uninstalling: the journal is no Odoo model, so Odoo cannot do it."""
from .services import journal
from .services.engine import forget_engine


def pre_init_hook(env):
    journal.install(env.cr)


def uninstall_hook(env):
    forget_engine(env.registry)
    journal.uninstall(env.cr)
