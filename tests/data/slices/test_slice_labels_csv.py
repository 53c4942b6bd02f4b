import numpy as np
import pytest

from weakmedsam_ext.data import SliceLabels, decathlon_cases, slice_labels_from_csv

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
    (dataset / "labels.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ValueError, match="labels.csv is no CSV file .*UTF-8"):
        slice_labels_from_csv(dataset / "labels.csv", decathlon_cases(dataset), CLASSES)
