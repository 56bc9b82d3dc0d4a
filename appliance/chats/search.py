"""Full-text search in the chats of one owner, in any language, bounded in time whatever is searched for.

The index (``chat_search``) has a token for every three characters that follow each other, in each message. A word of
three characters and more is looked up as the phrase of its trigrams, one of two (most of Chinese) by the trigrams that
it begins, and a single character only in titles and in the newest messages. Words with spaces between them must all be
in a message. Letters are alike in capitals and not.

Whose message it is stands in the index too, as one trigram of its own (``owner_tag``): what others wrote costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from appliance.chats.errors import BadSearch
from appliance.chats.types import Snippet

MOST_CHARACTERS = 200
MOST_WORDS = 8
MOST_MESSAGES = 500
"""Newest messages that count; a search that finds more needs another word."""
MOST_TITLES = 5_000
"""Newest chats whose titles are looked at."""
MOST_ENDINGS = 400
"""Trigrams that a word of two characters may begin. Two Latin letters begin fewer; two Han characters too, unless a box
has millions of messages."""
NEWEST_SCANNED = 2_000
"""Messages that are read for a single character."""

_KINDS = {"user": "u", "key": "k", "local": "l"}
_FIRST = 0xE000
_BASE = 4096
_BEFORE, _AFTER = 40, 120
_LAST = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Words:
    """What is searched for, in small letters."""

    long: tuple[str, ...]
    two: tuple[str, ...]
    one: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        return self.long + self.two + self.one


def owner_tag(owner: str) -> str:
    """The owner (``user:7``, ``local``) as one trigram: its kind, and two characters of a range that no text uses."""
    kind, _, number = owner.partition(":")
    high, low = divmod(int(number or 0), _BASE)
    return _KINDS[kind] + chr(_FIRST + high % _BASE) + chr(_FIRST + low)


def words_of(query: str) -> Words:
    """Raises BadSearch."""
    if len(query) > MOST_CHARACTERS:
        raise BadSearch(reason=f"it has more than {MOST_CHARACTERS} characters")
    words = query.replace("\0", " ").lower().split()
    if len(words) > MOST_WORDS:
        raise BadSearch(reason=f"it has more than {MOST_WORDS} words")
    try:
        query.encode()
    except UnicodeEncodeError as error:
        raise BadSearch(reason="it holds half a surrogate pair, which is not text") from error
    unique = tuple(dict.fromkeys(words))
    return Words(
        long=tuple(word for word in unique if len(word) > 2),
        two=tuple(word for word in unique if len(word) == 2),
        one=tuple(word for word in unique if len(word) == 1),
    )


def newest_matches(connection: Connection, owner: str, words: Words) -> dict[int, int]:
    """Chats with a message that has all the words, the newest such message first: message ids by chat ids."""
    found: dict[int, int] = {}
    ids = _scanned(connection, owner, words) if not words.long and not words.two else _indexed(connection, owner, words)
    for message_id, chat_id in ids:
        found.setdefault(chat_id, message_id)
    return found


def titled(connection: Connection, owner: str, words: Words) -> list[int]:
    """Ids of the owner's chats with all the words in the title, the newest first."""
    statement = f"SELECT id, title FROM chat WHERE owner = ? ORDER BY updated_at DESC LIMIT {MOST_TITLES}"  # noqa: S608 - a constant
    # Compared here: LIKE takes only ASCII's capitals for the same.
    rows = ((int(row[0]), str(row[1]).lower()) for row in connection.exec_driver_sql(statement, (owner,)))
    return [chat_id for chat_id, title in rows if all(word in title for word in words.all)]


def snippet(message_id: int, content: str, words: Words) -> Snippet:
    """The part of the text around the first word that is found there, on one line."""
    lowered = content.lower()
    if len(lowered) != len(content):  # a few letters become two in small, which would move the marks
        lowered = "".join(small if len(small := letter.lower()) == 1 else letter for letter in content)
    places = [place for word in words.all if (place := lowered.find(word)) >= 0]
    start = max(min(places, default=0) - _BEFORE, 0)
    end = min(start + _BEFORE + _AFTER, len(content))
    text = "".join(" " if letter.isspace() else letter for letter in content[start:end])
    marks = sorted((place, len(word)) for word in words.all for place in _places(lowered[start:end], word))
    ahead, behind = "…" if start else "", "…" if end < len(content) else ""
    return Snippet(
        message_id,
        f"{ahead}{text}{behind}",
        tuple((place + len(ahead), length) for place, length in _apart(marks)),
    )


def _indexed(connection: Connection, owner: str, words: Words) -> list[tuple[int, int]]:
    """(message, chat) by the index, the newest first."""
    parts = [f"owner_tag : {_quoted(owner_tag(owner))}"]
    parts += [f"content : {_quoted(word)}" for word in words.long]
    for word in words.two:
        endings = _trigrams_of(connection, word)
        if not endings:
            return []
        parts.append(f"content : ({' OR '.join(map(_quoted, endings))})")
    likes, letters = _likes("m.content", words.one)
    # The owner is compared once more: a tag's number could come round again after 16 million users.
    statement = (
        f"SELECT m.id, m.chat_id FROM (SELECT rowid FROM chat_search WHERE chat_search MATCH ? "  # noqa: S608 - constants
        f"ORDER BY rowid DESC LIMIT {MOST_MESSAGES}) AS found JOIN chat_message AS m ON m.id = found.rowid "
        f"JOIN chat AS c ON c.id = m.chat_id WHERE c.owner = ? AND {likes} ORDER BY m.id DESC"
    )
    arguments = (" AND ".join(parts), owner, *letters)
    return [(int(row[0]), int(row[1])) for row in connection.exec_driver_sql(statement, arguments)]


def _scanned(connection: Connection, owner: str, words: Words) -> list[tuple[int, int]]:
    """(message, chat) of the newest messages, read one by one."""
    likes, letters = _likes("content", words.one)
    statement = (
        f"SELECT id, chat_id FROM (SELECT m.id, m.chat_id, m.content FROM (SELECT rowid FROM chat_search "  # noqa: S608 - constants
        f"WHERE chat_search MATCH ? ORDER BY rowid DESC LIMIT {NEWEST_SCANNED}) AS newest "
        f"JOIN chat_message AS m ON m.id = newest.rowid JOIN chat AS c ON c.id = m.chat_id WHERE c.owner = ?) "
        f"WHERE {likes} ORDER BY id DESC LIMIT {MOST_MESSAGES}"
    )
    arguments = (f"owner_tag : {_quoted(owner_tag(owner))}", owner, *letters)
    return [(int(row[0]), int(row[1])) for row in connection.exec_driver_sql(statement, arguments)]


def _trigrams_of(connection: Connection, two: str) -> list[str]:
    """The index's trigrams that begin with these two characters."""
    connection.exec_driver_sql(
        "CREATE VIRTUAL TABLE IF NOT EXISTS temp.chat_vocabulary USING fts5vocab('main', 'chat_search', 'row')"
    )
    rows = connection.exec_driver_sql(
        "SELECT term FROM temp.chat_vocabulary WHERE term >= ? AND term < ? LIMIT ?", (two, two + _LAST, MOST_ENDINGS)
    )
    return [str(row[0]) for row in rows]


def _quoted(text: str) -> str:
    """A string of FTS5's query language; whatever is in it, it is no operator there."""
    return '"' + text.replace('"', '""') + '"'


def _likes(column: str, letters: tuple[str, ...]) -> tuple[str, list[str]]:
    """A condition that the column has all the letters, be they capitals or not, and its arguments."""
    arguments = [_like(form) for letter in letters for form in (letter, letter.upper())]
    return " AND ".join(
        ["1", *[f"({column} LIKE ? ESCAPE '!' OR {column} LIKE ? ESCAPE '!')"] * len(letters)]
    ), arguments


def _like(word: str) -> str:
    return "%" + word.replace("!", "!!").replace("%", "!%").replace("_", "!_") + "%"


def _places(text: str, word: str) -> list[int]:
    places: list[int] = []
    place = text.find(word)
    while place >= 0 and len(places) < 20:
        places.append(place)
        place = text.find(word, place + len(word))
    return places


def _apart(marks: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Without those that lie in the one before."""
    kept: list[tuple[int, int]] = []
    for place, length in marks:
        if not kept or place >= kept[-1][0] + kept[-1][1]:
            kept.append((place, length))
    return kept
