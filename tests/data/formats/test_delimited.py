"""Tables as hospitals export them: whose rows, in which encoding, with which codes, and what is wrong with them."""

from __future__ import annotations

import csv
import io
import json
import random
import subprocess
import sys

import pytest
from conformance import SUBJECTS, Conformance, Expected
from hypothesis import given
from hypothesis import strategies as st

from archipel.data import (
    Cohort,
    ColumnMapping,
    DataMapping,
    RawSource,
    Verdict,
    check_needs,
    format_named,
    scan,
    split,
    verify,
)
from archipel.data.formats import detect, settled
from archipel.data.tables.dictionary import ColumnReader, ColumnRule, Misfit, NumberMarks
from archipel.vocabulary import BadInput, ColumnNeed, DataNeeds, ErrorCode
from real_data import real_data
from worlds.examples import examples

AGE = ColumnNeed(name="age", unit="years")
ILL = ColumnNeed(name="ill", categories=("no", "yes"))
NEEDS = DataNeeds(kind="table", columns=(AGE,), target=ILL)


class Delimited(Conformance):
    """What every way of writing a table shares."""

    format = "table"

    def lines(self, subjects):
        visits = [(subject, "v1") for subject in subjects] + [(subjects[0], "v2")]
        return [
            [subject, visit, f"{40 + number}.5", "" if number == 1 else "yes"]
            for number, (subject, visit) in enumerate(visits)
        ]

    def store(self, root, lines):
        raise NotImplementedError

    def write(self, root, subjects=SUBJECTS):
        lines = self.lines(subjects)
        self.store(root, lines)
        values = {(who, visit): {"age": float(age)} | ({"ill": ill} if ill else {}) for who, visit, age, ill in lines}
        return {key: Expected(values=one) for key, one in values.items()}

    def change(self, root):
        lines = self.lines(SUBJECTS)
        lines[2][2] = "99.5"
        self.store(root, lines)
        return "sub-03"

    def remove(self, root):
        self.store(root, self.lines(SUBJECTS)[:-1])
        return "sub-01_v2"

    def repeat(self, root):
        lines = self.lines(SUBJECTS)
        self.store(root, [*lines, lines[0]])
        return "sub-01_v1"


HEADER = ["subject_id", "visit", "age", "ill"]


class TestCsv(Delimited):
    options = {"session": "visit"}

    def store(self, root, lines):
        with (root / "table.csv").open("w", newline="") as file:
            csv.writer(file).writerows([HEADER, *lines])


class TestTsv(Delimited):
    options = {"session": "visit"}

    def store(self, root, lines):
        with (root / "table.tsv").open("w", newline="", encoding="utf-8-sig") as file:
            csv.writer(file, delimiter="\t").writerows([HEADER, *lines])


@pytest.mark.processes
class TestParquet(Delimited):
    options = {"session": "visit"}

    def store(self, root, lines):
        import pyarrow
        from pyarrow import parquet

        columns = [list(column) for column in zip(*lines, strict=True)]
        columns[2] = [float(age) for age in columns[2]]
        columns[3] = [ill or None for ill in columns[3]]
        parquet.write_table(pyarrow.table(dict(zip(HEADER, columns, strict=True))), root / "table.parquet")


class TestHeaderlessWithADictionary(Delimited):
    options = {"session": "visit", "header": "no", "file": "processed.data",
               "dictionary": json.dumps({"column": {
                   "subject_id": {"type": "text"}, "visit": {"type": "text"}, "age": {"type": "number"},
                   "ill": {"type": "category"}}})}  # fmt: skip

    def store(self, root, lines):
        (root / "processed.data").write_text("\n".join(";".join(line) for line in lines))

    def test_the_format_is_found_from_the_folder(self, root):
        # Nothing tells a file without a header from any other text: a person must say so.
        self.write(root)
        assert self.format not in [fit.format for fit in detect(root)]


# Bad input


def write(root, text, name="table.csv", encoding="utf-8"):
    root.mkdir(exist_ok=True)
    (root / name).write_bytes(text.encode(encoding))
    return root


def problems(root, **options):
    return [str(problem) for problem in scan("table", root, options).problems]


SOUND = "id,age,ill\na,40,no\nb,50,yes\nc,60,yes\n"


def test_a_wrong_delimiter_is_named_with_the_right_one(tmp_path):
    write(tmp_path, SOUND)
    (line,) = problems(tmp_path, delimiter=";")
    assert line == "table.csv: has a single column when divided by ;; --option delimiter=comma gives 3"
    assert problems(tmp_path, delimiter=",") == []


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(tmp_path, delimiter):
    write(tmp_path, SOUND.replace(",", delimiter))
    assert problems(tmp_path) == []
    assert set(scan("table", tmp_path).schema.columns) == {"age", "ill"}


def test_a_delimiter_that_could_be_two_is_asked_for(tmp_path):
    write(tmp_path, "a,b;c,d\n1,5;2,5\n3,5;4,5\n")
    (line,) = problems(tmp_path)
    ways = "--option delimiter=comma or --option delimiter=semicolon"
    assert line == f"table.csv: may be divided by , (3 columns) or by ; (2 columns); choose {ways}"


def test_decimal_commas_do_not_divide_columns_and_are_read_when_told(tmp_path):
    write(tmp_path, "id;age;ill\na;40,5;no\nb;50,25;yes\nc;7;yes\n")
    (line,) = problems(tmp_path)
    assert line == (
        "table.csv: column age holds numbers with a decimal comma, read as text (line 2 holds 40,5); "
        "set --option decimal=,"
    )
    assert scan("table", tmp_path).errors == ()
    found = scan("table", tmp_path, {"decimal": ","})
    assert found.problems == () and found.schema.columns["age"].maximum == 50.25
    assert found.schema.columns["age"].type == "number"


def test_a_decimal_comma_in_a_column_of_numbers_is_an_error_of_its_line(tmp_path):
    write(tmp_path / "data", "id;age\na;40,5\nb;50\n")
    (tmp_path / "words.toml").write_text('[column.age]\ntype = "number"\nunit = "years"\n')
    (line,) = problems(tmp_path / "data", dictionary=str(tmp_path / "words.toml"))
    assert line == "table.csv line 2: age has a decimal comma; set --option decimal=, or fix the value"


def test_duplicated_ids_are_named_with_their_lines_and_none_of_them_is_used(tmp_path):
    write(tmp_path, SOUND + "a,41,yes\n")
    found = scan("table", tmp_path)
    (line,) = map(str, found.problems)
    remedy = "keep one of the rows, or name the column of the visit with --option session=COLUMN"
    assert line == f"table.csv: a: is there 2 times (lines 2, 5); {remedy}"
    assert [sample.subject for sample in found.samples] == ["b", "c"]


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    write(tmp_path, "\ufeff" + SOUND)
    found = scan("table", tmp_path)
    assert found.problems == () and [sample.subject for sample in found.samples] == ["a", "b", "c"]


def test_latin_1_is_read_with_a_warning_and_without_one_when_told(tmp_path):
    write(tmp_path, "id,stadt\na,Zürich\nb,Besançon\nc,Zürich\n", encoding="latin-1")
    found = scan("table", tmp_path)
    (warning,) = found.problems
    assert warning.severity == "warning" and "is not UTF-8; it was read as Latin-1" in str(warning)
    told = scan("table", tmp_path, {"encoding": "latin-1"})
    assert told.problems == () and told.samples == found.samples
    (reading, _, _) = format_named("table").read(tmp_path, told.samples, {"encoding": "latin-1"})
    assert reading.values == {"stadt": "Zürich"}


def test_what_is_neither_utf_8_nor_latin_1_asks_for_its_encoding(tmp_path):
    write(tmp_path, "id,note\na,\u201cx\u201d\nb,y\n", encoding="cp1252")
    (line,) = problems(tmp_path)
    assert line.startswith(
        "table.csv: is not UTF-8 (line 2); set its encoding: --option encoding=cp1252 reads \u201cx\u201d"
    )
    assert problems(tmp_path, encoding="cp1252") == []
    for name in ("klingon", "base64"):
        (line,) = problems(tmp_path, encoding=name)
        assert f"encoding {name} is unknown" in line


@pytest.mark.parametrize(
    ("written", "told", "text", "where"),
    [
        ("latin-1", "utf-8", "id,stadt\na,Bonn\nb,Zürich\n", 3),
        ("latin-1", "ascii", "id,stadt\na,Zürich\n", 2),
        ("latin-1", "utf-8", "id,stadt\na,Bonn\nb,Trinité", 3),
        ("utf-8", "cp1252", "id,stadt\na,Bonn\nb,Ώ\n", 3),
    ],
)
def test_an_encoding_that_was_told_wrongly_is_said_and_not_the_delimiter(tmp_path, written, told, text, where):
    write(tmp_path, text, encoding=written)
    (line,) = problems(tmp_path, encoding=told)
    assert line.startswith(f"table.csv: is not in encoding {told} (line {where}); set its encoding")


def test_rows_of_different_widths_are_no_single_column(tmp_path):
    write(tmp_path, "id,age,note\na,1,x,y\nb,2\n")
    (line,) = problems(tmp_path)
    assert line.startswith(
        "table.csv: has 3 columns in its first line when divided by ,, and another number in line 2, 3; quote fields"
    )
    (line,) = problems(tmp_path, delimiter=",")
    assert "has 3 columns in its first line when divided by ,, and another" in line


def test_utf_16_is_named_and_read_when_told(tmp_path):
    write(tmp_path, SOUND, encoding="utf-16")
    assert "table.csv: is UTF-16;" in problems(tmp_path)[0]
    assert problems(tmp_path, encoding="utf-16") == []


def test_ragged_rows_are_named_and_the_others_used(tmp_path):
    write(tmp_path, SOUND + "d,70\ne,1,yes,2\nf,33,no\n")
    found = scan("table", tmp_path)
    assert [str(one).split(";")[0] for one in found.problems] == [
        "table.csv line 5: has 2 fields where there are 3 columns",
        "table.csv line 6: has 4 fields where there are 3 columns",
    ]
    assert [sample.subject for sample in found.samples] == ["a", "b", "c", "f"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "table.csv: is empty;"),
        ("\n\n", "has a single column"),
        ("id,age\n", "table.csv: holds no row;"),
        ("just words\nand more\n", "has a single column"),
        ("id,age\na,4\0\n", "table.csv: holds a NUL byte in line 2;"),
        ('id,age\na,"4\nb,5\n', "cannot be read from line 2 on"),
        ("id,age,age\na,1,2\n", "has more than one column named age;"),
        ("id,age\n,4\nb,5\n", "table.csv line 2: has no subject id;"),
        ("id,age\n../x,4\nb,5\n", "table.csv line 2: has an id that is too long or holds / or control characters;"),
        ("PK\x03\x04zip", "is not text but a zip archive or a workbook that is damaged or breaks off; copy it again"),
    ],
)
def test_what_is_no_table_is_named(tmp_path, text, words):
    write(tmp_path, text)
    found = scan("table", tmp_path)
    assert found.errors and words in str(found.errors[0])


@pytest.mark.processes
def test_a_parquet_file_that_is_none_is_named(tmp_path):
    write(tmp_path, SOUND, "table.parquet")
    (line,) = problems(tmp_path)
    assert line == "table.parquet: is not a Parquet file but text; name it .csv"
    (tmp_path / "table.parquet").write_bytes(b"PAR1" + b"\0" * 100)
    (line,) = problems(tmp_path)
    assert line.startswith("table.parquet: is a Parquet file that is damaged (Arrow") and ".csv" not in line


@pytest.mark.parametrize("role", ["subject", "session"])
def test_a_column_that_is_not_in_the_file_is_named(tmp_path, role):
    write(tmp_path, SOUND)
    (line,) = problems(tmp_path, **{role: "patient"})
    assert line == f"table.csv: has no column patient (it has id, age, ill); name another with --option {role}=..."
    assert "rows=town=Bern names no column of it" in problems(tmp_path, rows="town=Bern")[0]


def test_a_column_without_a_name_gets_one(tmp_path):
    write(tmp_path, ",id,age\n0,a,4\n1,b,5\n")
    found = scan("table", tmp_path)
    assert "column 1 has no name; it is called column_1 here" in str(found.problems[0])
    assert found.errors == () and set(found.schema.columns) == {"column_1", "age"}


def test_without_a_column_of_ids_rows_are_patients_and_a_person_is_told(tmp_path):
    write(tmp_path, "age,ill\n40,no\n50,yes\n")
    found = scan("table", tmp_path)
    assert [sample.subject for sample in found.samples] == ["row-000001", "row-000002"]
    (warning,) = found.problems
    assert warning.severity == "warning" and "each row is a patient of its own" in str(warning)


def test_several_tables_in_a_folder_ask_for_one_and_a_dictionary_is_none_of_them(tmp_path):
    write(tmp_path, SOUND)
    write(tmp_path, "column,type\nage,number\nill,category\n", "words.csv")
    assert (
        "holds 2 tables (table.csv, words.csv); name one, for example --option file=table.csv" in problems(tmp_path)[0]
    )
    assert problems(tmp_path, file="table.csv") == []
    kept = settled("table", tmp_path, {"dictionary": "words.csv"})
    assert kept["file"] == "table.csv" and json.loads(kept["dictionary"])["column"]["age"] == {"type": "number"}
    assert problems(tmp_path, **kept) == []
    assert "has no file other.csv;" in problems(tmp_path, file="other.csv")[0]


def test_many_faulty_lines_are_counted_not_listed(tmp_path):
    write(tmp_path, "id,age\n" + "".join(f"p{n},1,2\n" if n > 100 else f"p{n},1\n" for n in range(200)))
    found = scan("table", tmp_path)
    assert len(found.problems) == 21 and "79 lines more" in str(found.problems[-1])
    assert len(found.samples) == 101


# The dictionary

WORDS = """
missing = ["-9999"]

[column.id]
type = "text"

[column.age]
type = "number"
unit = "years"

[column.chol]
type = "number"
unit = "mg/dl"
impossible_zero = true
missing = [-1]

[column.ill]
type = "category"
categories = {0 = "no", 1 = "yes", 9 = ""}
"""
CODED = "id,age,chol,ill\na,40,0,0\nb,-9999,210.5,1.0\nc,?,-1.0,1\nd,0,0.0,9\n"


@pytest.fixture
def coded(tmp_path):
    write(tmp_path / "data", CODED)
    (tmp_path / "words.toml").write_text(WORDS)
    return settled("table", tmp_path / "data", {"dictionary": str(tmp_path / "words.toml")})


def test_missing_codes_and_impossible_zeros_become_missing_and_are_counted(tmp_path, coded):
    found = scan("table", tmp_path / "data", coded)
    assert found.problems == ()
    readings = list(format_named("table").read(tmp_path / "data", found.samples, coded))
    assert [reading.values for reading in readings] == [
        {"age": 40.0, "ill": "no"},
        {"chol": 210.5, "ill": "yes"},
        {"ill": "yes"},
        {"age": 0.0, "ill": "9"},
    ]
    columns = found.schema.columns
    assert (columns["age"].missing, columns["age"].missing_codes) == (2, {"-9999": 1, "?": 1})
    assert (columns["chol"].missing, columns["chol"].missing_codes) == (3, {"-1": 1, "impossible 0": 2})
    assert columns["ill"].categories == {"no": 1, "yes": 2, "9": 1} and columns["chol"].unit == "mg/dl"
    assert {gap.columns: gap.samples for gap in found.schema.gaps} == {("age", "chol"): 1, ("age",): 1, ("chol",): 2}


def test_a_value_that_does_not_fit_is_an_error_of_its_line_and_column(tmp_path, coded):
    write(tmp_path / "data", CODED + "e,old,200,1\nf,30,200,7\n")
    found = scan("table", tmp_path / "data", coded)
    number = "fix the value, or choose --option number=age (what is not a number is missing)"
    remedy = "fix the value, or name it in the dictionary as a missing code or a category"
    assert [str(one) for one in found.problems] == [
        f"table.csv line 6: age is old, not a number; {number}",
        f"table.csv line 7: ill is 7, not one of the dictionary's categories; {remedy}",
    ]
    assert [one.subject for one in found.problems] == ["e", "f"]
    assert [sample.subject for sample in found.samples] == ["a", "b", "c", "d"]


def test_undeclared_codes_are_pointed_out(tmp_path):
    write(tmp_path, "id,age\na,-9999\nb,40\n")
    (warning,) = scan("table", tmp_path).problems
    assert str(warning).startswith("table.csv: column age holds -9999 in 1 row; name it in the dictionary")
    assert warning.severity == "warning"


def test_a_dictionary_may_be_a_sheet(tmp_path, coded):
    (tmp_path / "words.csv").write_text(
        "column,type,unit,missing,impossible_zero,categories\nid,text,,,,\nage,number,years,-9999,no,\n"
        "chol,number,mg/dl,-1|-9999,yes,\nill,category,,,,0=no|1=yes|9\n"
    )
    sheet = settled("table", tmp_path / "data", {"dictionary": str(tmp_path / "words.csv")})
    one, other = (scan("table", tmp_path / "data", options) for options in (coded, sheet))
    assert one.samples == other.samples and one.schema == other.schema


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "[column.age]\ntype = 'integer'\n",
            "dictionary words.toml: column.age.type='integer': is not one of the values that it can have; give 'n",
        ),
        ("[column.age]\ntype = 'number'\ncolour = 1\n", "column.age.colour: is not a field here"),
        ("column = ", "dictionary words.toml: is not TOML"),
        ("column = " + "[" * 10_000, "dictionary words.toml: is not TOML: maximum recursion depth"),
    ],
)
def test_a_dictionary_with_faults_is_named(tmp_path, text, words):
    write(tmp_path / "data", SOUND)
    (tmp_path / "words.toml").write_text(text)
    with pytest.raises(BadInput) as caught:
        settled("table", tmp_path / "data", {"dictionary": str(tmp_path / "words.toml")})
    assert words in str(caught.value)


def test_a_dictionary_that_is_not_there_and_one_of_another_table_are_named(tmp_path):
    write(tmp_path / "data", SOUND)
    with pytest.raises(BadInput, match=r"dictionary nowhere\.toml: cannot be read"):
        scan("table", tmp_path / "data", {"dictionary": "nowhere.toml"})
    (tmp_path / "words.toml").write_text("[column.weight]\ntype = 'number'\n[column.height]\ntype = 'number'\n")
    (line,) = problems(tmp_path / "data", dictionary=str(tmp_path / "words.toml"))
    assert "its first line names none of the dictionary's columns (weight, height); set header=no" in line


def test_a_dictionary_of_another_width_is_named_for_a_file_without_header(tmp_path):
    write(tmp_path / "data", "1,2,3\n4,5,6\n")
    words = json.dumps({"header": False, "column": {"a": {"type": "number"}, "b": {"type": "number"}}})
    assert "has 3 columns, the dictionary names 2;" in problems(tmp_path / "data", dictionary=words)[0]
    assert "nothing names its columns" in problems(tmp_path / "data", header="no")[0]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_reads_as_it_was_written(number):
    assert ColumnReader(ColumnRule(type="number"))(repr(number)) == number
    if "e" not in repr(number):
        assert ColumnReader(ColumnRule(type="number"), marks=NumberMarks(","))(repr(number).replace(".", ",")) == number


@given(st.text())
def test_any_text_is_a_value_or_missing_or_a_misfit(text):
    for rule in (None, ColumnRule(type="number"), ColumnRule(type="category"), ColumnRule(type="text")):
        try:
            value = ColumnReader(rule)(text)
        except Misfit as error:
            assert rule is not None and str(error)
        else:
            assert value is None or (isinstance(value, float) if rule and rule.type == "number" else value is not None)


@examples(60)
@given(st.binary(max_size=300))
def test_any_bytes_at_all_are_a_scan(tmp_path_factory, content):
    root = tmp_path_factory.mktemp("bytes")
    (root / "table.csv").write_bytes(content)
    found = scan("table", root)
    assert found.samples or found.problems


cells = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=8)


@examples(60)
@given(st.lists(st.tuples(cells, st.floats(-1e6, 1e6)), min_size=2, max_size=20), st.sampled_from(",;\t|"))
def test_what_the_csv_module_writes_is_read_back(tmp_path_factory, lines, delimiter):
    root = tmp_path_factory.mktemp("written")
    text = io.StringIO()
    rows = [(f"s{number:03d}", note, repr(size)) for number, (note, size) in enumerate(lines)]
    csv.writer(text, delimiter=delimiter).writerows([("subject", "note", "size"), *rows])
    words = {"column": {"note": {"type": "text"}, "size": {"type": "number"}}}
    options = {"delimiter": delimiter, "dictionary": json.dumps(words)}
    (root / "table.csv").write_text(text.getvalue(), newline="")
    found = scan("table", root, options)
    assert len(found.samples) == len(rows), found.problems
    for (_, note, size), reading in zip(rows, format_named("table").read(root, found.samples, options), strict=True):
        assert reading.values["size"] == float(size)
        stripped = note.strip()
        assert reading.values.get("note", stripped) == stripped


# Missing values and a plan's needs


def answers(found, mapping=None):
    return {one.need: one for one in check_needs(NEEDS, found.schema, mapping or DataMapping())}


GAPS = "id,age,ill,x\na,40,no,\nb,,yes,\nc,60,\nd,,,1\ne,30,no,1\nf,31,yes,1\n".replace("60,\n", "60,,\n")


def test_missing_values_are_not_met_until_a_person_says_what_becomes_of_them(tmp_path):
    write(tmp_path, GAPS)
    found = scan("table", tmp_path)
    needs = NEEDS.model_copy(update={"columns": (ColumnNeed(name="age"),)})
    bare = check_needs(needs, found.schema, DataMapping())
    assert [one.verdict for one in bare] == [Verdict.MET, Verdict.MET, Verdict.NOT_MET, Verdict.NOT_MET]
    assert str(bare[2]) == (
        "column age: not met (2 samples have no age; fill them with columns.age.fill, leave them out with "
        "drop_incomplete, or add the values)"
    )
    dropping = DataMapping(drop_incomplete=True)
    assert [str(one) for one in check_needs(needs, found.schema, dropping)] == [
        "data of kind table: met",
        "at least 2 subjects: met by mapping (3 of 6 samples lack a column and are left out)",
        "column age: met by mapping (2 left out)",
        "column ill: met by mapping (2 left out)",
    ]
    both = DataMapping(columns={"age": ColumnMapping(fill=50)}, drop_incomplete=True)
    assert str(check_needs(needs, found.schema, both)[2]) == "column age: met by mapping (2 filled with 50)"
    assert "2 of 6 samples" in str(check_needs(needs, found.schema, both)[1])


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        (DataMapping(drop_incomplete=True), {"a": (40, 0), "e": (30, 0), "f": (31, 1)}),
        (
            DataMapping(columns={"age": ColumnMapping(fill=50)}, drop_incomplete=True),
            {"a": (40, 0), "b": (50, 1), "e": (30, 0), "f": (31, 1)},
        ),
        (
            DataMapping(columns={"age": ColumnMapping(fill=50, scale=2), "ill": ColumnMapping(fill="yes")}),
            {"a": (80, 0), "b": (50, 1), "c": (120, 1), "d": (50, 1), "e": (60, 0), "f": (62, 1)},
        ),
    ],
)
def test_what_is_left_out_or_filled_is_what_was_counted(tmp_path, mapping, expected):
    write(tmp_path, GAPS)
    found = scan("table", tmp_path)
    cohort = Cohort(dataset="t", format="table", samples=found.samples, mapping=mapping)
    needs = NEEDS.model_copy(update={"columns": (ColumnNeed(name="age"),)})
    rows = {}
    for side in split(RawSource(tmp_path, cohort), cohort, 0.4, needs):
        x, y, ids = side.table()
        assert len(side) == len(ids)
        rows |= {one: (age[0], ill) for one, age, ill in zip(ids, x.tolist(), y.tolist(), strict=True)}
    assert rows == expected
    left = found.schema.samples - len(expected)
    (subjects,) = [str(one) for one in check_needs(needs, found.schema, mapping) if "at least" in one.need]
    assert (f"{left} of 6 samples lack" in subjects) == bool(left)


def test_a_value_missing_in_training_is_named_with_its_patient(tmp_path):
    write(tmp_path, GAPS)
    cohort = Cohort(dataset="t", format="table", samples=scan("table", tmp_path).samples)
    training, validation = split(RawSource(tmp_path, cohort), cohort, 0.4, NEEDS)
    with pytest.raises(BadInput, match=r"[b-d]: (age|ill): is missing; map the value or leave the subject out"):
        (training.table(), validation.table())


def test_a_fill_that_the_plan_does_not_know_is_not_met(tmp_path):
    write(tmp_path, GAPS)
    found = scan("table", tmp_path)
    wrong = DataMapping(columns={"age": ColumnMapping(fill="old"), "ill": ColumnMapping(fill="perhaps")})
    assert "fill is old; the plan needs numbers" in str(answers(found, wrong)["column age in years"])
    assert "it has perhaps; the plan knows no, yes" in str(answers(found, wrong)["column ill"])


# Cohorts


def test_rows_may_move_and_others_come_and_go_after_a_cohort_is_frozen(tmp_path):
    write(tmp_path, SOUND)
    cohort = Cohort(dataset="t", format="table", samples=scan("table", tmp_path).samples[:2])
    write(tmp_path, "ill,id,age\nno,new,1\nyes,b,50\nno,a,40\n")
    verify(tmp_path, cohort)
    write(tmp_path, "id,age,ill\na,40,no\nb,51,yes\n")
    with pytest.raises(BadInput, match=r"table\.csv: line 3 \(b\) has other content") as caught:
        verify(tmp_path, cohort)
    assert caught.value.code is ErrorCode.DATA_CHANGED
    write(tmp_path, "id,age,ill\na,40,no\nb,50,yes\na,40,no\n")
    with pytest.raises(BadInput, match="has a a second time in line 4"):
        verify(tmp_path, cohort)
    (tmp_path / "table.csv").unlink()
    with pytest.raises(BadInput, match="is missing, and was there when the cohort was approved"):
        verify(tmp_path, cohort)


def test_only_rows_with_the_value_asked_for_are_the_datasets(tmp_path):
    write(tmp_path, "id,town,age\na,Bern,1\nb,Genf,2\nc,Bern,3\n")
    assert [one.subject for one in scan("table", tmp_path, {"rows": "town=Bern"}).samples] == ["a", "c"]
    assert "holds no row with town=Basel" in problems(tmp_path, rows="town=Basel")[0]


def test_the_four_hospitals_of_uci_heart_are_read_with_one_dictionary():
    root = real_data("uci_heart")
    names = [
        "age",
        "sex",
        "cp",
        "trestbps",
        "chol",
        "fbs",
        "restecg",
        "thalach",
        "exang",
        "oldpeak",
        "slope",
        "ca",
        "thal",
        "num",
    ]
    numbers = ("age", "trestbps", "chol", "thalach", "oldpeak", "ca")
    columns = {name: {"type": "number" if name in numbers else "category"} for name in names}
    columns["chol"]["impossible_zero"] = True
    dictionary = json.dumps({"header": False, "column": columns})
    sizes, without_cholesterol = {}, {}
    for place in ("cleveland", "hungarian", "switzerland", "va"):
        found = scan("table", root, {"file": f"processed.{place}.data", "dictionary": dictionary})
        assert found.errors == ()
        sizes[place] = len(found.samples)
        without_cholesterol[place] = found.schema.columns["chol"].missing
        lines = (root / f"processed.{place}.data").read_text().splitlines()
        assert without_cholesterol[place] == sum(line.split(",")[4] in ("0", "0.0", "?") for line in lines)
    assert sizes == {"cleveland": 212, "hungarian": 205, "switzerland": 86, "va": 140}
    assert without_cholesterol["switzerland"] == 86


def test_no_split_of_the_oasis_table_cuts_through_a_subject():
    root = real_data("oasis")
    options = {"subject": "Subject ID", "session": "MRI ID"}
    found = scan("table", root, options)
    assert found.errors == () and found.schema.samples > found.schema.subjects
    assert found.samples[0].name == "OAS2_0001_MR1"
    cohort = Cohort(dataset="oasis", format="table", options=options, samples=found.samples)
    needs = DataNeeds(kind="table", columns=(ColumnNeed(name="Age"),), target=ColumnNeed(name="nWBV"))
    for fraction in (0.1, 0.2, 0.5, 0.9):
        sides = split(RawSource(root, cohort), cohort, fraction, needs)
        people = [{sample.subject for sample in side.samples} for side in sides]
        assert not people[0] & people[1] and len(people[0] | people[1]) == found.schema.subjects
        assert sum(len(side.table().ids) for side in sides) == found.schema.samples
        assert all(side.table().ids == side.ids for side in sides)


def test_without_its_session_column_the_oasis_table_has_one_fault_and_the_option_is_named():
    found = scan("table", real_data("oasis"), {"subject": "Subject ID"})
    (line,) = map(str, found.errors)
    assert line.startswith("oasis_longitudinal.csv: 149 of 150 patients have several rows; if these are visits, name ")
    assert '--option "session=MRI ID" (or Visit, MR Delay)' in line
    assert found.schema.subjects == 1
    assert not scan("table", real_data("oasis"), {"subject": "Subject ID", "session": "MRI ID"}).errors


def test_a_first_line_of_numbers_is_pointed_out_with_the_option_for_it(tmp_path):
    write(tmp_path, "63.0,1.0,-4\n67.0,1.0,3\n")
    said = problems(tmp_path)
    assert any("numbers where the columns' names should be" in one and "--option header=no" in one for one in said)
    assert not any("header=no" in one for one in problems(tmp_path, header="yes"))
    write(tmp_path, "id,2001,2002\na,1,2\n")
    assert not any("header=no" in one for one in problems(tmp_path))


def rows_of_visits(*visits: str) -> str:
    return "id,age,visit\n" + "".join(f"p{n},40,{visit}\n" for n in range(9) for visit in visits) + "q,1,x\n"


def test_many_patients_with_several_rows_are_one_cause_and_one_line(tmp_path):
    write(tmp_path, rows_of_visits("v1", "v2"))
    remedy = "if these are visits, name the column that distinguishes them: --option session=visit"
    assert problems(tmp_path) == [f"table.csv: 9 of 10 patients have several rows; {remedy}"]
    write(tmp_path, rows_of_visits("v1", "v1"))
    assert problems(tmp_path) == ["table.csv: 9 of 10 patients have several rows; keep one row of each patient"]
    twice = "table.csv: has several rows of 9 visits (p0_v1, p1_v1, p2_v1, p3_v1, p4_v1, ...); keep one row of each"
    assert problems(tmp_path, session="visit") == [twice]


def test_whoever_is_left_out_does_not_count_among_patients_with_several_rows(tmp_path):
    write(tmp_path, rows_of_visits("v1", "v2"))
    met = set()

    def leaves_out(subject):
        met.add(subject)
        return subject in {"p0", "p1"}

    (line,) = map(str, scan("table", tmp_path, {}, None, leaves_out).problems)
    assert "7 of 8 patients have several rows" in line
    assert {"p0", "p1"} <= met
    few = scan("table", tmp_path, {}, None, lambda subject: subject not in {"p0", "q"})
    assert [problem.subject for problem in few.errors] == ["p0"]


@pytest.mark.parametrize(
    ("subject", "session", "name"),
    [
        ("OAS2_0001", "OAS2_0001_MR1", "OAS2_0001_MR1"),
        ("p07", "p07_left", "p07_left"),
        ("p0", "p07_left", "p0_p07_left"),
        ("1", "1", "1_1"),
        ("sub-01", "ses-01", "sub-01_ses-01"),
        ("sub-01", "", "sub-01"),
    ],
)
def test_a_sample_is_called_by_its_subject_once(tmp_path, subject, session, name):
    write(tmp_path, f"id,visit,age\n{subject},{session},40\nother,v1,50\nother,v2,50\n")
    (sample,) = (one for one in scan("table", tmp_path, {"session": "visit"}).samples if one.subject == subject)
    assert (sample.name, sample.key) == (name, (subject, session))
    write(tmp_path, f"id,visit,age\n{subject},{session},40\n{subject},{session},50\n")
    assert problems(tmp_path, session="visit")[0].startswith(f"table.csv: {name}: is there 2 times")


@pytest.mark.processes
def test_a_large_table_is_scanned_and_read_in_little_memory(tmp_path):
    draw = random.Random(0)
    with (tmp_path / "table.csv").open("w") as file:
        file.write("id," + ",".join(f"c{n}" for n in range(14)) + "\n")
        for number in range(20_000):
            file.write(f"p{number}," + ",".join(f"{draw.random():.4f}" for _ in range(14)) + "\n")
    script = """
import sys
from pathlib import Path
from archipel.data import Cohort, ColumnMapping, DataMapping, RawSource, scan, split
from archipel.vocabulary import ColumnNeed, DataNeeds
def peak():
    # Not getrusage: its peak is also that of the process this one was forked from.
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1])
root, before = Path(sys.argv[1]), peak()
columns = [ColumnNeed(name=f"c{n}") for n in range(14)]
needs = DataNeeds(kind="table", columns=tuple(columns[:13]), target=columns[13])
found = scan("table", root)
cohort = Cohort(dataset="t", format="table", samples=found.samples)
training, _ = split(RawSource(root, cohort), cohort, 0.2, needs)
assert training.table().x.shape == (len(training), 13)
print((peak() - before) / 20_000)
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 2.75, f"{done.stdout} KiB for each row of 14 numbers"
