"""Direct identifiers in tables: names, birth dates, insurance numbers, e-mail, telephone and postal addresses.

A column is recognised by its name in English, German, French, Spanish, Italian, Dutch and Portuguese. A cell is
recognised by its content where that is certain: an e-mail address, a bank account (IBAN) or an international telephone
number. What is recognised stays out of a dataset unless a person asks for the column by name.
"""

from __future__ import annotations

import re
import unicodedata

_NAME, _BIRTH, _INSURANCE = "a person's name", "a birth date", "an insurance or identity number"
_EMAIL, _PHONE, _ADDRESS, _ACCOUNT = "an e-mail address", "a telephone number", "a postal address", "a bank account"

_WHOLE: dict[str, str] = {
    _NAME: """name names fullname initials nom noms prenom prenoms nombre nombres apellido apellidos nome nomi cognome
        naam voornaam achternaam tussenvoegsel initialen sobrenome apelido apelidos vorname nachname familienname
        namen geburtsname maidenname nomjeunefille nomdenaissance patient patientname""",
    _BIRTH: "dob birth born birthday gebdat gebdatum gebdt datenais ddn fechanac fnac datanasc nascita nascimento",
    _INSURANCE: """ssn nhs nhsnumber nhsno mrn ahv avs ahvnr avsnumber nir insee secu dni nif nie nuss cip codicefiscale
        cf bsn cpf sns kvnr versnr svnr nino mbi niss rijksregisternummer""",
    _EMAIL: "mail emails correo correoelectronico courriel posta",
    _PHONE: "phone phones tel telefon telefone telefono telephone mobile handy natel fax gsm portable cellulare movil "
    "telemovel celular telefoon",
    _ADDRESS: """address addresses addr adresse adressen anschrift street strasse str hausnummer plz postleitzahl zip
        zipcode postcode postalcode codepostal codigopostal codicepostale codpostal rue calle direccion indirizzo
        domicilio domicile adres straat endereco morada rua wohnort""",
    _ACCOUNT: "iban accountnumber kontonummer",
}  # fmt: skip
_INSIDE: dict[str, str] = {
    _NAME: """firstname lastname surname familyname givenname middlename patientname nameofpatient patientenname vorname
        nachname familienname nomdefamille nomdupatient prenom apellido nombredelpaciente nombrepaciente cognome
        nomepaziente nomedelpaziente voornaam achternaam sobrenome nomedopaciente nomepaciente mothername mothersname
        fathername fathersname""",
    _BIRTH: """birthdate dateofbirth birthday birthdt geburtsdat geburtstag datedenaissance datenaissance
        fechadenacimiento fechanacimiento datadinascita datanascita geboortedatum datadenascimento datanascimento
        datadenacimento""",
    _INSURANCE: """socialsecurity insurancen insuranceid healthcaren healthcardn medicalrecordn nationalid passport
        versichertenn versicherungsn krankenkassenn sozialversicherungsn ahvnummer numerodesecu securitesociale
        numeroavs seguridadsocial numeroseguro tarjetasanitaria tesserasanitaria numeroassicura burgerservicen
        verzekeringsn numerodeutente numeroseguranca cartaodesaude""",
    _EMAIL: "emailaddress mailadresse adressemail correoelectronico indirizzoemail enderecodeemail",
    _PHONE: """phonenumber telephonenumber telefonnummer telefonnr mobilnummer mobilenumber numerodetelephone
        numerotelefono numerodetelefono telefoonnummer numerodetelefone""",
    _ADDRESS: "homeaddress streetaddress postaladdress wohnadresse postadresse adressepostale codigopostal huisnummer",
}  # fmt: skip
_BY_NAME = {name: what for what, names in _WHOLE.items() for name in names.split()}
_BY_PART = {name: what for what, names in _INSIDE.items() for name in names.split()}
_OF_A_PERSON = frozenset(
    ("patient", "pat", "patienten", "subject", "participant", "person", "contact", "kontakt", "paciente", "paziente")
)
_LETTERS = str.maketrans({"\u00df": "ss", "\u00f8": "o", "\u00e6": "ae"})
_EMAIL_TEXT = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(\.[\w-]{1,63})*\.[A-Za-z]{2,24}(?![\w-])")
_PHONE_TEXT = re.compile(r"\+[1-9](?:[\s()/.-]{0,2}\d){7,14}")
_IBAN_TEXT = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}")


def identifying_column(name: str) -> str:
    """What a column of this name holds of a person; "" when its name says nothing of that.

    >>> identifying_column("Geburts-Datum"), identifying_column("E-Mail"), identifying_column("scanner_name")
    ('a birth date', 'an e-mail address', '')
    """
    # An inner capital begins a word: birthDate.
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    folded = unicodedata.normalize("NFKD", words.casefold().translate(_LETTERS))
    parts = re.findall(r"[a-z0-9]+", "".join(one for one in folded if not unicodedata.combining(one)))
    plain = "".join(parts)
    if plain in ("email", "emails"):
        return _EMAIL
    if plain in _BY_NAME and plain != "patient":
        return _BY_NAME[plain]
    for part, what in _BY_PART.items():
        if part in plain:
            return what
    # "patient phone", "pat_name", "contact e-mail": a person's word beside what would identify alone.
    rest = [one for one in parts if one not in _OF_A_PERSON]
    if len(rest) < len(parts) and rest:
        return _EMAIL if "".join(rest) == "email" else _BY_NAME.get("".join(rest), "")
    return ""


def identifying_text(text: str) -> str:
    """What a cell certainly holds of a person, whatever its column is called; "" for anything else."""
    if "@" in text:
        return _EMAIL if _EMAIL_TEXT.search(text) else ""
    if text.startswith("+"):
        return _PHONE if _is_phone(text) else ""
    return _ACCOUNT if len(text) > 14 and text[:2].isalpha() and _is_iban(text) else ""


def _is_phone(text: str) -> bool:
    # +123456789.5 is a number with a sign.
    return _PHONE_TEXT.fullmatch(text) is not None and not re.fullmatch(r"\+\d+\.\d+", text)


def _is_iban(text: str) -> bool:
    """Whether it is an International Bank Account Number (ISO 13616) with the right check digits."""
    plain = text.replace(" ", "").upper()
    if not plain.isascii() or not _IBAN_TEXT.fullmatch(plain):
        return False
    return int("".join(str(int(one, 36)) for one in plain[4:] + plain[:4])) % 97 == 1
