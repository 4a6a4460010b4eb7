"""What is kept of another Odoo, by name.

======================================  ======================================================
``remote:<name>:<model>:<id>``          one record, in variants for fields and context
``remote:<name>:<model>:search``        everything else that was read by calling the model
tag ``remote:<name>:<model>``           all of the model
tag ``remote:<name>``                   all of the remote
======================================  ======================================================

The one idea: what changed over there is removed by its name, and nothing else with it.

What may go wrong: a value shows more than its own record (the name of a linked one, a computed
field).  Such a part is as old as ``ttl_s`` allows.
"""

from __future__ import annotations

from .. import removal
from ..key_families import write_part

MAX_NAMES = 200
"""More records than that, changed at a time, are removed with their model."""


def remote_tag(remote: str) -> str:
    return f'remote:{remote}'


def model_tag(remote: str, model: str) -> str:
    return f'remote:{remote}:{write_part(model)}'


def remove_changes(engine, cr, remote: str, changes) -> None:
    """Remove what was read of records that have changed.

    :param changes: (model, ids or None for any of it)
    """
    names = []
    for model, ids in changes:
        if ids is None or len(ids) > MAX_NAMES:
            removal.remove_tag(engine, cr, model_tag(remote, model))
        else:
            base = f'v1:{model_tag(remote, model)}'
            names += [f'{base}:search', *(f'{base}:{id_}' for id_ in ids)]
    if names:
        removal.remove_keys(engine, cr, names, 0)
