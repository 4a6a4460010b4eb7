"""Sentences for people, written where nobody knows their language yet.

The one idea: a sentence is the English text and remembers what it was made of, so whoever has an
environment at hand says it in the reader's language (``plain_words.sentence``), and logs and
programs read English.  Translations find the text since it stands in ``_lt(…)``.

What may go wrong: a sentence that becomes part of another text by ``f'{…}'`` is English from then
on.
"""

from __future__ import annotations


class Sentence(str):
    """A text with its parts.

    :param source: with ``%(name)s`` for each value
    :ivar values: by name; a value may be a sentence too
    """

    source: str
    values: dict

    def __new__(cls, source: str, /, **values):
        self = super().__new__(cls, source % values if values else source)
        self.source, self.values = source, values
        return self

    def __getnewargs_ex__(self):
        return (self.source,), self.values

    def told(self, tell) -> str:
        """:param tell: ``tell(source, **values)``, such as ``env._``"""
        values = {
            name: value.told(tell) if isinstance(value, Sentence) else value
            for name, value in self.values.items()
        }
        return tell(self.source, **values)


_lt = Sentence
