"""Direct identifiers in tables: what identifies a person by the name of its column, or certainly by its content.

Names are known in nine languages (``identifier_words``). A cell is known by its content where that is certain: an
e-mail address, a bank account, a telephone number, an identity number of a form that nothing else has, a DICOM UID.
Numbers that others could also be are known by their check digits over a whole column (``personal_numbers``). What is
recognised stays out of a dataset unless a person asks for the column by name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from archipel.data.tables import identifier_words as words
from archipel.data.tables.personal_numbers import certain_number

_BY_NAME = {name: what for what, names in words.WHOLE.items() for name in names.split()}
_BY_PART = {name: what for what, names in words.INSIDE.items() for name in names.split()}
_LETTERS = str.maketrans({"\u00df": "ss", "\u00f8": "o", "\u00e6": "ae", "\u0142": "l"})
_SECOND_IDS = frozenset(words.ID_NAMES) - {"patient", "participant"}
"""Columns called patient may say who is one, and who a control."""
_EMAIL_TEXT = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(\.[\w-]{1,63})*\.[A-Za-z]{2,24}(?![\w-])")
_ABROAD = re.compile(r"(\+|00(?=[2-9]\d{1,2}[ /(]))[1-9](?:[\s()/.-]{0,2}\d){7,14}")
"""A telephone number with the code of its country; after 00 where a space or the like follows a code of two digits."""
_AT_HOME = re.compile(
    r"0[1-9]\d \d{3} \d{2} \d{2}|0[1-9](?:[ .]\d{2}){4}|0[1-9]\d{1,4} ?/ ?\d{3,8}(?: \d{2,4}){0,3}|"
    r"\(0[1-9]?\d{0,4}\) ?[1-9]?\d{2,4}(?:[ /-]?\d{2,8}){1,4}|0[1-9]\d{2} \d{6,8}|0[1-9]\d{1,3} \d{3,4} \d{4}"
)
"""079 123 45 67, 06 12 34 56 78, 030/1234567, (030) 1234567, 0171 1234567, 020 7946 0958."""
_SAID = re.compile(
    r"(?<![a-z])(?:tel|telefon|telephone|t\u00e9l|phone|mobile?|handy|natel|fax)\b\.?(?: ?n[ro]\.?)?:? ?"
    r"(?:\+|\(?0)\d(?:[\s()/.-]{0,2}\d){7,14}",
    re.IGNORECASE,
)
_FEWEST_DIGITS = 9
_DIGITS = re.compile(r"\d[\d\s()/.-]{6,}\d")
"""Digits with signs between them, as each of the numbers has that are searched for."""
_IBAN_TEXT = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}")
_UID = re.compile(r"[0-2](?:\.(?:0|[1-9]\d*)){6,}")
_OF_THE_STANDARD = "1.2.840.10008."
"""UIDs of DICOM itself name kinds of images and encodings."""


def identifying_column(name: str) -> str:
    """What a column of this name holds of a person; "" when its name says nothing of that.

    >>> identifying_column("Geburts-Datum"), identifying_column("E-Mail"), identifying_column("scanner_name")
    ('a birth date', 'an e-mail address', '')
    """
    # An inner capital begins a word: birthDate.
    split = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    folded = unicodedata.normalize("NFKD", split.casefold().translate(_LETTERS))
    parts = re.findall(r"[a-z0-9]+", "".join(one for one in folded if not unicodedata.combining(one)))
    plain = "".join(parts)
    if plain in ("email", "emails"):
        return words.EMAIL
    if plain in _BY_NAME and plain != "patient":
        return _BY_NAME[plain]
    for part, what in _BY_PART.items():
        if part in plain:
            return what
    # "patient phone", "pat_name", "contact e-mail": a person's word beside what would identify alone.
    rest = [one for one in parts if one not in words.OF_A_PERSON]
    if len(rest) < len(parts) and rest:
        return words.EMAIL if "".join(rest) == "email" else _BY_NAME.get("".join(rest), "")
    return ""


def second_id(name: str) -> str:
    """What a column is by its name where another one has the ids of the patients; "" when its name is not an id's.

    >>> second_id("Patienten-ID"), second_id("lesion_id")
    ('another id of the patient', '')
    """
    plain = "".join(one for one in name.casefold() if one.isalnum())
    return words.SECOND_ID if plain in _SECOND_IDS else ""


def column_of_ids(names: Sequence[str]) -> str:
    """The column that most likely has the patients' ids, by its name; "" where no name says so.

    >>> column_of_ids(["image", "Patient ID", "age"])
    'Patient ID'
    """
    plain = {"".join(one for one in name.casefold() if one.isalnum()): name for name in reversed(names)}
    return next((plain[name] for name in words.ID_NAMES if name in plain), "")


def identifying_text(text: str) -> str:
    """What a cell certainly holds of a person, whatever its column is called; "" for anything else."""
    if "@" in text and _EMAIL_TEXT.search(text):
        return words.EMAIL
    if len(text) < _FEWEST_DIGITS:
        return ""
    if text[:2].isalpha() and len(text) > 14:
        if text[2:4].isdigit() and _is_iban(text):
            return words.ACCOUNT
        if len(text) == 16 and certain_number(text):
            return words.INSURANCE
    # Nearly all texts end here.
    if _DIGITS.search(text) is None:
        return ""
    if _is_phone(text):
        return words.PHONE
    if text[1] == "." and _UID.fullmatch(text) and len(text) > 19 and not text.startswith(_OF_THE_STANDARD):
        return words.EXAMINATION
    return words.INSURANCE if certain_number(text) else ""


def _is_phone(text: str) -> bool:
    if text[0] in "+0(" and sum(map(str.isdigit, text)) >= _FEWEST_DIGITS - 1:
        # +123456789.5 is a number with a sign.
        if _ABROAD.fullmatch(text) and not re.fullmatch(r"\+\d+\.\d+", text):
            return True
        return sum(map(str.isdigit, text)) >= _FEWEST_DIGITS and _AT_HOME.fullmatch(text) is not None
    return not text[0].isdigit() and _SAID.search(text) is not None


def _is_iban(text: str) -> bool:
    """Whether it is an International Bank Account Number (ISO 13616) with the right check digits."""
    plain = text.replace(" ", "").upper()
    if not plain.isascii() or not _IBAN_TEXT.fullmatch(plain):
        return False
    return int("".join(str(int(one, 36)) for one in plain[4:] + plain[:4])) % 97 == 1
