"""Direct identifiers stay out of a dataset unless a person asks for a column by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from archipel.data import format_named, scan
from archipel.data.tables.identifiers import column_of_ids, identifying_column, identifying_text, second_id


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
     "Fallnummer", "Fall-Nr.", "Aufnahmenummer", "MRN", "case number", "Encounter ID", "numéro de dossier",
     "historia clínica", "cartella clinica", "opnamenummer", "número do processo", "journalnummer",
     "AccessionNumber", "accession_no", "StudyInstanceUID", "SeriesInstanceUID", "SOP Instance UID", "Auftragsnummer",
     "numéro d'examen", "onderzoeksnummer", "numer badania", "undersökningsnummer",
     "Hausarzt", "Hausärztin", "referring physician", "ReferringPhysicianName", "médecin traitant", "huisarts",
     "médico de cabecera", "medico curante", "lekarz rodzinny", "husläkare", "GP name", "GP phone",
     "Handynummer", "Handy-Nr.", "Rufnummer", "numéro de téléphone", "numer telefonu", "mobilnummer", "mobiel nummer",
     "nhs_number", "AHVN13", "AHV-Nummer", "PESEL", "personnummer", "NIR", "numer ubezpieczenia",
     "Krankenversichertennr.", "NINO",
     "imię", "Nazwisko", "efternamn", "Förnamn", "data urodzenia", "födelsedatum", "geboren", "Geburtstag",
     "kod pocztowy", "ulica", "postnummer", "adres e-mail", "e-post",
     "address", "Adresse", "Straße", "PLZ", "zip code", "postcode", "rue", "dirección", "indirizzo", "endereço"],
)  # fmt: skip
def test_a_column_is_known_by_its_name_in_nine_languages(name: str) -> None:
    assert identifying_column(name)


@pytest.mark.parametrize(
    "name",
    ["age", "sex", "site", "scanner_name", "hospital", "drug name", "diagnosis", "birth weight", "birthweight_g",
     "age at birth", "female", "telomere", "male", "tumour_name", "stage", "phonation", "patient", "patient_id",
     "visit_date", "date", "group", "mailing", "number", "id", "weight", "name_of_sequence", "streptococcus",
     "nominal", "geo_accession", "lesion_id", "sample_id", "slide number", "case", "fall",
     "falls", "fall risk", "mobil", "Geburt", "admission_nihss", "hospital nights", "admission note", "caseload",
     "study", "series_description", "number of exams", "order", "doctor_rating", "cf", "cystic fibrosis", "encoding",
     "Aufnahmedatum", "Fallzahl", "instance", "phone_use_minutes", "position", "mobil_score", "rid", "lab code",
     "nominal", "plzt_count", "via", "handedness", "mobility", "zipper"],
)  # fmt: skip
def test_a_column_that_says_nothing_of_a_person_is_kept(name: str) -> None:
    assert identifying_column(name) == ""


@pytest.mark.parametrize(
    ("text", "what"),
    [("ann@example.org", "an e-mail address"), ("call ann.b+c@mail.example.org", "an e-mail address"),
     ("+41 79 123 45 67", "a telephone number"), ("+491701234567", "a telephone number"),
     ("DE89 3704 0044 0532 0130 00", "a bank account"), ("GB82WEST12345698765432", "a bank account"),
     ("0041 79 123 45 67", "a telephone number"), ("079 123 45 67", "a telephone number"),
     ("+49 (0)30 1234567", "a telephone number"), ("(0)30 1234567", "a telephone number"),
     ("(030) 1234567", "a telephone number"), ("030/1234567", "a telephone number"),
     ("0171 1234567", "a telephone number"), ("06 12 34 56 78", "a telephone number"),
     ("020 7946 0958", "a telephone number"), ("Tel. 079 123 45 67", "a telephone number"),
     ("please call, mobile: +41791234567", "a telephone number"),
     ("756.9217.0769.85", "an insurance or identity number"),
     ("2 55 08 14 168 025 38", "an insurance or identity number"),
     ("RSSMRA85T10A562S", "an insurance or identity number"),
     ("1.2.840.113619.2.55.3.604688119.971", "the number of an examination")],
)  # fmt: skip
def test_a_cell_is_known_by_its_content_where_the_form_is_certain(text: str, what: str) -> None:
    assert identifying_text(text) == what


@pytest.mark.parametrize(
    "text",
    ["DE89370400440532013001", "+12", "+5.25", "+12345678.5", "a@b", "@", "2024-03-01", "1970-01-01", "0791234567",
     "756.9217.0769.84", "RSSMRA85T10A562T", "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4", "10.0.0.1", "v1.2.3.4.5.6.7.8",
     "0041", "007-0012-0031", "0012 0034", "001 002 003", "01.02.2024 12:00", "05 12 2023 08", "01-02-2024",
     "0.123 / 0.456",
     "d41d8cd98f00b204e9800998ecf8427e", "S-2024-000123456", "LOINC 2345-7", "Ki-67 30 % positive", "fax 2024-03-01 12",
     "phone call on 12.03.2024", "GSM1234567", "rs1234567890", "ENSG00000139618", "0049123456789", "(0) 12 34",
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


def test_the_id_of_the_patient_is_not_left_out_and_another_one_is(tmp_path: Path) -> None:
    assert column_of_ids(["age", "PID", "patient_id"]) == "patient_id" and column_of_ids(["Patienten-ID", "x"])
    assert second_id("PID") and second_id("Patienten-ID") and not second_id("patient") and not second_id("lesion_id")
    (tmp_path / "table.csv").write_text("subject_id,Patienten-ID,patient,age\na,771,1,40\nb,772,0,41\n")
    found = scan("table", tmp_path)
    assert [one.subject for one in found.samples] == ["a", "b"] and set(found.schema.columns) == {"patient", "age"}
    (problem,) = found.problems
    assert "Patienten-ID (another id of the patient)" in problem.cause
    (tmp_path / "table.csv").write_text("Patienten-ID,age\n771,40\n772,41\n")
    assert [one.subject for one in scan("table", tmp_path).samples] == ["771", "772"]


def test_a_picture_table_has_one_id_of_the_patient(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    lines = ["image,patient_id,PID,lesion_id,label"]
    for number in range(4):
        Image.new("L", (4, 4), number).save(tmp_path / f"images/i{number}.png")
        lines.append(f"i{number},p{number // 2},9{number // 2},L{number},{'ab'[number % 2]}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    found = scan("picture-table", tmp_path)
    assert {one.subject for one in found.samples} == {"p0", "p1"}
    assert set(found.schema.columns) == {"lesion_id", "label"}
    (problem,) = found.problems
    assert "(PID)" in problem.cause and "--option keep=PID" in problem.remedy
    kept = scan("picture-table", tmp_path, {"keep": "PID"})
    assert kept.problems == () and set(kept.schema.columns) == {"PID", "lesion_id", "label"}
