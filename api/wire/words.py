"""Rules of pydantic's types in our words: what must be, without what its code does with an input."""

from __future__ import annotations

import re

_WORDS = (
    ("Value error, ", ""),
    ("(a )?valid dictionary( or object to extract fields from)?", "an object"),
    ("a valid (list|tuple)", "an array"),
    ("a valid integer(, [^']*?)?(?=$|, or )", "a whole number"),
    ("a valid number(, [^']*?)?(?=$|, or )", "a number"),
    ("a valid boolean(, [^']*?)?(?=$|, or )", "true or false"),
    ("a valid string", "text"),
    ("greater than or equal to", "at least"),
    ("less than or equal to", "at most"),
    ("^Input should be (?=')", "must be one of "),
    ("^Input should be ", "must be "),
    ("^(String|List|Tuple|Dictionary) should have ", "must have "),
)


def in_words(message: str) -> str:
    """The rule that pydantic's message states; a message of our own as it is."""
    for theirs, ours in _WORDS:
        message = re.sub(theirs, ours, message)
    return message
