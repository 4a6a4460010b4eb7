"""The changes of the model-based test; they run inside an Odoo process.

The one idea: a change is a function with two small numbers, what and how, and every kind of
change that the capture must see is among them: ORM, raw SQL, cascades, upserts, COPY, rights.

:data:`CHANGES` are made by ``change(world, n, v)`` in an open transaction, in superuser mode;
:data:`STATEMENTS` are SQL that another program may send as well.

What may go wrong: Odoo refuses a change (a bank account twice, a cycle of parents).  The
transaction is then rolled back, as a request would be.
"""

import io

from .model_data import MODULE, NEW, create, link, made, only, unlink

ARCHS = (
    '<list><field name="name"/></list>',
    '<list><field name="name"/><field name="bic"/></list>',
    '<list><field name="bic" optional="show"/><field name="state" column_invisible="1"/></list>',
)
DOMAINS = (
    "[('zip', '!=', 'secret')]",
    "[]",
    "[('color', '<', 2)]",
    "[('city', '!=', user.partner_id.city)]",
    "[('category_id', '!=', False)]",
    "[('company_id', 'in', company_ids + [False])]",
)


class World:
    """:param env: environment in superuser mode
    :param ids: ids by name
    """

    def __init__(self, env, ids):
        self.env = env
        self.ids = ids

    def at(self, name: str):
        """The record of a name."""
        return self.env[_model_of(name)].browse(self.ids[name])


_MODELS = {
    'company': 'res.company',
    'main': 'res.company',
    'group': 'res.groups',
    'person': 'res.partner',
    'partner': 'res.partner',
    'user': 'res.users',
    'rule': 'ir.rule',
    'category': 'res.partner.category',
    'state': 'res.country.state',
    'bank': 'res.bank',
    'account': 'res.partner.bank',
    'currency': 'res.currency',
    'rate': 'res.currency.rate',
    'sequence': 'ir.sequence',
    'view': 'ir.ui.view',
    'access': 'ir.model.access',
    'french': 'res.lang',
}


def _model_of(name: str) -> str:
    return _MODELS[name.rstrip('0123456789') if name != 'company2' else 'company']


# -- by the ORM ------------------------------------------------------------------------


def partner_name(world, n, v):
    world.at(f'partner{n}').name = f'Model {n} {v}'


def partner_values(world, n, v):
    values = [{'color': 1}, {'color': 8}, {'city': 'Brugge'}, {'zip': 'secret'}, {'zip': '8000'}]
    world.at(f'partner{n}').write(values[v % 5])


def partner_archive(world, n, v):
    world.at(f'partner{n}').active = bool(v % 2)


def partner_categories(world, n, v):
    chosen = [world.ids[f'category{bit}'] for bit in range(3) if v >> bit & 1]
    world.at(f'partner{n}').category_id = [only(chosen)]


def category_partners(world, n, v):
    command = link if v % 2 else unlink
    world.at(f'category{v % 3}').partner_ids = [command(world.ids[f'partner{n}'])]


def partner_parent(world, n, v):
    parents = [False, world.ids['partner0'], world.ids['partner1']]
    world.at(f'partner{2 + n % 4}').parent_id = parents[v % 3]


def partner_company(world, n, v):
    companies = [False, world.ids['main'], world.ids['company2']]
    world.at(f'partner{2 + n % 4}').company_id = companies[v % 3]


def partner_barcode(world, n, v):
    company = world.at('company2' if v % 2 else 'main')
    world.at(f'partner{n}').with_company(company).barcode = f'{v}'


def partner_new(world, n, v):
    world.env['res.partner'].create(
        {
            'name': f'Model new {v}',
            'ref': NEW,
            'color': v,
            'category_id': [link(world.ids[f'category{v % 3}'])],
            'bank_ids': [create({'acc_number': f'MODELNEW{n}{v}'})] if n % 2 else [],
        }
    )


def partner_unlink(world, n, v):
    made(world.env, 'res.partner')[: 1 + v % 2].unlink()


def bank_name(world, n, v):
    world.at(f'bank{n % 2}').name = f'Model bank {n} {v}'


def bank_archive(world, n, v):
    world.at(f'bank{n % 2}').active = bool(v % 2)


def account_new(world, n, v):
    world.env['res.partner.bank'].create(
        {'acc_number': f'MODELNEW{n}{v}', 'partner_id': world.ids[f'partner{n}']}
    )


def account_unlink(world, n, v):
    made(world.env, 'res.partner.bank')[:1].unlink()


def account_move(world, n, v):
    world.at(f'account{n % 2}').bank_id = v % 3 and world.ids[f'bank{v % 2}']


def category_name(world, n, v):
    lang = 'fr_FR' if v % 2 else 'en_US'
    world.at(f'category{n % 3}').with_context(lang=lang).name = f'Model {n} {v}'


def category_parent(world, n, v):
    parents = [False, world.ids['category0'], world.ids['category2']]
    world.at('category1').parent_id = parents[v % 3]


def category_new(world, n, v):
    parent = world.ids[f'category{n % 3}']
    partners = [link(world.ids[f'partner{n}'])]
    world.env['res.partner.category'].create(
        {'name': f'{NEW} {v}', 'parent_id': parent, 'partner_ids': partners}
    )


def category_unlink(world, n, v):
    made(world.env, 'res.partner.category')[:1].unlink()


def state_name(world, n, v):
    world.at(f'state{n % 2}').name = f'Model {n} {v}'


def state_new(world, n, v):
    world.env['res.country.state'].create(
        {'name': f'Model new {n}', 'code': f'MX{n}{v}', 'country_id': world.ids['belgium']}
    )


def state_unlink(world, n, v):
    made(world.env, 'res.country.state')[:1].unlink()


def rate_value(world, n, v):
    world.at(f'rate{n % 2}').rate = 1.5 + v


def rate_new(world, n, v):
    company = world.ids['company2' if v % 2 else 'main']
    world.env['res.currency.rate'].create(
        {
            'name': f'2021-0{n + 1}-01',
            'rate': 1.25 + v,
            'currency_id': world.ids['currency'],
            'company_id': company,
        }
    )


def rate_unlink(world, n, v):
    made(world.env, 'res.currency.rate')[:1].unlink()


def sequence_next(world, n, v):
    """Seen by everybody at once, committed or not, rolled back or not."""
    world.at('sequence').next_by_id()


def draft(world, n, v):
    """An onchange: a record without a row."""
    world.env['res.partner'].new({'name': 'Draft', 'parent_id': world.ids[f'partner{n}']})


# -- rights, companies, languages, views -----------------------------------------------


def group_member(world, n, v):
    command = link if v % 2 else unlink
    world.at(f'user{n % 2}').group_ids = [command(world.ids[f'group{(n + v) % 3}'])]


def group_implies(world, n, v):
    command = link if v % 2 else unlink
    world.at('group0').implied_ids = [command(world.ids[f'group{1 + n % 2}'])]


def rule_active(world, n, v):
    world.at(f'rule{n % 3}').active = bool(v % 2)


def rule_domain(world, n, v):
    world.at(f'rule{n % 3}').domain_force = DOMAINS[v % len(DOMAINS)]


def rule_groups(world, n, v):
    groups = [world.ids[f'group{bit}'] for bit in range(3) if v >> bit & 1]
    world.at(f'rule{n % 3}').groups = [only(groups)]


def person_zone(world, n, v):
    """What ``env.tz`` is where the context has none."""
    world.at(f'person{n % 2}').tz = ('Asia/Tokyo', 'Europe/Brussels', False)[v % 3]


def access(world, n, v):
    world.at('access').perm_read = bool(v % 2)


def user_company(world, n, v):
    world.at('user0').company_id = world.ids['company2' if v % 2 else 'main']


def user_companies(world, n, v):
    both = [world.ids['main'], world.ids['company2']]
    chosen = both if v % 2 else both[:1]
    world.at('user0').write({'company_ids': [only(chosen)], 'company_id': both[0]})


def user_lang(world, n, v):
    world.at(f'user{n % 2}').lang = 'fr_FR' if v % 2 else 'en_US'


def person_city(world, n, v):
    """What the domain of a record rule reads, by ``user.partner_id``."""
    world.at(f'person{n % 2}').city = ('Gent', 'Liège', 'Brugge')[v % 3]


def company_name(world, n, v):
    world.at('company2').name = f'Model company 2 {v}'


def parameter(world, n, v):
    world.env['ir.config_parameter'].set_param(MODULE, str(v))


def view_arch(world, n, v):
    world.at('view').arch_db = ARCHS[v % 3]


def lang_name(world, n, v):
    world.at('french').name = ('French / Français', 'Français')[v % 2]


# -- removals by cache.manager ---------------------------------------------------------


def remove_model(world, n, v):
    names = ('res.partner', 'res.bank', 'res.users', 'res.partner.category')
    world.env['cache.manager'].invalidate_model(names[n % 4])


def remove_pattern(world, n, v):
    patterns = ('v1:orm:res.partner:*', 'v1:orm:*:search_read:*', 'v1:orm:res.?ank:*')
    world.env['cache.manager'].invalidate_pattern(patterns[n % 3])


def remove_all(world, n, v):
    world.env['cache.manager'].invalidate_all()


ORM = (
    *(partner_name, partner_values, partner_archive, partner_categories, category_partners),
    *(partner_parent, partner_company, partner_barcode, partner_new, partner_unlink),
    *(bank_name, bank_archive, account_new, account_unlink, account_move),
    *(category_name, category_parent, category_new, category_unlink),
    *(state_name, state_new, state_unlink, rate_value, rate_new, rate_unlink, draft),
    sequence_next,
)
RIGHTS = (
    *(group_member, group_implies, rule_active, rule_domain, rule_groups, access),
    *(user_company, user_companies, user_lang, person_city, person_zone, company_name),
    *(parameter, view_arch, lang_name),
)
REMOVALS = (remove_model, remove_pattern, remove_all)
CHANGES = {change.__name__: change for change in (*ORM, *RIGHTS, *REMOVALS)}


# -- raw SQL ---------------------------------------------------------------------------

SIGNAL = "INSERT INTO orm_signaling_default DEFAULT VALUES"

STATEMENTS = {
    'partner update': "UPDATE res_partner SET name = %(text)s, complete_name = %(text)s"
    " WHERE id = %(partner)s",
    'partner delete, cascades': "DELETE FROM res_partner WHERE ref = 'model new'",
    'no row': "UPDATE res_partner SET name = 'none' WHERE id = -1",
    'category link, upsert': "INSERT INTO res_partner_res_partner_category_rel"
    " (partner_id, category_id) VALUES (%(partner)s, %(category)s) ON CONFLICT DO NOTHING",
    'category unlink': "DELETE FROM res_partner_res_partner_category_rel"
    " WHERE partner_id = %(partner)s AND category_id = %(category)s",
    'category delete, cascades': "DELETE FROM res_partner_category"
    " WHERE name->>'en_US' LIKE 'model new%%'",
    'state upsert': "INSERT INTO res_country_state (name, code, country_id)"
    " VALUES (%(text)s, 'MX' || %(v)s, %(belgium)s)"
    " ON CONFLICT (country_id, code) DO UPDATE SET name = excluded.name",
    'bank by common table expression': "WITH changed AS (UPDATE res_bank SET bic = %(text)s"
    " WHERE id = %(bank)s RETURNING id) SELECT count(*) FROM changed",
    'rate in a block': "DO $$ BEGIN UPDATE res_currency_rate SET rate = rate + 1"
    " WHERE name = '2020-01-01'; END $$",
    'rule with signal': "UPDATE ir_rule SET domain_force = %(domain)s WHERE id = %(rule)s;"
    " INSERT INTO orm_signaling_default DEFAULT VALUES",
    'group with signal': "DELETE FROM res_groups_users_rel"
    " WHERE uid = %(user)s AND gid = %(group)s;"
    " INSERT INTO orm_signaling_default DEFAULT VALUES;"
    " INSERT INTO orm_signaling_groups DEFAULT VALUES;"
    " INSERT INTO orm_signaling_stable DEFAULT VALUES",
    'sequence set': "SELECT setval('ir_sequence_' || to_char(%(sequence)s, 'FM000'), %(v)s + 1)",
    'signal': SIGNAL,
    'copy': "",
}


def run_statement(cursor, ids, name: str, n: int, v: int) -> None:
    """Send SQL by a psycopg2 cursor, or one of Odoo's."""
    if name == 'copy':
        rows = io.StringIO(f"Model copied {n}\tMX{n}{v}C\t{ids['belgium']}\n")
        raw = getattr(cursor, '_obj', cursor)
        raw.copy_expert("COPY res_country_state (name, code, country_id) FROM STDIN", rows)
        return
    cursor.execute(
        STATEMENTS[name],
        {
            'text': f'Model {n} sql {v}',
            'v': v,
            'domain': DOMAINS[v % 3],
            'partner': ids[f'partner{n}'],
            'category': ids[f'category{v % 3}'],
            'belgium': ids['belgium'],
            'sequence': ids['sequence'],
            'bank': ids[f'bank{n % 2}'],
            'rule': ids[f'rule{n % 3}'],
            'user': ids[f'user{n % 2}'],
            'group': ids[f'group{v % 3}'],
        },
    )
