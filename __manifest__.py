{
    'name': "Tiered Cache",
    'summary': "Exact cached reads from memory, Redis and the database",
    'version': '19.0.1.0.0',
    'category': 'Technical',
    'author': "Tiered Cache contributors",
    'license': 'LGPL-3',
    'depends': ['base', 'web'],
    'external_dependencies': {'python': ['msgpack', 'cachetools']},
    'data': [
        'security/tiered_cache_groups.xml',
        'security/ir.model.access.csv',
        'security/tiered_cache_rules.xml',
        'data/ir_cron_data.xml',
        'views/cache_entry_views.xml',
        'views/cache_metric_views.xml',
        'views/cache_rule_views.xml',
        'views/res_config_settings_views.xml',
        'views/tiered_cache_menus.xml',
    ],
    'assets': {
        'web.assets_backend': [
            'tiered_cache/static/src/**/*',
        ],
    },
    'application': True,
    'post_load': 'post_load',
    'uninstall_hook': 'uninstall_hook',
}
