"""Event rules: which event removes which entries.

The one idea: an administrator's record, read into memory by :mod:`services.event_rules`; Odoo's
own signal for changed caches tells all workers to read it again.

What may go wrong: a rule that can never work (a name that is no event, a condition on a field
that does not exist) is refused here, with the reason.  One that cannot work any more, since a
module is gone or a type has changed, removes too much and says why in its last error.
"""

from odoo import api, fields, models
from odoo.exceptions import ValidationError
from odoo.fields import Domain

from ..services import event_names, event_rules, event_templates, keys
from . import plain_words


class CacheEventRule(models.Model):
    _name = 'cache.event.rule'
    _description = "Cache Event Rule"
    _order = 'sequence, id'
    _rec_name = 'event'

    sequence = fields.Integer(default=10)
    active = fields.Boolean(default=True)
    event = fields.Char(
        required=True,
        index=True,
        help="A model and what happens to its records, such as res.partner.created, "
        "res.partner.updated or res.partner.deleted; or "
        + ", ".join(event_names.BUSINESS_EVENTS)
        + "; or another name in capitals that a module emits.",
    )
    model = fields.Char(
        string="Technical Name",
        compute='_compute_model',
        help="Of the model that the condition is about; for an event of several models the first "
        "one that is installed.",
    )
    idle = fields.Boolean(
        compute='_compute_model',
        help="No installed model causes the event, and no module emits it.",
    )
    about = fields.Char(
        compute='_compute_model',
        help="The installed models whose records cause the event.",
    )
    condition = fields.Char(
        help="Only records that match it count. An updated record counts if it matches after the "
        "change, or may have matched before; a deleted one always counts."
    )
    field_names = fields.Char(
        string="Changed Fields",
        help="An update only counts if one of these fields was changed: technical names, "
        "separated by commas. Empty: any field. Creations and deletions always count.",
    )
    names = fields.Text(
        string="Remove",  # required by _check_rule, with a sentence
        help="Names of cached values, one a line, without v1: in front. {id} is the record, {uid} "
        "the user who changed it, {partner_id} the field of that name; * is anything.",
    )
    note = fields.Text(string="Reason", help="Why this rule exists, for the next administrator.")
    errors = fields.Integer(
        string="Failures",
        readonly=True,
        copy=False,
        default=0,
        help="How many transactions met this rule when it could not be evaluated. All that it "
        "may have asked for was removed then.",
    )
    last_error = fields.Char(readonly=True, copy=False, groups='tiered_cache.group_cache_admin')
    last_error_at = fields.Datetime(string="Last Failure", readonly=True, copy=False)

    @api.depends('event')
    def _compute_model(self):
        for rule in self:
            names = [model._name for model in rule._models()]
            rule.model = names[0] if names else False
            rule.about = ", ".join(names) or rule._why_nothing()
            rule.idle = not names and bool(event_names.sources_of(rule.event or ''))

    @api.model_create_multi
    def create(self, vals_list):
        rules = super().create([self._checked_vals(vals) for vals in vals_list])
        self._tell_workers()
        return rules

    def write(self, vals):
        result = super().write(self._checked_vals(vals))
        self._tell_workers()
        return result

    def unlink(self):
        result = super().unlink()
        self._tell_workers()
        return result

    def _register_hook(self):
        super()._register_hook()
        if self.pool.updated_modules:
            event_rules.remove_at_large(self.env.cr)

    def action_forget_failures(self):
        """The cause is mended: begin to count anew."""
        self.write({'errors': 0, 'last_error': False, 'last_error_at': False})

    @api.model
    def _tell_workers(self):
        # what rules want is in the memory of every worker, see services/events.py
        self.env.registry.clear_cache()

    @api.model
    def _checked_vals(self, vals):
        """Tidy values, so that what is stored is what is meant."""
        vals = dict(vals)
        for name in ('event', 'condition', 'field_names', 'names'):
            if name in vals and not isinstance(vals[name], str):
                vals[name] = str(vals[name]) if vals[name] else False
        if vals.get('event'):
            vals['event'] = vals['event'].strip()
        if 'field_names' in vals:
            vals['field_names'] = ', '.join(event_rules.split_names(vals['field_names'] or ''))
        if vals.get('names'):
            lines = (line.strip() for line in vals['names'].splitlines())
            vals['names'] = '\n'.join(
                line.removeprefix(event_templates.PREFIX) for line in lines if line
            )
        return vals

    @api.constrains('event', 'condition', 'field_names', 'names')
    def _check_rule(self):
        for rule in self:
            rule._check_event()
            rule._check_names()
            rule._check_field_names()
            rule._check_condition()

    def _check_event(self):
        if not event_names.is_event_name(self.event):
            raise ValidationError(
                self.env._(
                    "%s is no event. Give a model and what happens to it, such as "
                    "res.partner.updated (or created, or deleted), or a name in capitals, such as "
                    "ORDER_UPDATED.",
                    self.event,
                )
            )

    def _check_names(self):
        try:
            templates = event_templates.parse_all(self.names)
        except keys.InvalidKey as error:
            raise ValidationError(plain_words.error(self.env, error)) from None
        if not templates:
            raise ValidationError(self.env._("Say what shall be removed, one name a line."))
        models_ = self._models()
        for name in {name for template in templates for name in template.placeholders}:
            if name in ('id', 'uid') or not models_:
                continue
            if not any(_can_stand_in_names(model, name) for model in models_):
                raise ValidationError(
                    self.env._(
                        "{%(name)s} cannot stand in a name: give a stored field of %(models)s that "
                        "holds a record, records, a whole number, a text or a selection.",
                        name=name,
                        models=", ".join(model._name for model in models_),
                    )
                )

    def _check_field_names(self):
        models_ = self._models()
        for name in event_rules.split_names(self.field_names) if models_ else ():
            if not any(name in model._fields for model in models_):
                raise ValidationError(
                    self.env._(
                        "%(models)s has no field %(name)s, so it can never change.",
                        name=name,
                        models=", ".join(model._name for model in models_),
                    )
                )

    def _check_condition(self):
        try:
            condition = Domain(event_rules.parse_condition(self.condition))
        except ValueError as error:
            raise ValidationError(plain_words.error(self.env, error)) from None
        for model in self._models():
            try:
                condition.validate(model.sudo())
            except Exception as error:
                raise ValidationError(
                    self.env._(
                        "The condition cannot be asked of %(model)s: %(error)s",
                        model=model._name,
                        error=error,
                    )
                ) from error

    def _why_nothing(self):
        """Why no installed model causes the event."""
        if not event_names.is_event_name(self.event):
            return False
        if event_names.sources_of(self.event):
            return self.env._("Not installed")
        return self.env._("Emitted by modules")

    def _models(self):
        """The models whose records the event is about, as far as they are installed."""
        if not event_names.is_event_name(self.event):
            return []
        sources = event_names.existing_sources(self.env.registry, self.event)
        return [self.env[source.model] for source in sources]


def _can_stand_in_names(model, name):
    return event_rules.is_column(model, name) or event_rules.is_relation(model, name)
