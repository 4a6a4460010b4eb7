"""Databases: clone, drop, remember; runs inside ``odoo shell`` without a database.

The one idea: ask PostgreSQL with Odoo's own settings, so that a benchmark works wherever
``scripts/odoo`` does.  What a database was made from is kept as its comment.
"""

import os
import shutil
import time
from contextlib import closing

from odoo.sql_db import db_connect
from odoo.tools import SQL, config

from bench.dropping import drop_database


def _execute(query):
    with closing(db_connect("postgres").cursor()) as cr:
        # CREATE and DROP DATABASE refuse to run inside a transaction.
        cr._cnx.autocommit = True
        cr.execute(query)
        return cr.fetchall() if cr.description else []


def databases():
    """:return dict: comment (or None) by name of every database."""
    query = SQL("SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database")
    return dict(_execute(query))


def clone(source, target, comment):
    """Replace ``target`` by a copy of ``source``, files included.

    :param str comment: what :func:`databases` shall say about it
    """
    drop(target)
    names = SQL.identifier(target), SQL.identifier(source)
    _execute(SQL("CREATE DATABASE %s ENCODING 'UTF8' TEMPLATE %s", *names))
    files = config.filestore(source)
    if os.path.isdir(files):
        # Attachments never change in place: links are enough and cost no space.
        shutil.copytree(files, config.filestore(target), copy_function=_link)
    describe(target, comment)


def _link(source, target):
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def describe(name, comment):
    """Keep ``comment`` with the database."""
    _execute(SQL("COMMENT ON DATABASE %s IS %s", SQL.identifier(name), comment))


def rename(source, target):
    """Give a finished database its name."""
    names = SQL.identifier(source), SQL.identifier(target)
    _execute(SQL("ALTER DATABASE %s RENAME TO %s", *names))
    if os.path.isdir(config.filestore(source)):
        shutil.move(config.filestore(source), config.filestore(target))


def drop(name):
    """Drop a database with its files, if it exists."""
    drop_database(_execute, name)
    shutil.rmtree(config.filestore(name), ignore_errors=True)


def renew_identity(env):
    """Give a copy its own uuid, so that it shares nothing kept outside with its source."""
    env["ir.config_parameter"].init(force=True)
    env.cr.commit()


def analyze(env):
    """Fresh statistics and visibility maps, so that both databases plan alike."""
    env.cr.commit()
    env.cr._cnx.autocommit = True
    env.cr.execute("VACUUM ANALYZE")
    env.cr._cnx.autocommit = False


def is_installed(env):
    """:return bool: whether the addon is in this database."""
    module = env["ir.module.module"].search([("name", "=", "tiered_cache")])
    return module.state == "installed"


def execute(database, statement):
    """Run and commit a statement.

    :return list | None: its rows
    """
    with closing(db_connect(database).cursor()) as cr:
        cr.execute(statement)
        rows = cr.fetchall() if cr.description else None
        cr.commit()
        return rows


def wait_for(database, query, timeout_s):
    """Ask until the answer is true.

    :return float: seconds that it took
    :raise TimeoutError: it never was
    """
    started = time.monotonic()
    while time.monotonic() - started < timeout_s:
        ((answer,),) = execute(database, query)
        if answer:
            return time.monotonic() - started
        time.sleep(0.5)
    raise TimeoutError(query)
