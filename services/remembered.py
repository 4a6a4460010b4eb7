"""What environments remember of their user: companies, time zone, language.

The one idea: ``odoo.api.Environment`` looks these up once and keeps them for as long as it lives:
over a commit, over ``invalidate_all()``, and when ``tools.ormcache`` is emptied.  Whoever takes
such a value sends no SQL that could be recorded, and may go on with companies that the user has
lost.  So before a recording begins, what the environments of the transaction remember is looked up
once more, and if that is another value, nothing is kept.  The time zone alone is made of a table on
which not every entry depends, that of partners: it is forgotten, so that the recording sees it.

What may go wrong: a module that keeps values on environments or models by itself.

Source: ``Environment`` in ``odoo/orm/environments.py``.
"""

from __future__ import annotations

from odoo.api import Environment
from odoo.exceptions import UserError

NAMES = ('company', 'companies', 'lang')
"""Properties with a value from the database.  ``user`` is a record without values, and ``_lang``
follows from ``lang``."""


def is_outdated(transaction) -> bool:
    """Whether an environment remembers what it would not look up now.

    :param transaction: the ORM's, :class:`odoo.orm.environments.Transaction`
    :raise psycopg2.Error: looking it up failed
    """
    return any(
        not _is_current(env, name, vars(env)[name])
        for env in list(transaction.envs)
        for name in NAMES
        if name in vars(env)
    )


def _is_current(env, name: str, known) -> bool:
    try:
        return getattr(Environment, name).func(env) == known
    except UserError:  # the user has lost a company, the language is not active any more
        return False


def forget_zones(transaction) -> None:
    """Let environments look up the user's time zone again, where the context names none."""
    for env in transaction.envs:
        if not env.context.get('tz'):
            vars(env).pop('tz', None)


def forget(transaction) -> None:
    """Environments look everything up again when they are asked for it."""
    for env in transaction.envs:
        for name in (*NAMES, 'tz', '_lang'):
            vars(env).pop(name, None)
