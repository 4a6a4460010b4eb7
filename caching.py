"""``@cached``: a method of a model whose results are kept.

    from odoo.addons.tiered_cache import cached

    class ProductTemplate(models.Model):
        _inherit = 'product.template'

        @cached('product:catalog:{category_id}', ttl_s=300)
        def catalog(self, category_id):
            ...

The one idea: the template gives the name by which people remove entries; what tells results apart
is everything that the method was called with: model, method, records, all arguments, context, and
who may share them.  So a template that leaves out an argument is no mistake.

What may go wrong: an argument or a context value without a canonical form (records, functions): the
method is computed, and counted as 'uncacheable'.
"""

from __future__ import annotations

import functools
import inspect
import string

from .models.read_through import call_of
from .services import answering, calls, key_families, keys, named
from .services.engine import engine_for
from .services.named_plan import BadOption, plan_for


def cached(template: str, *, depends=(), **options):
    """Keep what a method returns.

    :param template: name of the entries, with arguments of the method in braces; ``{id}`` is the
        record's id
    :param depends: models or tables that results depend on besides those that are recorded
    :param options: see ``docs/named-entries.md``
    :raise BadOption: for an option that cannot be, or a name in braces that is no argument
    """
    plan_for(options)
    fields = [name for _text, name, _format, _conversion in string.Formatter().parse(template)]
    fields = [name for name in fields if name is not None]

    def decorate(method):
        signature = inspect.signature(method)
        unknown = [n for n in fields if n != 'id' and n not in list(signature.parameters)[1:]]
        if unknown:
            raise BadOption(
                f'{template!r} names {unknown[0]!r}, which is not an argument of {method.__name__}.'
            )

        @functools.wraps(method)
        def wrapper(self, *args, **kwargs):
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            arguments = list(bound.arguments.items())[1:]
            values = dict(arguments, id=self.id) if 'id' in fields else dict(arguments)
            engine, label = engine_for(self.env.registry), (self._name, method.__name__)
            try:
                text = template.format(**{name: _part(values[name]) for name in fields})
            except keys.Unkeyable as error:
                answering.count_unkeyable(engine, label, error)
                engine = None
            if engine is None:
                return method(self, *args, **kwargs)
            plan = engine.config.named_plan(text, options)
            extra = self._ids, arguments, _context(self.env, plan)
            name = named.Name(text, extra, label)
            relations = named.relations_of(engine, self.env.registry, depends)

            def describe():
                return call_of(self, calls.NAMED, method.__name__, text, args, kwargs)

            return answering.answer(
                engine,
                named.Call(self.env, name, plan, relations, describe),
                lambda env: method(self.with_env(env), *args, **kwargs),
            ).value

        return wrapper

    return decorate


def _part(value) -> str:
    """An argument as a part of a name; what is neither a number nor a text is hashed."""
    if type(value) in (int, str):
        return key_families.write_part(value)
    return key_families.digest(value)


def _context(env, plan) -> dict | None:
    """The whole context, unless results are shared by people who have others."""
    if plan.sharing != 'user':
        return None
    return dict(sorted(env.context.items()))
