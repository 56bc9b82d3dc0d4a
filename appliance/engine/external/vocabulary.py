"""The tokens of a model in Hugging Face's form: text to ids, ids to bytes.

Only byte-level vocabularies (GPT-2's alphabet, as Qwen, Llama 3 and DeepSeek have it) are taken: there every token is a
known row of bytes, so the text of any tokens is exact whatever pieces they come in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from tokenizers import Tokenizer

from appliance.engine.llamacpp.thought import word_marks
from appliance.engine.request import TextSegment
from appliance.errors import EngineStartFailed

TOKENIZER_FILE = "tokenizer.json"
MAX_FILE_BYTES = 256 * 1024 * 1024
_MAX_TOKENS = 4_000_000
_SHOWN_WORDS = ("think", "tool")
"""Tags that belong in the text even where a tokenizer calls them special: thoughts and tool calls are found by them."""


class Vocabulary:
    """One model's tokens. Read-only, so it may be used from any thread; ``encode`` lets go of Python's lock.

    ``pieces`` are the bytes that each token adds to the text, empty for one that is not shown and for a gap. ``marks``
    as ``word_marks`` gives them, ``breaks`` the tokens of line breaks alone.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        names: Sequence[bytes],
        hidden: frozenset[int],
        added: Iterable[str],
        ends: frozenset[int] = frozenset(),
        bos: int | None = None,
    ) -> None:
        """``ends`` are the tokens that end a text, ``bos`` begins one where the model has such a token."""
        self._tokenizer = tokenizer
        self._ends = ends
        self.bos = bos
        self._names = names
        self._added = tuple(sorted((token for token in added if len(token) > 1 and not token.isspace()), key=len))
        self.pieces = [b"" if token in hidden else name for token, name in enumerate(names)]
        self.marks = word_marks(self.pieces)
        self.breaks = frozenset(token for token, piece in enumerate(self.pieces) if piece and not piece.strip(b"\r\n"))
        self.longest_token_bytes = max(map(len, names), default=1)

    @classmethod
    def open(cls, folder: Path) -> Vocabulary:
        """The vocabulary of a model's folder. Blocks for a second with a large one.

        Raises EngineStartFailed (``tokenizer_unusable``) when there is none, or one of another kind.
        """
        file = folder / TOKENIZER_FILE
        try:
            if file.stat().st_size > MAX_FILE_BYTES:
                raise _unusable(f"{TOKENIZER_FILE} is larger than {MAX_FILE_BYTES:,} bytes")
            raw = file.read_bytes()
            described = msgspec.json.decode(raw, type=_File)
            tokenizer = Tokenizer.from_str(raw.decode())
        except OSError as error:
            raise _unusable(f"{TOKENIZER_FILE} cannot be read ({error.strerror or error})") from error
        except (ValueError, TypeError) as error:
            raise _unusable(f"{TOKENIZER_FILE} is damaged: {str(error)[:200]}") from error
        except Exception as error:
            raise _unusable(f"{TOKENIZER_FILE} is not taken: {str(error)[:200]}") from error
        # A cut or filled prompt would not be the one that was counted.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        added = [token.content for token in described.added_tokens]
        bos = _named_token(_json(folder / "tokenizer_config.json"), "bos_token", tokenizer)
        return cls(tokenizer, *_tokens(described), added, _ends(folder, tokenizer), bos)

    @property
    def size(self) -> int:
        """One more than the largest token id."""
        return len(self._names)

    def name(self, token: int) -> bytes:
        """The token's bytes, also of one that is not shown."""
        return self._names[token] if 0 <= token < len(self._names) else b""

    def piece(self, token: int) -> bytes:
        """What the token adds to the text; nothing for an id that the vocabulary does not have."""
        return self.pieces[token] if 0 <= token < len(self.pieces) else b""

    def ends(self, token: int) -> bool:
        """Whether the token ends a text."""
        return token in self._ends

    def id_of(self, text: str) -> int | None:
        """The id of a control token by its text."""
        found: int | None = self._tokenizer.token_to_id(text)
        return found

    def text(self, tokens: Iterable[int]) -> str:
        """All of the tokens as text, control tokens too."""
        return b"".join(self.name(token) for token in tokens).decode(errors="replace")

    def encode(self, segments: Sequence[TextSegment]) -> list[int]:
        """Ids of the segments in order, nothing added. In one that is not trusted no control token is found."""
        tokens: list[int] = []
        for segment in segments:
            for text in (segment.text,) if segment.trusted else self._harmless(segment.text):
                tokens += self._tokenizer.encode(text, add_special_tokens=False).ids
        return tokens

    def _harmless(self, text: str) -> list[str]:
        """The text cut inside each control token that it spells: a token is never found across two pieces."""
        pieces = []
        while (place := min((at for at in map(text.find, self._added) if at >= 0), default=-1)) >= 0:
            pieces.append(text[: place + 1])
            text = text[place + 1 :]
        return [*pieces, text]


class _Added(msgspec.Struct, frozen=True):
    id: int
    content: str
    special: bool = False


class _File(msgspec.Struct, frozen=True):
    model: dict[str, Any]
    added_tokens: tuple[_Added, ...] = ()
    decoder: dict[str, Any] | None = None


def _tokens(file: _File) -> tuple[list[bytes], frozenset[int]]:
    """The bytes of all tokens by id, and which are not shown."""
    vocabulary = file.model.get("vocab")
    if file.model.get("type", "BPE") != "BPE" or not isinstance(vocabulary, dict) or not _is_byte_level(file.decoder):
        raise _unusable("its vocabulary is not byte-level BPE, the only kind that R1 models have")
    if not all(isinstance(token, int) and 0 <= token < _MAX_TOKENS for token in vocabulary.values()):
        raise _unusable("its vocabulary numbers tokens in a way nobody can follow")
    size = max([*vocabulary.values(), *(token.id for token in file.added_tokens)], default=-1) + 1
    if not 0 < size <= _MAX_TOKENS:
        raise _unusable("its vocabulary is empty, or too large")
    alphabet = _byte_alphabet()
    names = [b""] * size
    for text, token in vocabulary.items():
        try:
            names[token] = bytes(alphabet[character] for character in text)
        except KeyError:
            names[token] = text.encode()
    hidden = set()
    for added in file.added_tokens:
        names[added.id] = added.content.encode()
        if added.special and not any(word in added.content for word in _SHOWN_WORDS):
            hidden.add(added.id)
    return names, frozenset(hidden)


def _ends(folder: Path, tokenizer: Tokenizer) -> frozenset[int]:
    """What the model's own files say ends a text: ids of generation_config.json and config.json, and the tokenizer's
    ``eos_token``."""
    found: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        said = _json(folder / name).get("eos_token_id")
        found.update(token for token in (said if isinstance(said, list) else [said]) if isinstance(token, int))
    named = _named_token(_json(folder / "tokenizer_config.json"), "eos_token", tokenizer)
    return frozenset(found if named is None else {*found, named})


def _named_token(settings: dict[str, Any], name: str, tokenizer: Tokenizer) -> int | None:
    said = settings.get(name)
    if isinstance(said, dict):
        said = said.get("content")
    found: int | None = tokenizer.token_to_id(said) if isinstance(said, str) else None
    return found


def _json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            return {}
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except (OSError, ValueError):
        return {}


def _is_byte_level(decoder: dict[str, Any] | None) -> bool:
    if decoder is None:
        return False
    if decoder.get("type") == "Sequence":
        return any(_is_byte_level(one) for one in decoder.get("decoders", ()) if isinstance(one, dict))
    return decoder.get("type") == "ByteLevel"


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's letters for the 256 bytes: printable ones stand for themselves, the others come after 255 in order."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}


def _unusable(reason: str) -> EngineStartFailed:
    return EngineStartFailed(cause=f"its tokenizer cannot be used: {reason}", cause_code="tokenizer_unusable")
