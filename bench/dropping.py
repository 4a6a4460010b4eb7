"""Drop a database, whoever is connected to it; with any connection of psycopg2.

What may go wrong: FORCE is refused to all but superusers while autovacuum works there.  Without
FORCE, PostgreSQL itself ends autovacuum and waits.
"""

import psycopg2.errors


def drop_database(execute, name):
    """Drop a database, if it exists; files are not touched.

    :param execute: runs an SQL text, outside a transaction
    """
    statement = f'DROP DATABASE IF EXISTS "{name}"'
    try:
        execute(f"{statement} WITH (FORCE)")
    except psycopg2.errors.InsufficientPrivilege:
        execute(statement)
