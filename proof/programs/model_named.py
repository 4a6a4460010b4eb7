"""Named entries of the model-based test: what modules compute and keep by ``cache.manager``.

The one idea: a function of an environment.  Asked with the cache off it is called as it is; asked
with the cache on, ``get_or_compute()`` answers.  They read in the ways that modules do: records and
their fields, SQL, superuser mode, what an environment remembers, cached reads, another entry.
"""

from odoo.addons.tiered_cache.services import reading

OURS = [('ref', '=like', 'model%')]


def answer(env, name: str):
    """:param name: one of FUNCTIONS"""
    function = FUNCTIONS[name]
    if reading.is_computing_plainly():
        return function(env)
    return env['cache.manager'].get_or_compute(f'v1:model:{name}', function, ttl_s=3600)


def around(env):
    """What an environment remembers of its user, and what that is called."""
    return {
        'zone': str(env.tz),
        'lang': env.lang,
        'company': (env.company.id, env.company.name),
        'companies': env.companies.mapped('name'),
        'city': env.user.partner_id.city,
        'groups': sorted(env.user.all_group_ids.ids),
    }


def zone(env):
    """What an environment may remember already, and nothing else of its table."""
    return str(env.tz)


def records(env):
    """Records and their fields, without any method that is cached."""
    categories = env['res.partner.category'].search([('name', '=like', '%odel%')], order='id')
    return [
        (
            category.name,
            category.parent_id.display_name,
            sorted(partner.name or '' for partner in category.partner_ids),
            len(category.sudo().partner_ids),
        )
        for category in categories
    ]


def numbers(env):
    """SQL, a cached read, and the same in superuser mode."""
    env.cr.execute("SELECT count(*), sum(color) FROM res_partner WHERE ref LIKE 'model%'")
    return {
        'all': env.cr.fetchone(),
        'mine': env['res.partner'].search_count(OURS),
        'sudo': env['res.partner'].sudo().search_count(OURS),
        'banks': env['res.bank'].search_read([('name', '=like', '%odel%')], ['name'], order='id'),
    }


def nested(env):
    """Another entry inside."""
    return [answer(env, 'numbers'), answer(env, 'around'), env['res.bank'].search_count([])]


FUNCTIONS = {function.__name__: function for function in (around, zone, records, numbers, nested)}
