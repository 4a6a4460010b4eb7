"""A database made for checking histories, and servers on it.

The one idea: one custom model whose rows carry an invariant (the sum of all balances), a
version that only grows and a list that is only appended to; whoever reads a row can tell by
looking at the answer alone whether it could have come from PostgreSQL at that moment.

What may go wrong: preparing it takes half a minute, so a program does it once and copies it.
"""

import json

from bench.common import Rpc, Server, run_odoo

ACCOUNTS = 12
START_BALANCE = 1000
MODEL = "x_account"
USERS = ("admin", "reader")
WORKERS = 4

FIELDS = {"x_name": "char", "x_balance": "integer", "x_version": "integer", "x_log": "text"}

TRANSFER = """
accounts, amount = env['x_account'], env.context['amount']
for account, change in zip(accounts.browse(env.context['accounts']), (-amount, amount)):
    account.write({
        'x_balance': account.x_balance + change,
        'x_version': account.x_version + 1,
    })
action = {'versions': {str(a.id): a.x_version for a in accounts.browse(env.context['accounts'])}}
"""
"""Both rows in one transaction; Odoo runs it again when PostgreSQL reports a conflict."""

APPEND = """
accounts, seen = env['x_account'], []
for kind, account_id, value in env.context['operations']:
    if kind == 'read':
        row = accounts.search_read([('id', '=', account_id)], ['x_log'])[0]
        seen.append(row['x_log'] or '')
    else:
        account = accounts.browse(account_id)
        account.write({'x_log': '%s%d,' % (account.x_log or '', value)})
action = {'seen': seen}
"""
"""Reads and appends of one transaction, in the order asked for."""

SET_UP = """
import json
model = env['ir.model'].create({
    'name': 'Account', 'model': 'x_account',
    'field_id': [(0, 0, {'name': name, 'field_description': name, 'ttype': kind})
                 for name, kind in FIELDS.items()],
    'access_ids': [(0, 0, {'name': 'all', 'group_id': env.ref('base.group_user').id,
                           'perm_read': 1, 'perm_write': 1, 'perm_create': 1})],
})
start = {'x_balance': START_BALANCE, 'x_version': 1}
accounts = env['x_account'].create([{'x_name': 'Account %d' % n, **start} for n in range(ACCOUNTS)])
actions = {
    name: env['ir.actions.server'].create({
        'name': name, 'model_id': model.id, 'state': 'code', 'code': code,
        'group_ids': [(6, 0, env.ref('base.group_user').ids)],
    }).id
    for name, code in ACTIONS.items()
}
env['res.users'].with_context(no_reset_password=True).create({
    'name': 'Reader', 'login': 'reader', 'password': 'reader',
    'group_ids': [(6, 0, env.ref('base.group_user').ids)],
})
env.cr.commit()
print('STAGE ' + json.dumps({'accounts': accounts.ids, 'actions': actions}))
"""


class Stage:
    """What a load has to know: the database, its accounts, its server actions.

    :param lab.postgres.Cluster cluster: where the database is
    """

    def __init__(self, cluster, database="proof", *, addon=True, env=None):
        self.cluster = cluster
        self.database = database
        self.addon = addon
        self.env = {
            "TIERED_CACHE_L1_MIN_COST_MS": "0",
            "TIERED_CACHE_L2_MIN_COST_MS": "0",
            "TIERED_CACHE_L3_MIN_COST_MS": "0",
            "TIERED_CACHE_METRICS_FLUSH_S": "1",
            "TIERED_CACHE_REDIS_URL": "",
            **(env or {}),
        }
        self.port = None  # of a proxy before the cluster
        self.accounts = []
        self.actions = {}

    def prepare(self):
        """Install Odoo's ``web``, with the addon or without, and make the accounts."""
        modules = "tiered_cache" if self.addon else "web"
        quiet = ["--no-http", "--log-level=error", "--max-cron-threads=0"]
        self._odoo(["-d", self.database, "-i", modules, "--stop-after-init", *quiet])
        values = {
            "FIELDS": FIELDS,
            "ACCOUNTS": ACCOUNTS,
            "START_BALANCE": START_BALANCE,
            "ACTIONS": {"transfer": TRANSFER, "append": APPEND},
        }
        names = "".join(f"{name} = {value!r}\n" for name, value in values.items())
        output = self._odoo(
            ["shell", "-d", self.database, "--no-http", "--log-level=error"], names + SET_UP
        )
        line = next(line for line in output.splitlines() if line.startswith("STAGE "))
        found = json.loads(line.removeprefix("STAGE "))
        self.accounts, self.actions = found["accounts"], found["actions"]
        return self

    def on(self, cluster, database=None):
        """:return Stage: the same database, or a copy of it, elsewhere."""
        other = Stage(cluster, database or self.database, addon=self.addon, env=self.env)
        other.accounts, other.actions = self.accounts, self.actions
        return other

    def server(self, *, env=None, workers=WORKERS):
        """:return Server: a context manager."""
        return Server(self.database, workers=workers, env={**self.environment, **(env or {})})

    @property
    def environment(self):
        """Variables for an Odoo on this database."""
        found = {**self.env, **self.cluster.environment, "PGDATABASE": None}
        if self.port:
            found["PGPORT"] = str(self.port)
        return found

    def session(self, port, login="admin"):
        """:return Rpc: a session of the web client."""
        return Rpc(port, self.database).login(login, login)

    def _odoo(self, arguments, program=""):
        env = {key: value for key, value in self.environment.items() if value is not None}
        return run_odoo(arguments, env=env, stdin=program)
