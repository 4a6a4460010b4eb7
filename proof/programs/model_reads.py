"""The reads of the model-based test, and who asks for them.

The one idea: few different reads, in pages that belong together, each with an order that
PostgreSQL has to decide, so that they repeat often and have one right answer.

A read is ``(model, method, ids or None, arguments, keyword arguments, context)``; ``'@name'``
stands for an id, see ``model_data``.  ``('cache.manager', 'named', None, [NAME], {})`` asks for an
entry of ``model_named``.
"""

OURS = [('ref', '=like', 'model%')]
ACCOUNTS = [
    ('acc_number', 'ilike', 'model')
]  # no pattern: Odoo takes all but letters and digits out
AT_BANK = [('bank_ids.bank_id', '=', '@bank0')]
NAMED = {'fields': {'display_name': {}}}

PAGES = {
    'counts': [
        ('res.partner', 'search_count', None, [OURS], {}),
        ('res.partner', 'search_count', None, [OURS], {}, {'active_test': False}),
        ('res.partner', 'search_count', None, [[('category_id', 'child_of', '@category0')]], {}),
        ('res.partner', 'search_count', None, [[('parent_id.city', '=', 'Gent')]], {}),
        ('res.partner', 'search_count', None, [[*OURS, ('company_id', '=', '@company2')]], {}),
        ('res.partner', 'search_count', None, [[*OURS, ('bank_ids.bank_id', '=', '@bank0')]], {}),
        ('res.users', 'search_count', None, [[('all_group_ids', 'in', '@group1')]], {}),
        ('res.country.state', 'search_count', None, [[('country_id', '=', '@belgium')]], {}),
    ],
    'partners': [
        (
            'res.partner',
            'search_read',
            None,
            [OURS, ['name', 'ref', 'city', 'color', 'parent_id', 'category_id', 'company_id']],
            {'order': 'id'},
        ),
        (
            'res.partner',
            'web_search_read',
            None,
            [
                OURS,
                {
                    'complete_name': {},
                    'parent_id': {'fields': {'display_name': {}, 'city': {}}},
                    'category_id': {'fields': {'display_name': {}, 'color': {}}},
                    'bank_ids': {'fields': {'acc_number': {}, 'bank_id': NAMED}},
                    'company_id': {'fields': {'name': {}}},
                    'commercial_partner_id': NAMED,
                },
            ],
            {'order': 'complete_name, id'},
        ),
        ('res.partner', 'name_search', None, ['model', OURS], {}),
    ],
    'groups of partners': [
        (
            'res.partner',
            'formatted_read_group',
            None,
            [OURS, ['company_id'], ['__count', 'color:sum']],
            {},
        ),
        ('res.partner', 'read_group', None, [OURS, ['color'], ['parent_id']], {}),
        (
            'res.partner',
            'formatted_read_grouping_sets',
            None,
            [OURS, [['company_id'], ['state_id', 'type'], []], ['__count']],
            {},
        ),
        (
            'res.partner',
            'read_progress_bar',
            None,
            [OURS, 'state_id', {'field': 'type', 'colors': {'contact': 'info', 'other': 'muted'}}],
            {},
        ),
        (
            'res.partner',
            'web_read_group',
            None,
            [OURS, ['category_id'], ['__count', 'color:max']],
            {},
        ),
        (
            'res.partner',
            'search_panel_select_multi_range',
            None,
            ['category_id'],
            {'enable_counters': True, 'search_domain': OURS},
        ),
    ],
    'partner forms': [
        ('res.partner', 'read', ['@partner0', '@partner2'], [['name', 'city', 'child_ids']], {}),
        ('res.partner', 'read', ['@partner1'], [['barcode', 'commercial_partner_id', 'lang']], {}),
        ('res.partner', 'read', ['@partner3'], [['name', 'color']], {}),
        ('res.partner', 'read', ['@partner4'], [['name', 'zip']], {}),
        (
            'res.partner',
            'web_read',
            ['@partner2'],
            [
                {
                    'name': {},
                    'barcode': {},
                    'parent_id': {'fields': {'name': {}, 'barcode': {}}},
                    'category_id': {'fields': {'name': {}, 'partner_ids': {}}},
                    'state_id': {'fields': {'display_name': {}, 'country_id': NAMED}},
                    'user_ids': {'fields': {'login': {}}},
                }
            ],
            {},
        ),
        ('res.partner', 'web_read', ['@person0'], [{'city': {}, 'user_ids': {}, 'lang': {}}], {}),
    ],
    'categories': [
        (
            'res.partner.category',
            'search_read',
            None,
            [[('name', 'ilike', 'model')], ['display_name', 'child_ids', 'partner_ids', 'color']],
            {'order': 'id'},
        ),
        ('res.partner.category', 'name_search', None, ['model'], {}),
        ('res.partner.category', 'search_panel_select_range', None, ['parent_id'], {}),
        (
            'res.partner.category',
            'web_name_search',
            None,
            ['model', {'display_name': {}, 'parent_id': NAMED}],
            {},
        ),
        ('res.partner.category', 'read', ['@category1'], [['name', 'display_name']], {}),
        (
            'res.partner.category',
            'formatted_read_group',
            None,
            [[('name', 'ilike', 'model')], ['parent_id'], ['__count']],
            {},
        ),
    ],
    'banks': [
        ('res.bank', 'search_read', None, [[], ['name', 'bic', 'active']], {'order': 'id'}),
        (
            'res.partner.bank',
            'web_search_read',
            None,
            [
                ACCOUNTS,
                {'acc_number': {}, 'bank_id': NAMED, 'partner_id': NAMED, 'company_id': NAMED},
            ],
            {'order': 'id'},
        ),
        ('res.partner.bank', 'search_count', None, [ACCOUNTS], {}),
        ('res.bank', 'name_search', None, ['Model'], {}),
        (
            'res.partner.bank',
            'formatted_read_group',
            None,
            [ACCOUNTS, ['bank_id'], ['__count']],
            {},
        ),
        ('res.bank', 'read', ['@bank0'], [['name', 'display_name']], {}),
        # the second asks the first, and alone reads no table of banks
        ('res.partner', 'name_search', None, ['model', AT_BANK, 'ilike', 100], {}),
        ('res.partner', 'web_name_search', None, ['model', {'display_name': {}}, AT_BANK], {}),
    ],
    # stored fields alone: a computed one in memory would keep what comes next from being stored
    'columns': [
        ('res.bank', 'search_read', None, [[], ['name', 'bic']], {'order': 'id'}),
    ],
    'members': [
        (
            'res.partner.category',
            'search_read',
            None,
            [[('name', 'ilike', 'model')], ['name', 'partner_ids']],
            {'order': 'id'},
        ),
        ('res.partner', 'search_read', None, [OURS, ['ref', 'child_ids']], {'order': 'id'}),
    ],
    'users': [
        (
            'res.users',
            'search_read',
            None,
            [[('login', '=like', 'model%')], ['login', 'name', 'company_ids', 'lang', 'group_ids']],
            {'order': 'id'},
        ),
        ('res.users', 'name_search', None, ['Model'], {}),
        ('res.company', 'search_read', None, [[], ['name', 'partner_id']], {'order': 'id'}),
        (
            'res.groups',
            'web_search_read',
            None,
            [
                [('name', '=like', 'Model%')],
                {'full_name': {}, 'implied_ids': NAMED, 'user_ids': {'fields': {'login': {}}}},
            ],
            {'order': 'id'},
        ),
        (
            'ir.rule',
            'search_read',
            None,
            [[('name', '=like', 'Model%')], ['name', 'domain_force', 'groups', 'active']],
            {'order': 'id'},
            {'active_test': False},
        ),
        ('res.users', 'read', ['@user0'], [['name', 'company_id', 'partner_id']], {}),
    ],
    'money and places': [
        (
            'res.currency',
            'search_read',
            None,
            [[('name', '=', 'XMD')], ['name', 'rate', 'inverse_rate', 'rate_ids']],
            {},
        ),
        (
            'res.currency.rate',
            'search_read',
            None,
            [[('currency_id', '=', '@currency')], ['name', 'rate', 'company_id', 'company_rate']],
            {'order': 'id'},
        ),
        (
            'res.currency.rate',
            'formatted_read_group',
            None,
            [[('currency_id', '=', '@currency')], ['name:month'], ['__count']],
            {},
        ),
        (
            'res.country.state',
            'search_read',
            None,
            [[('country_id', '=', '@belgium')], ['name', 'code', 'display_name']],
            {'order': 'id'},
        ),
        ('res.country.state', 'name_search', None, ['Model'], {}),
        (
            'ir.sequence',
            'search_read',
            None,
            [[('code', '=', 'model')], ['name', 'number_next_actual']],
            {},
        ),
        (
            'res.country',
            'web_read',
            ['@belgium'],
            [{'name': {}, 'state_ids': {'fields': {'code': {}, 'name': {}}}}],
            {},
        ),
    ],
    'named entries': [
        ('cache.manager', 'named', None, ['around'], {}),
        ('cache.manager', 'named', None, ['zone'], {}),
        ('cache.manager', 'named', None, ['records'], {}),
        ('cache.manager', 'named', None, ['numbers'], {}),
        ('cache.manager', 'named', None, ['nested'], {}),
    ],
    'shapes': [
        ('res.bank', 'fields_get', None, [['name', 'bic', 'state']], {}),
        ('res.bank', 'get_views', None, [[['@view', 'list']]], {}),
        ('res.lang', 'search_read', None, [[], ['name', 'code']], {'order': 'id'}),
        (
            'ir.config_parameter',
            'search_read',
            None,
            [[('key', '=', 'tiered_cache_model')], ['key', 'value']],
            {},
        ),
        ('res.partner', 'fields_get', None, [['lang', 'state_id'], ['string', 'selection']], {}),
    ],
}

SEATS = [
    ('admin', {'lang': 'en_US', 'allowed_company_ids': ['@main']}),
    ('user0', {'lang': 'en_US', 'allowed_company_ids': ['@main']}),
    ('user1', {'lang': 'en_US', 'allowed_company_ids': ['@company2']}),
    ('user0', {'lang': 'en_US', 'allowed_company_ids': ['@company2', '@main']}),
    ('user0', {'lang': 'fr_FR', 'allowed_company_ids': ['@main', '@company2'], 'tz': 'Asia/Tokyo'}),
    ('admin', {'lang': 'fr_FR', 'allowed_company_ids': ['@main', '@company2']}),
    ('root sudo', {'lang': 'en_US', 'allowed_company_ids': ['@main']}),
    ('user0', {'lang': 'en_US', 'allowed_company_ids': ['@company2']}),
    ('user0 sudo', {'lang': 'en_US', 'allowed_company_ids': ['@company2']}),
    # as others, but for the language, or the order of companies
    ('user0', {'lang': 'fr_FR', 'allowed_company_ids': ['@main']}),
    ('user0', {'lang': 'en_US', 'allowed_company_ids': ['@main', '@company2', '@company3']}),
    ('user0', {'lang': 'en_US', 'allowed_company_ids': ['@company2', '@main', '@company3']}),
]
"""User, in superuser mode or not, and context."""

OF_MANY_TABLES = (0, 5)
"""Seats that read what the others read, too."""
