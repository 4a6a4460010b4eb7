"""Everything that this addon lets be called over RPC, called by every kind of user.

The one idea: the methods are enumerated as Odoo's own dispatcher sees them, those that every
model inherits included, and looked up in the tables below, which say who gets an answer.  A public
method that is in no table fails the test, so that none is opened by oversight.

What may go wrong: a new version of Odoo brings a method for all models.  Then somebody has to look
at what it does with the models of the cache, and add it.
"""

import warnings
from unittest.mock import patch

from odoo.exceptions import AccessError
from odoo.service.model import call_kw, get_public_method
from odoo.tests import TransactionCase, new_test_user, tagged
from odoo.tools import SQL, mute_logger

from ..models import cache_remote
from ..services import calls, redis_probe

OWN = 'odoo.addons.tiered_cache.'
CORE = ('odoo.orm.', 'odoo.models', 'odoo.addons.base.', 'odoo.addons.web.', OWN)

GROUPS = {
    'portal': 'base.group_portal',
    'internal': 'base.group_user',
    'user': 'tiered_cache.group_cache_user',
    'admin': 'tiered_cache.group_cache_admin',
    'system': 'base.group_system',
}
ALL = ('public', *GROUPS)
READERS = ('user', 'admin')
ADMINS = ('admin',)
SYSTEM = ('system',)
KEEPERS = ('admin', 'system')
NOBODY = ()

FIELD = {
    'cache.change': 'kind',
    'cache.call': 'model',
    'cache.entry': 'model',
    'cache.guard.failure': 'relation',
    'cache.log': 'summary',
    'cache.operation': 'kind',
    'cache.relation': 'name',
    'cache.metric': 'model',
    'cache.namespace': 'note',
    'cache.event.rule': 'note',
    'cache.remote': 'version',
    'cache.remote.follow': 'model',
    'cache.rule': 'note',
    'cache.schedule': 'note',
    'cache.warmup': 'note',
    'cache.warmup.line': 'name',
    'cache.worker': 'host',
}
GROUPED = {
    'cache.change': 'kind',
    'cache.call': 'kind',
    'cache.entry': 'model',
    'cache.guard.failure': 'relation',
    'cache.log': 'action',
    'cache.operation': 'kind',
    'cache.relation': 'state',
    'cache.remote': 'state',
    'cache.remote.follow': 'model',
    'cache.metric': 'model',
    'cache.namespace': 'consistency',
    'cache.event.rule': 'event',
    'cache.rule': 'consistency',
    'cache.schedule': 'kind',
    'cache.warmup': 'kind',
    'cache.warmup.line': 'outcome',
    'cache.worker': 'kind',
}
VALUES = {
    'cache.change': {'relation': 'x'},
    'cache.call': {'hits': 5},
    'cache.entry': {'hits': 5},
    'cache.guard.failure': {'error': 'x'},
    'cache.log': {'summary': "changed"},
    'cache.operation': {'kind': 'all'},
    'cache.relation': {'name': 'x'},
    'cache.event.rule': {'note': "changed"},
    'cache.metric': {'count': 5},
    'cache.namespace': {'note': "changed"},
    'cache.remote': {'database': "changed"},
    'cache.remote.follow': {'model': "changed"},
    'cache.rule': {'note': "changed"},
    'cache.schedule': {'note': "changed"},
    'cache.warmup': {'note': "changed"},
    'cache.warmup.line': {'sequence': 5},
    'cache.worker': {'host': "changed"},
}
NEW = {
    'cache.change': {'relation': 'x'},
    'cache.call': {'model': 'res.bank'},
    'cache.entry': {'key': 'v1:new'},
    'cache.guard.failure': {'relation': 'x'},
    'cache.log': {'action': 'remove', 'summary': "forged"},
    'cache.operation': {'kind': 'all'},
    'cache.relation': {'name': 'x'},
    'cache.event.rule': {'event': 'res.bank.updated', 'names': 'bank:{id}'},
    'cache.metric': {'model': 'res.bank', 'outcome': 'l1'},
    'cache.namespace': {'name': 'surface:new'},
    'cache.remote': {'name': 'surface-new', 'url': 'https://erp.example.com'},
    'cache.remote.follow': {'model': 'new'},
    'cache.rule': {'model': 'res.bank'},
    'cache.schedule': {'kind': 'all'},
    'cache.warmup': {'name': "new"},
    'cache.warmup.line': {'name': "new"},
    'cache.worker': {'token': 'new', 'host': 'new', 'pid': 1, 'kind': 'http'},
}

# What every model has: who gets an answer.  SHAPE tells what the program is like, no record.
SHAPE, READ, CREATE, WRITE, DELETE, NEVER = 'shape', 'read', 'create', 'write', 'delete', 'never'
RIGHTS = {
    'cache.change': {SHAPE: ALL, READ: ADMINS},
    'cache.guard.failure': {SHAPE: ALL, READ: ADMINS},
    'cache.log': {SHAPE: ALL, READ: ADMINS},
    'cache.operation': {SHAPE: ALL, READ: ADMINS, CREATE: ADMINS, WRITE: ADMINS, DELETE: ADMINS},
    'cache.relation': {SHAPE: ALL, READ: ADMINS},
    'cache.call': {SHAPE: ALL, READ: ADMINS, DELETE: ADMINS},
    'cache.entry': {SHAPE: ALL, READ: READERS, DELETE: ADMINS},
    'cache.event': {SHAPE: ALL},
    'cache.event.rule': {
        SHAPE: ALL,
        READ: READERS,
        CREATE: ADMINS,
        WRITE: ADMINS,
        DELETE: ADMINS,
    },
    'cache.metric': {SHAPE: ALL, READ: READERS},
    'cache.namespace': {
        SHAPE: ALL,
        READ: READERS,
        CREATE: ADMINS,
        WRITE: ADMINS,
        DELETE: ADMINS,
    },
    'cache.remote': {SHAPE: ALL, READ: KEEPERS, CREATE: SYSTEM, WRITE: SYSTEM, DELETE: SYSTEM},
    'cache.remote.follow': {SHAPE: ALL, READ: KEEPERS},
    'cache.rule': {SHAPE: ALL, READ: READERS, CREATE: ADMINS, WRITE: ADMINS, DELETE: ADMINS},
    'cache.schedule': {SHAPE: ALL, READ: READERS, CREATE: ADMINS, WRITE: ADMINS, DELETE: ADMINS},
    'cache.warmup': {SHAPE: ALL, READ: ADMINS, CREATE: ADMINS, WRITE: ADMINS, DELETE: ADMINS},
    'cache.warmup.line': {SHAPE: ALL, READ: ADMINS, WRITE: ADMINS, DELETE: ADMINS},
    'cache.manager': {SHAPE: ALL},
    'cache.dashboard': {SHAPE: ALL},
    'cache.worker': {SHAPE: ALL, READ: ADMINS},
}
SPEC = {'display_name': {}}
INHERITED = {
    # name: (kind, arguments after the ids; $f a field, $g one to group by, $v values, $n new ones)
    'action_archive': (WRITE, []),
    'action_unarchive': (WRITE, []),
    'check_access_rights': (READ, ['read']),
    'check_access_rule': (READ, ['read']),
    'check_field_access_rights': (SHAPE, ['read', ['$f']]),
    'copy': (CREATE, []),
    'copy_data': (READ, []),
    'copy_translations': (SHAPE, [[]]),
    'create': (CREATE, ['$n']),
    'default_get': (SHAPE, [['$f']]),
    'export_data': (NEVER, [['$f']]),
    'fields_get': (SHAPE, []),
    'formatted_read_group': (READ, [[], ['$g'], ['__count']]),
    'formatted_read_grouping_sets': (READ, [[], [['$g']], ['__count']]),
    'get_base_url': (SHAPE, []),
    'get_empty_list_help': (SHAPE, ['']),
    'get_external_id': (SHAPE, []),
    'get_field_translations': (READ, ['$f']),
    'get_formview_action': (SHAPE, []),
    'get_formview_id': (SHAPE, []),
    'get_metadata': (READ, []),
    'get_property_definition': (NEVER, ['x.y']),
    'get_view': (READ, []),
    'get_views': (READ, [[[False, 'list']]]),
    'has_access': (SHAPE, ['read']),
    'is_transient': (NEVER, []),
    'load': (SHAPE, [['$f'], [['changed']]]),
    'name_create': (CREATE, ['changed']),
    'name_search': (READ, ['']),
    'onchange': (CREATE, [{}, [], {'$f': {}}]),
    'read': (READ, [['$f']]),
    'read_group': (READ, [[], ['$g'], ['$g']]),
    'read_progress_bar': (READ, [[], '$g', {'field': '$g', 'colors': {}}]),
    'search': (READ, [[]]),
    'search_count': (READ, [[]]),
    'search_panel_select_multi_range': (READ, ['$g']),
    'search_panel_select_range': (READ, ['$g']),
    'search_read': (READ, [[], ['$f']]),
    'toggle_active': (WRITE, []),
    'unlink': (DELETE, []),
    'update_field_translations': (WRITE, ['$f', {'en_US': "changed"}]),
    'view_header_get': (SHAPE, [False, 'list']),
    'web_name_search': (READ, ['', SPEC]),
    'web_override_translations': (SHAPE, [{'$f': "changed"}]),  # no field is translated
    'web_read': (READ, [SPEC]),
    'web_read_group': (READ, [[], ['$g']]),
    'web_resequence': (WRITE, [SPEC]),
    'web_save': (WRITE, ['$v', SPEC]),
    'web_save_multi': (WRITE, [['$v'], SPEC]),
    'web_search_read': (READ, [[], SPEC]),
    'write': (WRITE, ['$v']),
}
ABSTRACT = ('cache.dashboard', 'cache.event', 'cache.manager')
NO_RECORD = ('copy', 'copy_data', 'get_metadata', 'read', 'unlink', 'web_read', 'write')
EXCEPTIONS = {
    # what is active already is left alone
    ('cache.event.rule', 'action_unarchive'): READERS,
    ('cache.event.rule', 'name_create'): NOBODY,  # the name alone says nothing to remove
    # these figures cannot be copied by somebody who does not see all of them
    ('cache.metric', 'copy_data'): ADMINS,
    ('cache.entry', 'copy_data'): NOBODY,  # its body is closed to all
    ('cache.call', 'copy_data'): NOBODY,
    # ids and external ids of what was passed; without log columns nothing is read
    ('cache.entry', 'get_metadata'): ALL,
    ('cache.worker', 'get_metadata'): ALL,
    ('cache.metric', 'get_metadata'): ALL,
    ('cache.call', 'get_metadata'): ALL,
    ('cache.warmup.line', 'get_metadata'): ALL,
    # what is active already is left alone; two rules must not name the same methods
    ('cache.metric', 'action_unarchive'): READERS,
    ('cache.namespace', 'action_unarchive'): READERS,
    ('cache.remote', 'action_unarchive'): KEEPERS,
    ('cache.remote', 'copy_data'): SYSTEM,  # among it what only these may see
    ('cache.remote', 'export_data'): SYSTEM,  # never the key, see TestRemote
    ('cache.remote', 'name_create'): NOBODY,  # a name alone is no server
    ('cache.remote.follow', 'export_data'): SYSTEM,
    ('cache.remote.follow', 'get_metadata'): ALL,
    ('cache.remote.follow', 'search_panel_select_range'): NOBODY,
    ('cache.remote.follow', 'search_panel_select_multi_range'): NOBODY,
    ('cache.rule', 'action_unarchive'): READERS,
    ('cache.rule', 'copy'): NOBODY,
    # no sequence to set, no name to create by: nothing happens
    ('cache.call', 'web_resequence'): ALL,
    ('cache.entry', 'web_resequence'): ALL,
    ('cache.worker', 'web_resequence'): ALL,
    ('cache.dashboard', 'web_resequence'): ALL,
    ('cache.dashboard', 'name_create'): ALL,
    ('cache.metric', 'web_resequence'): ALL,
    ('cache.event', 'web_resequence'): ALL,
    ('cache.schedule', 'web_resequence'): ALL,
    ('cache.manager', 'web_resequence'): ALL,
    ('cache.namespace', 'web_resequence'): ALL,
    ('cache.event', 'name_create'): ALL,
    ('cache.manager', 'name_create'): ALL,
    ('cache.rule', 'name_create'): ALL,
    # the search panel wants a selection: these models have none to give
    ('cache.event.rule', 'search_panel_select_range'): NOBODY,
    ('cache.event.rule', 'search_panel_select_multi_range'): NOBODY,
    # it is cancelled, not archived
    ('cache.schedule', 'action_archive'): NOBODY,
    ('cache.schedule', 'action_unarchive'): NOBODY,
    ('cache.schedule', 'toggle_active'): NOBODY,
    ('cache.warmup.line', 'onchange'): ADMINS,  # may be written, not created
    ('cache.warmup.line', 'action_archive'): NOBODY,
    ('cache.warmup.line', 'action_unarchive'): NOBODY,
    ('cache.warmup.line', 'toggle_active'): NOBODY,
    ('cache.entry', 'search_panel_select_range'): NOBODY,
    ('cache.entry', 'search_panel_select_multi_range'): NOBODY,
    ('cache.metric', 'search_panel_select_range'): NOBODY,
    ('cache.metric', 'search_panel_select_multi_range'): NOBODY,
    **{
        (f'cache.{name}', 'web_resequence'): ALL
        for name in (
            'change',
            'guard.failure',
            'log',
            'operation',
            'relation',
            'remote',
            'remote.follow',
        )
    },
    **{(f'cache.{name}', 'get_metadata'): ALL for name in ('change', 'guard.failure', 'relation')},
    **{
        ('cache.guard.failure', f'search_panel_select_{kind}range'): NOBODY
        for kind in ('', 'multi_')
    },
    # no such field, and the kind of a removal is none of those that there are
    **{
        ('cache.operation', name): NOBODY
        for name in ('action_archive', 'action_unarchive', 'toggle_active', 'name_create')
    },
    **{
        ('cache.warmup.line', name): NOBODY
        for name in ('action_archive', 'action_unarchive', 'toggle_active')
    },
    # on no record they have nothing to do
    **{(model, name): ALL for model in ABSTRACT for name in NO_RECORD},
    **{(model, 'export_data'): SYSTEM for model in ABSTRACT},
    **{(model, 'web_override_translations'): NOBODY for model in ABSTRACT},  # wants one record
}
ADDED = {
    ('cache.dashboard', 'apply_advice'): (
        ADMINS,
        [{'do': 'rule_off', 'model': 'res.bank', 'method': 'read'}],
    ),
    ('cache.dashboard', 'get_figures'): (READERS, []),
    ('cache.operation', 'action_again'): (ADMINS, []),
    ('cache.operation', 'action_remove'): (ADMINS, []),
    ('cache.relation', 'action_guard'): (ADMINS, []),
    ('cache.remote', 'action_test'): (ADMINS, []),
    ('cache.relation', 'action_invalidate'): (ADMINS, []),
    ('cache.relation', 'action_open_changes'): (ADMINS, []),
    ('cache.relation', 'action_open_entries'): (ADMINS, []),
    ('cache.relation', 'action_release'): (ADMINS, []),
    ('cache.entry', 'action_invalidate'): (ADMINS, []),
    ('cache.event.rule', 'action_forget_failures'): (ADMINS, []),
    ('cache.schedule', 'action_cancel'): (ADMINS, []),
    ('cache.warmup', 'action_continue'): (ADMINS, []),
    ('cache.warmup', 'action_learn'): (ADMINS, []),
    ('cache.warmup', 'action_start'): (ADMINS, []),
    ('cache.warmup', 'action_stop'): (ADMINS, []),
    ('cache.manager', 'get_stats'): (READERS, []),
    ('cache.manager', 'invalidate_all'): (ADMINS, []),
    ('cache.manager', 'invalidate_key'): (ADMINS, ['v1:orm:res.bank:read:0']),
    ('cache.manager', 'invalidate_keys'): (ADMINS, [['v1:orm:res.bank:read:0', 'v1:tc']]),
    ('cache.manager', 'invalidate_model'): (ADMINS, ['res.bank']),
    ('cache.manager', 'invalidate_pattern'): (ADMINS, ['v1:orm:res.bank:*']),
    ('cache.manager', 'invalidate_relation'): (ADMINS, ['res_bank']),
    ('cache.manager', 'invalidate_tag'): (ADMINS, ['tc']),
    ('cache.manager', 'invalidate_user'): (ADMINS, [1]),
    ('cache.manager', 'schedule_removal'): (ADMINS, ['pattern', 'v1:tc:*', 60]),
    ('cache.manager', 'test_redis'): (ADMINS, []),
    ('res.config.settings', 'action_tiered_cache_invalidate_all'): (ADMINS, []),
    ('res.config.settings', 'action_tiered_cache_test_redis'): (SYSTEM, []),
    # Odoo itself lets everybody call these; what they say and do is another test
    ('res.config.settings', 'get_values'): (ALL, []),
    ('res.config.settings', 'set_values'): (SYSTEM, []),
}
SECRET = 'redis://:a-secret-word@localhost:6379/0'
MARK = 'not-for-everybody'


def public_methods(model) -> set[str]:
    """Names that Odoo's dispatcher calls on a model."""
    found = set()
    for name in dir(type(model)):
        try:
            method = get_public_method(model, name)
        except (AccessError, AttributeError):
            continue
        if not isinstance(method, type):
            found.add(name)
    return found


def modules_of(model, name) -> list[str]:
    """Modules of the code that a model's classes have for a name, nearest first."""
    return [
        getattr(vars(cls)[name], '__module__', '') or ''
        for cls in type(model).mro()
        if name in vars(cls)
    ]


@tagged('post_install', '-at_install')
class TestRpcSurface(TransactionCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # what the server writes down meanwhile would be a conflict, for which Odoo tries a
        # request again; here there is one transaction for all
        cls.enterClassContext(patch.object(calls, 'write', lambda *_args: None))
        cls.users = {
            'public': cls.env.ref('base.public_user'),
            **{
                role: new_test_user(cls.env, f'tc_rpc_{role}', group)
                for role, group in GROUPS.items()
            },
        }
        cls.env['ir.config_parameter'].set_param('tiered_cache.redis_url', SECRET)
        rule = cls.env['cache.rule'].create({'model': 'res.partner', 'note': MARK})
        namespace = cls.env['cache.namespace'].create({'name': 'surface', 'note': MARK})
        event_rule = cls.env['cache.event.rule'].create(
            {'event': 'res.partner.updated', 'names': 'partner:{id}', 'note': MARK}
        )
        cls.remote = cls.env['cache.remote'].create(
            {'name': 'surface', 'url': 'https://erp.example.com', 'version': MARK}
        )
        warmup = cls.env['cache.warmup'].create({'name': MARK, 'note': MARK})
        warmup.sudo().state = 'stopped'
        call_id = cls.add_call()
        line = cls.env['cache.warmup.line'].create(
            {'warmup_id': warmup.id, 'call_id': call_id, 'name': MARK}
        )
        cls.ids = {
            'cache.call': [call_id],
            'cache.warmup': warmup.ids,
            'cache.warmup.line': line.ids,
            'cache.event': [],
            'cache.event.rule': event_rule.ids,
            'cache.rule': rule.ids,
            'cache.namespace': namespace.ids,
            'cache.metric': [cls.add_figure('res.users')],
            'cache.entry': [cls.add_entry(cls.users['user'].id, 'mine')],
            'cache.manager': [],
            'cache.dashboard': [],
            'cache.worker': cls.env['cache.worker']
            .create({'token': 'tc', 'host': MARK, 'pid': 1, 'kind': 'http'})
            .ids,
            'cache.change': [cls.add_row('cache_change', relation=MARK)],
            'cache.guard.failure': [cls.add_row('cache_guard_failure', relation=MARK, error=MARK)],
            'cache.log': cls.env['cache.log']._note('remove', MARK).ids,
            'cache.operation': cls.env['cache.operation']
            .with_user(cls.users['admin'])
            .create({'kind': 'key', 'key': 'v1:tc'})
            .ids,
            'cache.remote': cls.remote.ids,
            'cache.remote.follow': [
                cls.add_row('cache_remote_follow', remote_id=cls.remote.id, model=MARK)
            ],
            'cache.relation': cls.env['cache.relation'].search([('name', '=', 'res_bank')]).ids,
            # of the Cache User, who sees no other; made by code
            'cache.schedule': cls.env['cache.schedule']
            .with_user(cls.users['user'])
            .sudo()
            .create({'kind': 'tag', 'target': 'tc', 'at': '2036-01-01'})
            .ids,
        }
        cls.env['cache.schedule'].create({'kind': 'tag', 'target': MARK, 'at': '2036-01-01'})
        cls.add_entry(cls.users['admin'].id, MARK)
        settings = cls.env['res.config.settings'].with_user(cls.users['system']).create({})
        cls.ids['res.config.settings'] = settings.ids
        cls.env.flush_all()

    @classmethod
    def add_entry(cls, uid, key, superuser=False, model='res.partner'):
        cls.env.cr.execute(
            "INSERT INTO cache_entry (key, model, method, uid, superuser, created, expires,"
            " cost_ms, size_bytes, hits, body) VALUES (%s, %s, 'read', %s, %s, now(),"
            " now() + interval '1 hour', 25, 100, 0, '') RETURNING id",
            [f'v1:orm:{model}:read:{key}', model, uid, superuser],
        )
        return cls.env.cr.fetchone()[0]

    @classmethod
    def add_row(cls, table, **values):
        columns = SQL(", ").join(map(SQL.identifier, values))
        cls.env.cr.execute(
            SQL(
                "INSERT INTO %s (%s) VALUES %s RETURNING id",
                SQL.identifier(table),
                columns,
                tuple(values.values()),
            )
        )
        return cls.env.cr.fetchone()[0]

    @classmethod
    def add_call(cls):
        cls.env.cr.execute(
            "INSERT INTO cache_call (digest, kind, model, method, name, user_id, hits, saved_ms,"
            " value_ms, last_at, body) VALUES ('d', 'orm', %s, 'read', '', 1, 1, 1, 1, now(), '')"
            " RETURNING id",
            [MARK],
        )
        return cls.env.cr.fetchone()[0]

    @classmethod
    def add_figure(cls, model):
        cls.env.cr.execute(
            "INSERT INTO cache_metric (granularity, active, bucket, model, method, outcome, reason,"
            " relation, count, calls, hits, duration_ms, saved_ms, saved_queries, bytes, audited,"
            " differences) VALUES ('minute', TRUE, now(), %s, 'read', 'l1', '', %s, 7, 7, 7, 1, 1,"
            " 1, 1, 0, 0) RETURNING id",
            [model, MARK],
        )
        return cls.env.cr.fetchone()[0]

    def call(self, role, model, name, arguments):
        """A call as a client makes it, undone afterwards.

        :return: whether it was answered, the answer or the error, whether something changed
        """
        records = self.env[model].with_user(self.users[role])
        method = get_public_method(records, name)
        if not getattr(method, '_api_model', False):
            arguments = [self.ids[model], *arguments]
        self.env.invalidate_all()
        with (
            patch.object(cache_remote, 'Client'),  # nothing is asked
            mute_logger('odoo.sql_db', 'odoo.orm.models', 'odoo.models', 'odoo.addons.base'),
            warnings.catch_warnings(),
            self.env.cr.savepoint(flush=False) as savepoint,
        ):
            warnings.simplefilter('ignore', DeprecationWarning)  # old methods can be called too
            before = self.state()
            try:
                answer, answered = call_kw(records, name, arguments, {}), True
                self.env.flush_all()
            except Exception as error:
                answer, answered = error, False
                self.env.cr.execute("SELECT 1")  # the transaction goes on after a refusal
            changed = self.state() != before
            self.env.invalidate_all(flush=False)
            savepoint.rollback()
        self.env.transaction.clear()
        return answered, answer, changed

    def state(self):
        """What nobody may change by oversight."""
        found = []
        for query in (
            "SELECT * FROM cache_rule ORDER BY id",
            "SELECT * FROM cache_namespace ORDER BY id",
            "SELECT * FROM cache_event_rule ORDER BY id",
            "SELECT * FROM cache_remote ORDER BY id",
            "SELECT * FROM cache_remote_follow ORDER BY id",
            "SELECT id, key, hits FROM cache_entry ORDER BY id",
            "SELECT * FROM cache_metric ORDER BY id",
            "SELECT * FROM cache_schedule ORDER BY id",
            "SELECT id, host FROM cache_worker WHERE token = 'tc'",
            "SELECT key, value FROM ir_config_parameter WHERE key LIKE 'tiered%' ORDER BY id",
            "SELECT id FROM cache_change WHERE relation ~ '^#|:' ORDER BY id",
        ):
            self.env.cr.execute(query)
            found.append(self.env.cr.fetchall())
        return found

    def fill(self, value, model):
        """Arguments with the placeholders of INHERITED replaced."""
        if isinstance(value, list):
            return [self.fill(item, model) for item in value]
        if isinstance(value, dict):
            return {self.fill(k, model): self.fill(v, model) for k, v in value.items()}
        known = {'$f': FIELD, '$g': GROUPED, '$v': VALUES, '$n': NEW}.get(value)
        if known is None:
            return value
        return known.get(model, 'display_name' if value in ('$f', '$g') else {})

    # -- who may -----------------------------------------------------------------------

    def test_every_model_and_public_method_stands_in_a_table(self):
        own = {name for name in self.env.registry if name.startswith('cache.')}
        self.assertEqual(own, set(RIGHTS))
        for name in own:
            model = self.env[name]
            for method in sorted(public_methods(model) - set(INHERITED)):
                if (name, method) not in ADDED and modules_of(model, method)[0].startswith(CORE):
                    self.fail(f"{name}.{method} can be called over RPC and is in no table")

    def test_nothing_public_is_added_to_other_models(self):
        for name, model in self.env.items():
            for cls in type(model).mro():
                if not cls.__module__.startswith(OWN) or name.startswith('cache.'):
                    continue
                for method in vars(cls).keys() & public_methods(model):
                    theirs = [m for m in modules_of(model, method) if not m.startswith(OWN)]
                    if not theirs and callable(vars(cls)[method]):
                        self.assertIn((name, method), ADDED)

    def test_inherited_methods_answer_whom_the_table_says(self):
        for model, rights in RIGHTS.items():
            for method in sorted(set(INHERITED) & public_methods(self.env[model])):
                kind, arguments = INHERITED[method]
                expected = EXCEPTIONS.get((model, method), rights.get(kind, NOBODY))
                if model in ('cache.entry', 'cache.metric', 'cache.worker') and kind == WRITE:
                    expected = EXCEPTIONS.get((model, method), NOBODY)
                self.check(model, method, self.fill(arguments, model), expected)

    def test_added_methods_answer_whom_the_table_says(self):
        found = {'server': 'redis', 'version': '7', 'round_trip_ms': 0.1}
        for (model, method), (expected, arguments) in ADDED.items():
            with patch.object(redis_probe, 'probe', lambda _url, **_options: found):
                self.check(model, method, arguments, expected)

    def test_settings_are_told_to_system_administrators_only(self):
        name = 'tiered_cache_redis_url'
        for role in self.users:
            for method, arguments in (
                ('get_values', []),
                ('default_get', [[name]]),
                ('onchange', [{}, [], {name: {}}]),
                ('read', [[name]]),
            ):
                with self.subTest(role=role, method=method):
                    _answered, answer, _changed = self.call(
                        role, 'res.config.settings', method, arguments
                    )
                    shown = 'a-secret-word' in str(answer)
                    self.assertEqual(shown, role == 'system', answer)

    def check(self, model, method, arguments, expected):
        may = SYSTEM if model == 'cache.remote' else ADMINS
        may_change = {CREATE: may, WRITE: may, DELETE: may}.get(
            INHERITED.get(method, (None,))[0], ADMINS if (model, method) in ADDED else NOBODY
        )
        for role in self.users:
            with self.subTest(model=model, method=method, role=role):
                answered, answer, changed = self.call(role, model, method, arguments)
                if (model, method) == ('res.config.settings', 'set_values') and answered:
                    self.assertFalse(changed)
                    continue  # Odoo's own part of it may refuse or not
                self.assertEqual(answered, role in expected, answer)
                if role not in may_change:
                    self.assertFalse(changed, "changed something")
                if role not in READERS and not model.startswith('cache.remote'):
                    self.assertNotIn(MARK, str(answer))
                if role != 'system':
                    self.assertNotIn('a-secret-word', str(answer))
