"""Positions of Odoo's sequences: what a computation reads that belongs to no snapshot.

The one idea: a sequence of PostgreSQL stands outside of transactions, so no version that a
snapshot shows could tell that it went on.  What was read of it is a dependency of its own,
``sequence:ir_sequence_017`` with a digest of what was read for a version, and whoever may serve
the entry puts the same question again.  The answer is the one that the computation would get.

Forms show the next number: that of a product with lots, of a journal with checks.

What may go wrong: the question fails, since the sequence was dropped.  The computation would fail
the same way.  It is put only when everything else is current, so a sequence that was dropped with
its ``ir.sequence`` is not asked for.

Source: ``_predict_nextval`` in ``odoo/addons/base/models/ir_sequence.py``.
"""

from __future__ import annotations

import hashlib
import re

from odoo.tools import SQL

PREFIX = 'sequence:'
"""How such a dependency begins; no table has a colon in its name (:mod:`.catalogue`)."""

REFUSAL = 'sequence'
"""Why a result is not kept that has read one."""

_QUESTION = re.compile(
    rb"""\s*SELECT\ last_value,
         \s*\(SELECT\ increment_by\ FROM\ pg_sequences
            \ WHERE\ sequencename\ =\ '(ir_sequence_\d+(?:_\d+)?)'\),
         \s*is_called
         \s*FROM\ "(ir_sequence_\d+(?:_\d+)?)"\s*""",
    re.VERBOSE,
)


def asked(cr) -> str:
    """The sequence whose position the last statement of a cursor asked for, as Odoo does, or ''."""
    match = _QUESTION.fullmatch(cr._obj.query or b'')
    return match[1].decode() if match and match[1] == match[2] else ''


def answered(cr) -> int:
    """The version of what the last statement of a cursor answered, which is still to be fetched."""
    rows = cr._obj.fetchall()
    cr._obj.scroll(0, 'absolute')
    return _version(rows)


def current(cr, dependency: str) -> int:
    """Ask for the version of a dependency now."""
    name = dependency.removeprefix(PREFIX)
    cr.execute(
        SQL(
            "SELECT last_value,"
            " (SELECT increment_by FROM pg_sequences WHERE sequencename = %s), is_called FROM %s",
            name,
            SQL.identifier(name),
        )
    )
    return _version(cr.fetchall())


def stands(cr, dependency: str, version: int) -> bool:
    """Whether a sequence is there, and where it was; for people who look at an entry."""
    cr.execute("SELECT to_regclass(%s)", [dependency.removeprefix(PREFIX)])
    return cr.fetchone()[0] is not None and current(cr, dependency) == version


def of(entry) -> list[tuple[str, int]]:
    """What an entry depends on of this kind: names and versions."""
    return [dep[:2] for dep in entry.dependencies if dep[0].startswith(PREFIX)]


def moved(cr, positions) -> str:
    """The first of some positions that is not what it was, or ''.

    :param positions: names and versions
    """
    return next((name for name, version in positions if current(cr, name) != version), '')


def _version(rows) -> int:
    digest = hashlib.blake2b(repr(rows).encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'big') >> 2
