"""The records that the model-based test works on; runs inside an Odoo process.

The one idea: a fixed set of records with fixed values, found again by their external ids
(``tiered_cache_model.<name>``).  :func:`prepare` makes them, :func:`reset` deletes what operations
have made and writes back what they have changed, so that a script does the same each time.

In values, ``'@name'`` stands for the id of a record of this page, a list of such texts for the
whole content of a many2many field.

What may go wrong: a record that somebody deletes; operations only delete what they have made.
"""

MODULE = 'tiered_cache_model'
REF = 'model'
NEW = 'model new'
"""``ref`` of partners, and beginning of other names, that operations make."""

ALIASES = {
    'main': 'base.main_company',
    'admin': 'base.user_admin',
    'internal': 'base.group_user',
    'belgium': 'base.be',
    'partner_model': 'base.model_res_partner',
    'french': 'base.lang_fr',
    'access': 'base.access_res_bank_user',
    'company_rule': 'base.res_partner_rule',
}

RULE = {'model_id': '@partner_model', 'perm_read': True, 'groups': []}
LIST = '<list><field name="name"/></list>'

RECORDS = [
    ('company2', 'res.company', {'name': 'Model company 2'}),
    ('company3', 'res.company', {'name': 'Model company 3'}),
    ('group0', 'res.groups', {'name': 'Model group 0', 'implied_ids': []}),
    ('group1', 'res.groups', {'name': 'Model group 1', 'implied_ids': []}),
    ('group2', 'res.groups', {'name': 'Model group 2', 'implied_ids': []}),
    (
        'person0',
        'res.partner',
        {'name': 'Model user 0', 'ref': 'user', 'city': 'Gent', 'tz': False},
    ),
    (
        'person1',
        'res.partner',
        {'name': 'Model user 1', 'ref': 'user', 'city': 'Liège', 'tz': False},
    ),
    (
        'user0',
        'res.users',
        {
            'login': 'model0',
            'partner_id': '@person0',
            'group_ids': ['@internal', '@group0'],
            'company_ids': ['@main', '@company2', '@company3'],
            'company_id': '@main',
            'lang': 'en_US',
        },
    ),
    (
        'user1',
        'res.users',
        {
            'login': 'model1',
            'partner_id': '@person1',
            'group_ids': ['@internal', '@group1'],
            'company_ids': ['@company2'],
            'company_id': '@company2',
            'lang': 'en_US',
        },
    ),
    ('rule0', 'ir.rule', {**RULE, 'name': 'Model 0', 'domain_force': "[('zip', '!=', 'secret')]"}),
    (
        'rule1',
        'ir.rule',
        {
            **RULE,
            'name': 'Model 1',
            'domain_force': "[('color', '<', 5)]",
            'groups': ['@group1'],
        },
    ),
    (
        'rule2',
        'ir.rule',
        {
            **RULE,
            'name': 'Model 2',
            'domain_force': "[('city', '!=', user.partner_id.city)]",
            'groups': ['@group2'],
        },
    ),
    ('category0', 'res.partner.category', {'name': 'Model 0', 'color': 1, 'parent_id': False}),
    (
        'category1',
        'res.partner.category',
        {'name': 'Model 1', 'color': 2, 'parent_id': '@category0'},
    ),
    ('category2', 'res.partner.category', {'name': 'Model 2', 'color': 3, 'parent_id': False}),
    ('state0', 'res.country.state', {'name': 'Model 0', 'code': 'MDL0', 'country_id': '@belgium'}),
    ('state1', 'res.country.state', {'name': 'Model 1', 'code': 'MDL1', 'country_id': '@belgium'}),
    ('bank0', 'res.bank', {'name': 'Model bank 0', 'bic': 'MODEL0', 'active': True}),
    ('bank1', 'res.bank', {'name': 'Model bank 1', 'bic': 'MODEL1', 'active': True}),
    ('currency', 'res.currency', {'name': 'XMD', 'symbol': 'm', 'active': True}),
    (
        'rate0',
        'res.currency.rate',
        {'name': '2020-01-01', 'rate': 2.0, 'currency_id': '@currency', 'company_id': '@main'},
    ),
    (
        'rate1',
        'res.currency.rate',
        {'name': '2020-01-01', 'rate': 3.0, 'currency_id': '@currency', 'company_id': '@company2'},
    ),
    (
        'sequence',
        'ir.sequence',
        {'name': 'Model', 'code': 'model', 'number_next_actual': 1},
    ),
    (
        'view',
        'ir.ui.view',
        {'name': 'model', 'model': 'res.bank', 'priority': 99, 'type': 'list', 'arch_db': LIST},
    ),
]

PARTNER = {
    'ref': REF,
    'active': True,
    'color': 0,
    'city': 'Gent',
    'zip': '9000',
    'type': 'contact',
    'parent_id': False,
    'company_id': False,
    'state_id': False,
    'category_id': [],
}

for _number, _values in enumerate(
    (
        {'is_company': True, 'category_id': ['@category0'], 'state_id': '@state0'},
        {'is_company': True, 'color': 2, 'company_id': '@main'},
        {'parent_id': '@partner0', 'type': 'other', 'category_id': ['@category1', '@category2']},
        {'company_id': '@company2', 'color': 7},
        {'zip': 'secret', 'city': 'Liège'},
        {'parent_id': '@partner1', 'type': 'other', 'state_id': '@state1', 'company_id': '@main'},
    )
):
    RECORDS.append(
        (f'partner{_number}', 'res.partner', {**PARTNER, 'name': f'Model {_number}', **_values})
    )

for _number in (0, 1):
    RECORDS.append(
        (
            f'account{_number}',
            'res.partner.bank',
            {
                'acc_number': f'MODEL{_number}',
                'partner_id': f'@partner{_number}',
                'bank_id': f'@bank{_number}',
            },
        )
    )

EXISTING = [
    ('french', 'res.lang', {'active': True, 'name': 'French / Français'}),
    ('company_rule', 'ir.rule', {'active': True}),
    ('access', 'ir.model.access', {'perm_read': True}),
]
"""Records of Odoo itself that operations change."""

MADE = (
    ('res.partner.bank', 'acc_number', 'MODELNEW%'),
    ('res.partner', 'ref', NEW),
    ('res.partner.category', 'name', f'{NEW}%'),
    ('res.country.state', 'code', 'MX%'),
    ('res.currency.rate', 'name', '2021-%'),
)
"""What operations make: model, field, pattern; in the order in which it is deleted."""


# Commands of many2many fields, as ``odoo.Command`` makes them; this module is also read by the
# driving process, in which Odoo is not loaded.


def link(id_):
    return (4, id_, 0)


def unlink(id_):
    return (3, id_, 0)


def only(ids):
    return (6, 0, list(ids))


def create(values):
    return (0, 0, values)


def ids_of(env) -> dict[str, int]:
    """Ids by name; those of records that exist."""
    env.cr.execute("SELECT name, res_id FROM ir_model_data WHERE module = %s", [MODULE])
    ids = dict(env.cr.fetchall())
    ids.update((name, env.ref(xmlid).id) for name, xmlid in ALIASES.items())
    return ids


def prepare(env) -> None:
    """Make the records that are missing."""
    ids = ids_of(env)
    for name, model, values in RECORDS:
        if name not in ids:
            record = env[model].create(_odoo_values(ids, env[model], values))
            ids[name] = record.id
            env['ir.model.data'].create(
                {'module': MODULE, 'name': name, 'model': model, 'res_id': record.id}
            )
    env['res.users'].browse(ids['admin']).company_ids = [link(ids['company2'])]
    reset(env)


def _odoo_values(ids, model, values) -> dict:
    odoo_values = {}
    for name, value in values.items():
        value = resolve(ids, value)
        if model._fields[name].type == 'many2many':
            value = [only(value)]
        odoo_values[name] = value
    return odoo_values


def resolve(ids, value):
    """A value with ids in place of names."""
    if isinstance(value, list | tuple):
        return type(value)(resolve(ids, part) for part in value)
    if isinstance(value, dict):
        return {key: resolve(ids, part) for key, part in value.items()}
    if isinstance(value, str) and value.startswith('@'):
        return ids[value[1:]]
    return value


def made(env, model: str):
    """Records of a model that operations have made, the oldest first."""
    field, pattern = next((f, p) for m, f, p in MADE if m == model)
    column = f'{field}->>\'en_US\'' if env[model]._fields[field].translate else f'{field}::text'
    env.cr.execute(  # pylint: disable=sql-injection  # constants of this module
        f"SELECT id FROM {env[model]._table} WHERE {column} LIKE %s ORDER BY id", [pattern]
    )
    return env[model].browse(id_ for (id_,) in env.cr.fetchall())


def reset(env) -> None:
    """Delete what operations have made, and write back what they have changed."""
    ids = ids_of(env)
    for model, *_ in MADE:
        made(env, model).unlink()
    env.flush_all()
    env.cr.execute(
        "UPDATE res_partner_category SET name = jsonb_build_object('en_US', name->>'en_US')"
        " WHERE name->>'en_US' LIKE 'Model%' AND name->>'fr_FR' IS NOT NULL"
    )
    env.cr.execute("UPDATE res_partner SET barcode = NULL WHERE barcode IS NOT NULL")
    env.cr.execute("DELETE FROM ir_config_parameter WHERE key = %s", [MODULE])
    if env.cr.rowcount:
        env.registry.clear_all_caches()
    env.invalidate_all()
    for _attempt in range(3):  # Odoo copies some values from parents to children and back
        if not any([_write_back(env, ids, *entry) for entry in EXISTING + RECORDS]):
            return


def _write_back(env, ids, name, model, values) -> bool:
    record = env[model].browse(ids[name])
    wrong = {}
    for field, value in values.items():
        value, found = resolve(ids, value), record[field]
        if isinstance(found, type(env[model])) or hasattr(found, 'ids'):
            found = sorted(found.ids) if isinstance(value, list) else found.id
        if hasattr(found, 'isoformat'):
            found = found.isoformat()
        if found != (sorted(value) if isinstance(value, list) else value):
            wrong[field] = [only(value)] if isinstance(value, list) else value
    if wrong:
        record.write(wrong)
    return bool(wrong)


def remove(env) -> None:
    """Delete all of it; what others hold on to is archived."""
    reset(env)
    ids = ids_of(env)
    env['res.users'].browse(ids['admin']).company_ids = [unlink(ids['company2'])]
    for name, model, _values in reversed(RECORDS):
        record = env[model].browse(ids[name])
        try:
            with env.cr.savepoint():
                record.unlink()
        except Exception:
            record.action_archive()
    env['res.lang'].browse(ids['french']).active = False
    env['ir.model.data'].search([('module', '=', MODULE)]).unlink()
