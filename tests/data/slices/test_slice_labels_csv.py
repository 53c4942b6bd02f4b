import itk
import numpy as np
import pytest

from weakmedsam_ext.data import SliceLabels, decathlon_cases, list_cases, slice_labels_from_csv

CLASSES = ("left atrium", "aorta")


def rows(**changes):
    """Rows of the first case, slice -> text; the others are empty."""
    texts = {str(index): f"la_007,{index}," for index in range(6)}
    return ["case,slice,classes", *{**texts, **changes}.values()]


def read(dataset, lines, **arguments):
    path = dataset / "labels.csv"
    path.write_text("\n".join(lines) + "\n")
    return slice_labels_from_csv(path, decathlon_cases(dataset)[:1], CLASSES, **arguments)


def test_rows_in_any_order(dataset, tmp_path):
    lines = rows(**{"1": "la_007,1,left atrium", "2": "la_007, 2 ,aorta; left atrium;"})
    labels = read(dataset, [lines[0], *reversed(lines[1:])], output=tmp_path / "slice_labels.json")
    np.testing.assert_array_equal(labels.matrix("la_007"), [[0, 0], [1, 0], [1, 1], [0, 0], [0, 0], [0, 0]])
    assert SliceLabels.read(tmp_path / "slice_labels.json") == labels


def test_rows_of_cases_that_are_held_out_are_read_over(dataset):
    cases = decathlon_cases(dataset)
    lines = [*rows(), f"{cases[1]['case']},0,left atrium", f"{cases[1]['case']},999,nonsense"]
    with pytest.raises(ValueError, match="unknown case"):
        read(dataset, lines)
    labels = read(dataset, lines, others=cases)
    assert set(labels.cases) == {"la_007"}
    with pytest.raises(ValueError, match="unknown case 'la_7'"):
        read(dataset, [*lines, "la_7,0,"], others=cases)


def test_byte_order_mark_and_other_columns(dataset):
    lines = [f"note,{line}" if number == 0 else f"x,{line}" for number, line in enumerate(rows())]
    assert not read(dataset, ["\ufeff" + lines[0], *lines[1:]]).matrix("la_007").any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"1": "la_007,1,atrium"},
            r"line 3: unknown classes \['atrium'\]; expected some of \['left atrium', 'aorta'\]",
        ),
        ({"1": "la_007,6,aorta"}, "line 3: slice '6' of la_007 is out of range; expected 0 to 5"),
        ({"1": "la_007,-1,aorta"}, "line 3: slice '-1' of la_007 is out of range"),
        ({"1": "la_007,one,aorta"}, "line 3: slice 'one' of la_007 is out of range"),
        ({"1": "la_007,0,aorta"}, "line 3: slice 0 of la_007 has two rows; keep one of them"),
        ({"1": "la_7,1,aorta"}, "line 3: unknown case 'la_7'; expected one of the data set, for example la_007"),
        ({"1": ""}, r"case 'la_007' has no row for 1 of its 6 slices \(1\); add them"),
    ],
)
def test_bad_rows(dataset, changes, message):
    with pytest.raises(ValueError, match=message):
        read(dataset, rows(**changes))


def test_missing_case(dataset):
    (dataset / "labels.csv").write_text("\n".join(rows()))
    with pytest.raises(ValueError, match=r"case 'la_003' has no row for 6 of its 6 slices \(0, 1, 2, ...\); add them"):
        slice_labels_from_csv(dataset / "labels.csv", decathlon_cases(dataset), CLASSES)


def test_missing_column_or_file(dataset):
    with pytest.raises(ValueError, match=r"columns \['classes'\] are missing; expected the header case,slice,classes"):
        read(dataset, ["case,slice", "la_007,0"])
    with pytest.raises(FileNotFoundError, match="none.csv does not exist; give a CSV file with the columns"):
        slice_labels_from_csv(dataset / "none.csv", decathlon_cases(dataset), CLASSES)


def test_no_text(dataset):
    (dataset / "labels.csv").write_bytes(b"case\x00\x01")
    with pytest.raises(ValueError, match="labels.csv is no CSV file .*UTF-8"):
        slice_labels_from_csv(dataset / "labels.csv", decathlon_cases(dataset), CLASSES)


VISIBLE = [[0, 0], [1, 0], [1, 1], [0, 0], [0, 0], [0, 0]]


def saved(delimiter, both, number="{}", end="\r\n", first=""):
    """What a spreadsheet saves: VISIBLE, with an empty column and two empty rows at the end."""
    names = {1: "left atrium", 2: both}
    rows = [["la_007", number.format(n), names.get(n, "")] for n in range(6)]
    lines = [delimiter.join([*row, ""]) for row in [["Case", " SLICE ", "classes"], *rows, ["", "", ""]]]
    return first + end.join([*lines, "", ""])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be-marked", "cp1252"])
@pytest.mark.parametrize(
    "text",
    [
        saved(",", "left atrium;aorta"),
        saved(",", '"left atrium,aorta"', end="\n"),
        saved(";", "aorta|left atrium"),
        saved(";", "aorta, left atrium", number="{}.0"),
        saved(";", '"left atrium;aorta"', number="{},0"),
        saved("\t", "left atrium;aorta"),
        saved(";", "left atrium|aorta", first="sep=;\r\n"),
        saved("|", '"left atrium|aorta"', first="sep=|\r\n"),
    ],
)
def test_as_spreadsheets_save_it(dataset, text, encoding):
    path = dataset / "labels.csv"
    content = "\ufeff".encode("utf-16-be") + text.encode("utf-16-be") if "marked" in encoding else text.encode(encoding)
    path.write_bytes(content)
    labels = slice_labels_from_csv(path, decathlon_cases(dataset)[:1], CLASSES)
    np.testing.assert_array_equal(labels.matrix("la_007"), VISIBLE)


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16"])
def test_letters_of_other_languages(dataset, encoding):
    (dataset / "labels.csv").write_text("\n".join(rows(**{"1": "la_007,1,Läsion"})), encoding=encoding)
    labels = slice_labels_from_csv(dataset / "labels.csv", decathlon_cases(dataset)[:1], ["Läsion"])
    assert labels.matrix("la_007").sum() == 1


def test_separators_in_class_names_do_not_separate(dataset):
    classes = ["atrium, left", "aorta"]
    (dataset / "labels.csv").write_text("\n".join(rows(**{"1": 'la_007,1,"atrium, left|aorta"'})))
    labels = slice_labels_from_csv(dataset / "labels.csv", decathlon_cases(dataset)[:1], classes)
    assert labels.matrix("la_007")[1].tolist() == [1, 1]


def test_classes_that_run_into_further_columns_are_told(dataset):
    with pytest.raises(ValueError, match="line 3: expected 3 columns as in the header, but got 4; put texts"):
        read(dataset, rows(**{"1": "la_007,1,left atrium,aorta"}))
    with pytest.raises(ValueError, match="column 'case' is there 2 times; keep one"):
        read(dataset, ["case,Case,slice,classes"])


def test_a_workbook_is_told(dataset):
    (dataset / "labels.csv").write_bytes(b"PK\x03\x04...")
    with pytest.raises(ValueError, match="labels.csv is no CSV file .it is a spreadsheet's workbook.; save it"):
        slice_labels_from_csv(dataset / "labels.csv", decathlon_cases(dataset), CLASSES)


def pictures(folder, *names):
    folder.mkdir()
    for name in names:
        itk.imwrite(itk.image_from_array(np.zeros((4, 5), np.uint8)), str(folder / f"{name}.png"))
    return list_cases(folder)


def labels_of(cases, path, *lines):
    path.write_text("\n".join(lines))
    return slice_labels_from_csv(path, cases, CLASSES)


def test_pictures_need_no_slice(tmp_path):
    cases = pictures(tmp_path / "own", "a", "b")
    labels = labels_of(cases, tmp_path / "l.csv", "classes;case", "aorta;a.png", ";b")
    assert labels.matrix("a").tolist() == [[0, 1]] and labels.matrix("b").tolist() == [[0, 0]]
    assert labels_of(cases, tmp_path / "l.csv", "case,slice,classes", "a,,aorta", "b.png,0,").cases == labels.cases
    with pytest.raises(ValueError, match="slice 0 of a has two rows; keep one"):
        labels_of(cases, tmp_path / "l.csv", "case,classes", "a.png,aorta", "a,")


def test_volumes_need_their_slices(dataset):
    with pytest.raises(ValueError, match=r"columns \['slice'\] are missing; expected the header case,slice,classes"):
        read(dataset, ["case,classes", "la_007,aorta"])


@pytest.mark.parametrize(
    ("name", "written", "message"),
    [
        ("007", "7", "unknown case '7'; a spreadsheet may have read '007' as the number 7; format the column as text"),
        ("1E05", "1.00E+05", "read '1E05' as the number 1.00E[+]05"),
        ("1E05", "1,00E+05", "read '1E05' as the number 1,00E[+]05"),
        ("1E05", "100000", "read '1E05' as the number 100000"),
        ("12345678901234567", "1.23457E+16", "read '12345678901234567' as the number 1.23457E[+]16"),
        ("1-3", "01.03.2024", "read a name such as '1-3' as a date"),
        ("1-3", "3-Jan", "read a name such as '1-3' as a date"),
        ("MAR1", "01. Mrz", "read a name such as 'MAR1' as a date"),
        ("scan", "7", "unknown case '7'; expected one of the data set, for example scan"),
        ("marker", "maria", "unknown case 'maria'; expected one of the data set, for example marker"),
    ],
)
def test_names_that_a_spreadsheet_has_changed_are_told(tmp_path, name, written, message):
    cases = pictures(tmp_path / "own", name)
    with pytest.raises(ValueError, match=message):
        labels_of(cases, tmp_path / "l.csv", "case;classes", f"{written};aorta")
