"""Privileges given and taken away, and how to undo it; runs inside ``odoo shell``.

The one idea: a change is a list of writes.  What stood there before is read first, so that the
same list backwards undoes it; what was created is deleted, what was deleted stays deleted only
where a later change may bring it back.

What may go wrong: Odoo refuses a change (a user of two kinds, the last administrator).  It is
counted as refused, and nothing has changed.
"""

from odoo.fields import Command
from odoo.tools import SQL

CREATED, WRITTEN, SQL_RAN = "created", "written", "sql"


class Change:
    """One change, being made.

    :param env: of the superuser; the caller commits
    :param chance: a ``random.Random``
    :param list models: the models that are being read
    :param user: one of those who read
    """

    def __init__(self, env, chance, models, user):
        self.env, self.chance, self.models, self.user = env, chance, models, user
        self.undo_list = []

    # -- what may happen; each returns what it did in words, or None where it does not apply --

    def group_removed(self):
        groups = self.user.group_ids
        if len(groups) < 1:
            return None
        group = self._one(groups)
        left = groups - group
        if not left & (group.implied_ids | group) and not left:
            left = self.env.ref("base.group_user")
        return self._write(self.user, {"group_ids": [Command.set(left.ids)]}, group.full_name)

    def group_given(self):
        lines = self._access_lines(own=False).filtered("group_id")
        if not lines:
            return None
        group = self._one(lines).group_id
        return self._write(self.user, {"group_ids": [Command.link(group.id)]}, group.full_name)

    def group_implies_less(self):
        implied = self.user.group_ids.filtered("implied_ids")
        if not implied:
            return None
        group = self._one(implied)
        other = self._one(group.implied_ids)
        if other == self.env.ref("base.group_user"):
            return None
        return self._write(group, {"implied_ids": [Command.unlink(other.id)]}, other.full_name)

    def rule_off(self):
        rules = self._rules()
        return self._write(self._one(rules), {"active": False}) if rules else None

    def rule_edited(self):
        rules = self._rules()
        domain = self.chance.choice(
            ["[('id', '=', 0)]", "[(1, '=', 1)]", "[('create_uid', '=', user.id)]"]
        )
        return self._write(self._one(rules), {"domain_force": domain}, domain) if rules else None

    def rule_added(self):
        model = self.chance.choice(self.models)
        rule = self.env["ir.rule"].create(
            {
                "name": "Leaks",
                "model_id": self.env["ir.model"]._get_id(model),
                "domain_force": self.chance.choice(["[('id', '<', 4)]", "[('id', '>', 3)]"]),
                "groups": [Command.set(self.chance.choice([[], self.user.group_ids[:1].ids]))],
            }
        )
        return self._created(rule, f"{model} {rule.domain_force}")

    def access_off(self):
        lines = self._access_lines()
        return self._write(self._one(lines), {"active": False}) if lines else None

    def access_without_read(self):
        lines = self._access_lines()
        return self._write(self._one(lines), {"perm_read": False}) if lines else None

    def access_given(self):
        model = self.chance.choice(self.models)
        kind = self.chance.choice(["user", "portal", "public"])
        line = self.env["ir.model.access"].create(
            {
                "name": "Leaks",
                "model_id": self.env["ir.model"]._get_id(model),
                "group_id": self.env.ref(f"base.group_{kind}").id,
                "perm_read": True,
            }
        )
        return self._created(line, f"{model} to {kind}")

    def company_removed(self):
        others = self.user.company_ids - self.user.company_id
        if not others:
            return None
        company = self._one(others)
        return self._write(self.user, {"company_ids": [Command.unlink(company.id)]}, company.name)

    def company_given(self):
        others = self.env["res.company"].search([]) - self.user.company_ids
        if not others:
            return None
        company = self._one(others)
        return self._write(self.user, {"company_ids": [Command.link(company.id)]}, company.name)

    def company_switched(self):
        company = self._one(self.user.company_ids)
        return self._write(self.user, {"company_id": company.id}, company.name)

    def company_moved(self):
        """Rules ask for ``user.env.companies.country_id``, which is kept with the partner."""
        company = self._one(self.user.company_ids)
        country = self._one(self.env["res.country"].search([("code", "in", ("BE", "FR", "US"))]))
        return self._write(company.partner_id, {"country_id": country.id}, country.code)

    def user_archived(self):
        if self.user.id <= 5:
            return None
        return self._write(self.user, {"active": False})

    def user_of_another_kind(self):
        """Between portal and internal, groups and all."""
        kind = "base.group_user" if self.user.share else "base.group_portal"
        if self.user == self.env.ref("base.public_user"):
            return None
        return self._write(self.user, {"group_ids": [Command.set(self.env.ref(kind).ids)]}, kind)

    def partner_moved(self):
        """``user.commercial_partner_id`` follows the parent."""
        other = self.env["res.partner"].search(
            [("is_company", "=", True), ("id", "!=", self.user.partner_id.parent_id.id)], limit=8
        )
        other -= self.user.partner_id
        values = {"parent_id": self._one(other).id}
        return self._write(self.user.partner_id, values)

    def follower_added(self):
        records = self._records(lambda model: hasattr(model, "message_subscribe"))
        partner = self.user.partner_id
        if records is None or partner in records.message_partner_ids:
            return None
        records.message_subscribe([partner.id])
        line = self.env["mail.followers"].search(
            [
                ("res_model", "=", records._name),
                ("res_id", "in", records.ids),
                ("partner_id", "=", partner.id),
            ]
        )
        return self._created(line, f"{records}")

    def follower_removed(self):
        lines = self.env["mail.followers"].search(
            [("partner_id", "=", self.user.partner_id.id), ("res_model", "in", self.models)]
        )
        if not lines:
            return None
        line = self._one(lines)
        what = f"{line.res_model}({line.res_id})"
        self._sql("DELETE FROM mail_followers WHERE id = %s", [line.id])
        values = [line.res_model, line.res_id, line.partner_id.id]
        self.undo_list.append(
            [
                SQL_RAN,
                "INSERT INTO mail_followers (res_model, res_id, partner_id) VALUES (%s, %s, %s)",
                values,
            ]
        )
        return what

    def owner_changed(self):
        """By SQL, as another program would."""
        return self._column_changed("user_id", self.user.id)

    def record_moved_to_another_company(self):
        company = self._one(self.env["res.company"].search([]))
        return self._column_changed("company_id", company.id)

    def team_joined(self):
        if "crm.team" not in self.env or self.user.share:
            return None
        team = self._one(self.env["crm.team"].search([]))
        if not team or self.user in team.member_ids:
            return None
        member = self.env["crm.team.member"].create(
            {"crm_team_id": team.id, "user_id": self.user.id}
        )
        return self._created(member, team.name)

    def team_left(self):
        if "crm.team" not in self.env:
            return None
        members = self.env["crm.team.member"].search([("user_id", "=", self.user.id)])
        return self._write(self._one(members), {"active": False}) if members else None

    def project_privacy(self):
        if "project.project" not in self.env:
            return None
        project = self._one(self.env["project.project"].search([]))
        privacy = self.chance.choice(["followers", "employees", "portal"])
        return self._write(project, {"privacy_visibility": privacy}, privacy)

    def employee_of_another_department(self):
        if "hr.employee" not in self.env:
            return None
        employees = self.env["hr.employee"].search([])
        employee = self._one(employees)
        manager = self._one(employees - employee)
        return self._write(employee, {"parent_id": manager.id}, manager.name)

    def field_groups(self):
        """Slow: Odoo loads the registry again."""
        fields = self.env["ir.model.fields"].search([("name", "=", "x_leaks_secret")])
        if not fields:
            return None
        field = self._one(fields)
        group = self.env.ref("base.group_user")
        values = {"groups": [Command.set((group - field.groups or group).ids)]}
        return self._write(field, values, field.model)

    # -- how --------------------------------------------------------------------------------

    def _one(self, records):
        return records[self.chance.randrange(len(records))] if records else records

    def _access_lines(self, own=True):
        """Rights on the models; those that the user has, if asked for and if there are any."""
        lines = self.env["ir.model.access"].search(
            [("model_id.model", "in", self.models), ("perm_read", "=", True)], order="id"
        )
        mine = lines.filtered(lambda line: line.group_id in self.user.all_group_ids)
        return (mine or lines) if own else lines - mine

    def _rules(self):
        """Rules of the models; those that are about the user, if there are any."""
        rules = self.env["ir.rule"].search(
            [("model_id.model", "in", self.models), ("perm_read", "=", True)], order="id"
        )
        mine = rules.filtered(lambda rule: not rule.groups or rule.groups & self.user.all_group_ids)
        return mine or rules

    def _records(self, wanted):
        names = [name for name in self.models if wanted(self.env[name])]
        if not names:
            return None
        records = self.env[self.chance.choice(names)].search([], limit=30, order="id")
        return self._one(records) or None

    def _column_changed(self, column, value):
        names = [
            name
            for name in self.models
            if (field := self.env[name]._fields.get(column))
            and field.store
            and field.column_type
            and self.env[name]._auto
            and not name.startswith(("res.", "ir."))
        ]
        if not names:
            return None
        table = self.env[self.chance.choice(names)]._table
        self.env.cr.execute(
            SQL("SELECT id, %s FROM %s", SQL.identifier(column), SQL.identifier(table))
        )
        rows = sorted(self.env.cr.fetchall())
        if not rows:
            return None
        rows = self.chance.sample(rows, min(3, len(rows)))
        statement = f'UPDATE "{table}" SET "{column}" = %s WHERE id = %s'
        for id_, before in rows:
            self._sql(statement, [value, id_])
            self.undo_list.append([SQL_RAN, statement, [before, id_]])
        return f"{table}.{column} of {[id_ for id_, _before in rows]}"

    def _sql(self, statement, params):
        self.env.flush_all()
        self.env.cr.execute(statement, params)
        self.env.invalidate_all()

    def _write(self, record, values, what=""):
        if not record:
            return None
        before = {}
        for name in values:
            value = record[name]
            before[name] = (
                [[6, 0, value.ids]]
                if record._fields[name].type == "many2many"
                else value.id
                if record._fields[name].relational
                else value
            )
        record.write(values)
        self.undo_list.append([WRITTEN, record._name, record.ids, before])
        return f"{record} {what}"

    def _created(self, records, what):
        self.undo_list.append([CREATED, records._name, records.ids])
        return what


KINDS = tuple(
    name for name, value in vars(Change).items() if callable(value) and not name.startswith("_")
)
SLOW = ("field_groups",)


def undo(env, steps):
    """Take a change back; the caller commits.

    :param list steps: what ``Change.undo_list`` held
    """
    for kind, *step in reversed(steps):
        env.flush_all()
        if kind == SQL_RAN:
            statement, params = step
            env.cr.execute(statement, params)
            env.invalidate_all()
        elif kind == CREATED:
            model, ids = step
            env[model].browse(ids).exists().unlink()
        else:
            model, ids, values = step
            env[model].browse(ids).write(values)
