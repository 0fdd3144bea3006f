"""Direct identifiers stay out of a dataset unless a person asks for a column by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from archipel.data import format_named, scan
from archipel.data.tables.identifiers import identifying_column, identifying_text


@pytest.mark.parametrize(
    "name",
    ["Name", "patient_name", "PatientName", "last name", "surname", "Nachname", "Vorname", "Pat.-Name", "Nom", "Prénom",
     "apellidos", "Nombre del paciente", "Cognome", "nome", "Achternaam", "voornaam", "sobrenome", "mother's name",
     "birth_date", "birthDate", "DOB", "date of birth", "Geburtsdatum", "Geb.-Datum", "date de naissance",
     "Fecha de nacimiento", "data_di_nascita", "Geboortedatum", "data de nascimento", "birthday",
     "SSN", "social security number", "NHS number", "AHV-Nr.", "Versichertennummer", "numéro de sécu",
     "codice fiscale", "BSN", "CPF", "DNI", "insurance_id",
     "email", "E-Mail", "e-mail address", "courriel", "correo electrónico", "patient email",
     "phone", "Telefon", "téléphone", "teléfono", "telefono", "telefoonnummer", "Mobile", "Handy-Nr"[:5],
     "address", "Adresse", "Straße", "PLZ", "zip code", "postcode", "rue", "dirección", "indirizzo", "endereço"],
)  # fmt: skip
def test_a_column_is_known_by_its_name_in_seven_languages(name: str) -> None:
    assert identifying_column(name)


@pytest.mark.parametrize(
    "name",
    ["age", "sex", "site", "scanner_name", "hospital", "drug name", "diagnosis", "birth weight", "birthweight_g",
     "age at birth", "female", "telomere", "male", "tumour_name", "stage", "phonation", "patient", "patient_id",
     "visit_date", "date", "group", "mailing", "number", "id", "weight", "name_of_sequence", "streptococcus",
     "nominal", "plzt_count", "via", "handedness", "mobility", "zipper"],
)  # fmt: skip
def test_a_column_that_says_nothing_of_a_person_is_kept(name: str) -> None:
    assert identifying_column(name) == ""


@pytest.mark.parametrize(
    ("text", "what"),
    [("ann@example.org", "an e-mail address"), ("call ann.b+c@mail.example.org", "an e-mail address"),
     ("+41 79 123 45 67", "a telephone number"), ("+491701234567", "a telephone number"),
     ("DE89 3704 0044 0532 0130 00", "a bank account"), ("GB82WEST12345698765432", "a bank account")],
)  # fmt: skip
def test_a_cell_is_known_by_its_content_where_the_form_is_certain(text: str, what: str) -> None:
    assert identifying_text(text) == what


@pytest.mark.parametrize(
    "text",
    ["DE89370400440532013001", "+12", "+5.25", "+12345678.5", "a@b", "@", "2024-03-01", "1970-01-01", "0791234567",
     "+1,5", "T1w@3T", "ABCDEFGHIJKLMNOP", "+", ""],
)  # fmt: skip
def test_what_is_not_certain_is_kept(text: str) -> None:
    assert identifying_text(text) == ""


HEADER = "id,Vorname,birth_date,contact,age\n"
ROWS = "a,Ann,1970-01-02,ann@example.org,40\nb,Bob,1980-01-02,none,50\n"


def scanned(root: Path, **options: str):
    (root / "table.csv").write_text(HEADER + ROWS)
    found = scan("table", root, options)
    return found, [dict(one.values) for one in format_named("table").read(root, found.samples, options)]


def test_identifiers_stay_out_by_name_and_by_content(tmp_path: Path) -> None:
    found, values = scanned(tmp_path)
    assert set(found.schema.columns) == {"age"}
    assert [one.missing for one in found.samples] == [(), ()]
    assert [str(one) for one in found.problems] == [
        "table.csv: 2 columns identify persons and are left out: Vorname (a person's name), birth_date (a birth date); "
        "if a plan needs one all the same: --option keep=Vorname",
        "table.csv: column contact holds an e-mail address in 1 row; it is left out; if a plan needs it all the same: "
        "--option keep=contact",
    ]
    assert all("Ann" not in str(one) and "example.org" not in str(one) and "1970" not in str(one) for one in values)


def test_a_column_that_a_person_asks_for_by_name_is_kept(tmp_path: Path) -> None:
    found, values = scanned(tmp_path, keep="birth_date,contact")
    assert set(found.schema.columns) == {"age", "birth_date", "contact"}
    assert [one.get("birth_date") for one in values] == ["1970-01-02", "1980-01-02"]
    assert values[0]["contact"] == "ann@example.org"
    (problem,) = found.problems
    assert problem.cause == "1 column identifies persons and is left out: Vorname (a person's name)"


def test_the_column_of_ids_is_asked_for_by_name_already(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("MRN,age\n100,40\n101,50\n")
    assert [one.subject for one in scan("table", tmp_path, {"subject": "MRN"}).samples] == ["100", "101"]


def test_a_dictionary_that_describes_a_column_does_not_ask_for_it(tmp_path: Path) -> None:
    words = '{"column": {"Vorname": {"type": "text"}, "age": {"type": "number"}}}'
    found, values = scanned(tmp_path, dictionary=words)
    assert set(found.schema.columns) == {"age"} and "Vorname" not in values[0]
