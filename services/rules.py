"""Record rules that read data: what Odoo's ``ir.rule._compute_domain`` remembers.

The one idea: Odoo keeps the domain of a rule in ``tools.ormcache``, also when the rule says
``user.commercial_partner_id.id`` and the partner has moved since; it is not told.  A result
computed under such a domain must not reach a worker that would compute the new one.  So while
a read is recorded, the tables behind every ``user.…`` of the rules become dependencies of its
result, and the domain is computed once more whenever these tables have changed since this
process last did, or the memory holds another object than it did then: if it is another
domain, the result is not stored.

``user.env.company`` and ``user.env.companies`` are followed as well, and so is ``mapped('…')``.

What may go wrong: a rule that reaches data in another way than by attributes of ``user``.  A
computed field or an unknown method on the way makes the result not stored.
"""

from __future__ import annotations

import re

_USER_PATH = re.compile(r'\buser((?:\.[A-Za-z_]\w*)+)')

_MAPPED = re.compile(r"""\.mapped\(\s*(['"])([\w.]+)\1\s*\)""")

_ENDS = frozenset(('id', 'ids', '_name'))
_ASK_GROUPS = frozenset(
    (
        'has_group',
        'has_groups',
        '_has_group',
        '_get_group_ids',
        '_is_admin',
        '_is_internal',
        '_is_portal',
        '_is_public',
        '_is_superuser',
        '_is_system',
    )
)
"""Methods of ``res.users`` that look at groups only, on which every entry depends anyway."""

_RULE_RELATIONS = ('ir_rule', 'rule_group_rel', 'res_groups_users_rel')


class RuleBook:
    """What one process knows of the domains that it remembers; hangs on the engine."""

    def __init__(self, orm_cache):
        self._orm_cache = orm_cache
        self._known: dict = {}

    def relations(self, rules) -> tuple[frozenset[str], str]:
        """The tables behind ``user.…`` in rules.

        :return: the tables, and the name of a field that may read anything, or ''
        """
        found: set[str] = set()
        for text in rules.mapped('domain_force'):
            text = _MAPPED.sub(r'.\2', text or '')
            for path in _USER_PATH.findall(text):
                opaque = self._follow(rules.env['res.users'], path.split('.')[1:], found)
                if opaque:
                    return frozenset(found), opaque
        return frozenset(found), ''

    def _follow(self, model, names, found: set[str]) -> str:
        if names[0] == 'env':
            if names[1:2] == ['ref']:
                found.add('ir_model_data')
                return ''
            if names[1:2] not in (['company'], ['companies']):
                return 'user.env'
            model, names = model.env['res.company'], names[2:]
        for name in names:
            if name in _ENDS:
                return ''
            field = model._fields.get(name)
            if field is None:
                return '' if name in _ASK_GROUPS else f'{model._name}.{name}()'
            relations, opaque = self._orm_cache.relations(field)
            found |= relations
            if opaque:
                return opaque
            if not field.comodel_name:
                return ''
            model = model.env[field.comodel_name]
        return ''

    def check(self, recording, versions, key, domain, get_rules, compute) -> None:
        """Make a domain that was just used part of a recording.

        :param versions: what the recorded transaction's snapshot shows, by relation
        :param key: names the domain in this process
        :param domain: what ``_compute_domain`` returned
        :param get_rules: returns the rules behind it
        :param compute: computes it without ``tools.ormcache``
        """
        relations, seen, known = self._known.get(key, (None, None, None))
        # another transaction may have put another domain into memory since it was looked at
        if relations is None or domain is not known or seen != _versions_of(relations, versions):
            relations, opaque = self.relations(get_rules())
            if opaque:
                recording.refuse(f'record rule: {opaque}')
                return
            relations |= frozenset(_RULE_RELATIONS)
            if repr(compute()) != repr(domain):
                recording.refuse('record rule: an older domain in memory')
                return
            if recording.refusal:
                return  # perhaps for a domain that is part of this one: nothing is known by it
            if len(self._known) > 20_000:
                self._known.clear()
            self._known[key] = (relations, _versions_of(relations, versions), domain)
        recording.relations |= relations


def _versions_of(relations, versions) -> tuple:
    return tuple(versions.get(relation) for relation in sorted(relations))
