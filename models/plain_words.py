"""What a rule or a namespace means, in words, from what is in its form.

The one idea: the sentences say what will happen, with the values that count in the end, those of
Settings included; nobody has to know what an empty field stands for.

What may go wrong: a sentence and the engine disagree.  ``tests/test_plain_words.py`` compares the
numbers with the plan that the engine makes.
"""

from markupsafe import Markup

from odoo.tools import formatLang

from ..services import policy
from ..services.sentences import Sentence

TIER_NAMES = {'l1': "L1", 'l2': "L2", 'l3': "L3"}


def error(env, found):
    """What went wrong, in the reader's language where services have a sentence for it.

    :param found: an exception, or a text
    """
    text = found
    if isinstance(found, BaseException):
        text = found.args[0] if found.args else str(found)
    if isinstance(text, Sentence):
        return text.told(lambda source, **values: _told(env, source, values))
    return str(found)


def _told(env, source, values):
    if 'unit' in values:
        values['unit'] = unit(env, values['unit'])
    return env._(source, **values)


def of_rule(rule, settings):
    """A list of sentences about a ``cache.rule``, as HTML.

    :param settings: the options in force
    """
    methods = rule._about()
    if len(methods) == len(policy.METHODS):
        what = rule.env._("All reads of %s", rule.model_id.name)
    else:
        what = rule.env._(
            "%(methods)s of %(model)s", methods=", ".join(methods), model=rule.model_id.name
        )
    if not rule.enabled:
        return _list([what, rule.env._("are computed each time, as without the cache.")])
    consistency = rule.consistency or settings.consistency
    sentences = [what, _freshness(rule, consistency, settings)]
    for tier in policy.TIERS:
        if rule[f'use_{tier}']:
            ttl_s = rule[f'{tier}_ttl_s'] or getattr(settings, f'{tier}_ttl_s')
            floor = rule.min_cost_ms
            cost_ms = floor if floor >= 0 else getattr(settings, f'{tier}_min_cost_ms')
            sentences.append(_place(rule.env, tier, ttl_s, cost_ms, settings))
    left_out = [TIER_NAMES[tier] for tier in policy.TIERS if not rule[f'use_{tier}']]
    if left_out:
        sentences.append(rule.env._("are not kept in %s.", ", ".join(left_out)))
    return _list(sentences)


def of_namespace(namespace):
    """A list of sentences about a ``cache.namespace``, as HTML."""
    sentences = [namespace.env._("Values whose names begin with %s", namespace.name)]
    sentences.append(
        {
            'strong': namespace.env._(
                "are always what the database shows the reader at that moment."
            ),
            'weak': namespace.env._("may be outdated until their time to live is over."),
            'eventual': namespace.env._("may be a few moments behind what others have changed."),
            False: namespace.env._(
                "are as fresh as their code says, if it says nothing, always exact."
            ),
        }[namespace.consistency]
    )
    sentences.append(
        {
            'user': namespace.env._("are each user's own."),
            'company': namespace.env._(
                "are shared, at most, by users of the same companies and language."
            ),
            'all': namespace.env._("are shared as widely as their code lets them."),
            False: namespace.env._(
                "are shared as their code says, if it says nothing, each user has their own."
            ),
        }[namespace.sharing]
    )
    for tier in policy.TIERS:
        where = _where(namespace.env, tier)
        ttl_s = namespace[f'{tier}_ttl_s']
        if not namespace[f'use_{tier}']:
            sentences.append(namespace.env._("are not kept in %s.", where))
        elif ttl_s:
            time = duration(namespace.env, ttl_s)
            sentences.append(
                namespace.env._("are kept in %(where)s for %(time)s.", where=where, time=time)
            )
    if namespace.fail_safe_s:
        time = duration(namespace.env, namespace.fail_safe_s)
        sentences.append(
            namespace.env._("stand in for new ones that cannot be computed, for another %s.", time)
        )
    return _list(sentences)


def _freshness(rule, consistency, settings):
    if consistency == 'strong':
        return rule.env._("are always what the database shows the reader at that moment.")
    if consistency == 'weak':
        return rule.env._("may be outdated until their time to live is over.")
    seconds = number(rule.env, rule.max_staleness_s or settings.max_staleness_s)
    return rule.env._("may be %s seconds behind what others have changed.", seconds)


def _place(env, tier, ttl_s, cost_ms, settings):
    where = _where(env, tier)
    off = (tier == 'l2' and not settings.redis_url) or (tier == 'l3' and not settings.l3_enabled)
    if off:
        return env._("would be kept in %s, which is not in use.", where)
    return env._(
        "are kept in %(where)s for %(time)s, if they took %(cost)s ms or more.",
        where=where,
        time=duration(env, ttl_s),
        cost=number(env, cost_ms),
    )


def _where(env, tier):
    return {
        'l1': env._("the memory of each worker"),
        'l2': env._("Redis"),
        'l3': env._("the database"),
    }[tier]


def _list(sentences):
    first, *others = sentences
    items = Markup().join(Markup("<li>{}</li>").format(sentence) for sentence in others)
    return Markup("<div class='fw-bold'>{}</div><ul class='mb-0 ps-3'>{}</ul>").format(first, items)


def number(env, value):
    """A number as people write it, without useless zeros."""
    return formatLang(env, value, digits=0 if float(value).is_integer() else 1)


def unit(env, name):
    """The unit of an option, in the reader's language.

    :param name: as in ``services/options.py``
    """
    return {
        'days': env._("days"),
        'entries': env._("entries"),
        'kilobytes': env._("kilobytes"),
        'megabytes': env._("megabytes"),
        'milliseconds': env._("milliseconds"),
        'per cent': env._("per cent"),
        'rows': env._("rows"),
        'seconds': env._("seconds"),
    }.get(name, name)


def duration(env, seconds):
    """A time to live as people say it."""
    for unit_s, one, many in (
        (86400, env._("1 day"), env._("%s days")),
        (3600, env._("1 hour"), env._("%s hours")),
        (60, env._("1 minute"), env._("%s minutes")),
        (1, env._("1 second"), env._("%s seconds")),
    ):
        if seconds >= unit_s and seconds % unit_s == 0:
            count = seconds // unit_s
            return one if count == 1 else many % number(env, count)
    return env._("%s seconds", number(env, seconds))
