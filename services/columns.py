"""Which columns of an answer read a table.

The one idea: a field says what it is made of (its comodel, ``@api.depends``, ``related``), and a
call says which fields it wants.  So if one of them alone leads to a table, the answer could do
without that table but for this column.

What may go wrong: a compute method that reads more than it says.  No column is named then, or one
too few is seen; this is evidence for advice, never for what an answer depends on (see
:mod:`.recorder`, which looks at the SQL).
"""

from __future__ import annotations

_SLOT = '_tiered_cache_columns'
_ASKED = {
    'read': (0, 'fields'),
    'search_read': (1, 'fields'),
    'web_read': (0, 'specification'),
    'web_search_read': (1, 'specification'),
}
"""By method, where it is told which columns are wanted: position and name of the argument."""

MAX_DEPTH = 4
"""How far a field that is computed from computed fields is followed."""


def asked(method: str, args: tuple, kwargs: dict):
    """The columns that a call wants: names, or a specification as ``web_read`` takes it.

    :return: None where they are all wanted, or cannot be told
    """
    position, name = _ASKED.get(method, (0, ''))
    if not name:
        return None
    wanted = args[position] if len(args) > position else kwargs.get(name)
    return wanted if wanted and isinstance(wanted, list | tuple | dict) else None


def only_reader(records, wanted, relation: str) -> str:
    """The column that reads a table, if it is one of several and no other does; otherwise ''.

    :param wanted: from :func:`asked`
    """
    if not wanted or len(wanted) < 2 or relation in tables_of_model(records):
        return ''
    found = [name for name in wanted if relation in _tables_of_column(records, name, wanted)]
    return found[0] if len(found) == 1 else ''


def tables_of_model(records) -> frozenset[str]:
    """Its own table, and those of the models that it inherits from by delegation."""
    parents = (records.env[name]._table for name in records._inherits)
    return frozenset((records._table, *parents))


def _tables_of_column(records, name: str, wanted) -> frozenset[str]:
    field = records._fields.get(name)
    if field is None:
        return frozenset()
    found = tables_of_field(records, field)
    inner = wanted[name].get('fields') if isinstance(wanted, dict) and wanted[name] else None
    if inner and field.relational:
        comodel = records.env[field.comodel_name]
        found = found.union(*(_tables_of_column(comodel, deeper, inner) for deeper in inner))
    return found


def tables_of_field(records, field, depth: int = 0) -> frozenset[str]:
    """Tables besides its own that the value of a field is made of."""
    known = records.env.registry.__dict__.setdefault(_SLOT, {})
    if field not in known:
        found = set()
        if field.relational:
            comodel = records.env[field.comodel_name]
            found.add(comodel._table)
            if field.type == 'many2many' and field.store:
                found.add(field.relation)
            # a many2one is shown by its name
            if field.type == 'many2one' and depth < MAX_DEPTH:
                found |= tables_of_field(comodel, comodel._fields['display_name'], depth + 1)
        if not field.store or field.inherited:
            for path in records.env.registry.field_depends.get(field, ()):
                found |= _tables_of_path(records, path, depth)
        if depth:
            return frozenset(found)
        known[field] = frozenset(found)
    return known[field]


def _tables_of_path(records, path: str, depth: int) -> set[str]:
    found, model = set(), records
    for name in path.split('.'):
        field = model._fields.get(name)
        if field is None:
            break
        if depth < MAX_DEPTH and not field.store:
            found |= tables_of_field(model, field, depth + 1)
        if not field.relational:
            break
        model = records.env[field.comodel_name]
        found.add(model._table)
        if field.type == 'many2many' and field.store:
            found.add(field.relation)
    return found
