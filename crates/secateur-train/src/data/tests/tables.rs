use super::*;

fn open_table(text: &str, options: &DataOptions) -> (Files, Result<Arc<dyn Dataset>>) {
    let files = Files::new();
    let dataset = open(&files.write("a.csv", text), options);
    (files, dataset)
}

fn table(text: &str, options: &DataOptions) -> Arc<dyn Dataset> {
    open_table(text, options).1.unwrap()
}

fn error(text: &str, options: &DataOptions) -> String {
    let (files, dataset) = open_table(text, options);
    files.text(&dataset.err().unwrap())
}

#[test]
fn the_last_column_holds_classes_in_the_order_of_their_names() {
    let text = "\u{feff}length, width, kind\n1, 2.5, rose\n-3, 4e1,\"iris, blue\"\n5,6,rose\n";
    let dataset = table(text, &DataOptions::default());
    assert_eq!((dataset.len(), dataset.classes()), (3, Some(2)));
    assert_eq!(dataset.class_names().unwrap(), ["iris, blue", "rose"]);
    let batch = dataset.batch(&[1, 0], None).unwrap();
    assert_eq!(batch.inputs, [Array::Float(vec![-3.0, 40.0, 1.0, 2.5], vec![2, 2])]);
    assert_eq!(batch.target, Some(Array::Int(vec![0, 1], vec![2])));
}

#[test]
fn a_named_column_holds_numbers() {
    let options = DataOptions { target: Some("price".into()), ..DataOptions::default() };
    let dataset = table("price,rooms\n10.5,2\n8,1\n", &options);
    assert_eq!((dataset.classes(), dataset.class_names()), (None, None));
    let batch = whole(&dataset);
    assert_eq!(batch.inputs, [Array::Float(vec![2.0, 1.0], vec![2, 1])]);
    assert_eq!(batch.target, Some(Array::Float(vec![10.5, 8.0], vec![2, 1])));
}

#[test]
fn integers_are_classes_unless_numbers_are_asked_for() {
    let text = "0.5,0\n1.5,2\n";
    let dataset = table(text, &DataOptions::default());
    assert_eq!(dataset.classes(), Some(3));
    assert_eq!(ints(&whole(&dataset).target.unwrap()), [0, 2]);
    let options = DataOptions { targets: Targets::Numbers, ..DataOptions::default() };
    assert_eq!(floats(&whole(&table(text, &options)).target.unwrap()), [0.0, 2.0]);
}

#[test]
fn the_first_row_is_a_header_if_no_cell_is_a_number() {
    assert_eq!(table("1,2,cat\n3,4,dog\n", &DataOptions::default()).len(), 2);
    assert_eq!(table("x,y,kind\n3,4,dog\n", &DataOptions::default()).len(), 1);
    let present = DataOptions { header: Header::Present, ..DataOptions::default() };
    assert_eq!(table("1,2,3\n3,4,5\n", &present).len(), 1);
    let absent = DataOptions { header: Header::Absent, ..DataOptions::default() };
    check(
        &error("x,y,kind\n3,4,dog\n", &absent),
        "Malformed: `a.csv`: row 1, column 1 is `x`, not a number\n\
         correct it, encode the column as numbers, or name the column of labels",
    );
}

#[test]
fn tabs_separate_where_the_name_says_so() {
    let files = Files::new();
    let path = files.write("a.tsv", "1\t2\n3\t4\n");
    assert_eq!(
        floats(&whole(&open(&path, &DataOptions::default()).unwrap()).inputs[0]),
        [1.0, 3.0]
    );
}

#[test]
fn bad_cells_are_errors_that_name_row_and_column() {
    let options = DataOptions::default();
    check(
        &error("a,b,c\n1,2,3\n1,,3\n", &options),
        "Malformed: `a.csv`: row 3, column `b` has no value\nfill in the value, or remove the row",
    );
    check(
        &error("a,b,c\r\n1,2,3\r\n\r\n1,2,NA\r\n", &options),
        "Malformed: `a.csv`: row 4, column `c` has no value\nfill in the value, or remove the row",
    );
    check(
        &error("1,2,3\n1,\"2\nx\",3\n", &options),
        "Malformed: `a.csv`: row 2, column 2 is `2\nx`, not a number\n\
         correct it, encode the column as numbers, or name the column of labels",
    );
    check(
        &error("1,2,3\n1,2\n", &options),
        "Malformed: `a.csv`: row 2 has 2 cells, the first has 3\n\
         give each row as many cells, and quote those that hold a separator",
    );
    check(
        &error("1,-2\n", &options),
        "Argument: `a.csv`: sample 0 has the label -2, which is not in 0..16777216\n\
         number the classes from 0, or set `targets` to numbers",
    );
    let numbers = DataOptions { targets: Targets::Numbers, ..DataOptions::default() };
    check(
        &error("1,cheap\n", &numbers),
        "Malformed: `a.csv`: row 1, column 2 is `cheap`, not a number\n\
         correct it, encode the column as numbers, or name the column of labels",
    );
}

#[test]
fn bad_tables_are_errors() {
    let options = DataOptions::default();
    check(
        &error("a,b\n", &options),
        "Malformed: `a.csv`: a table without rows\ngive a sample in each row",
    );
    check(
        &error("1;2\n3;4\n", &options),
        "Malformed: `a.csv`: a table of one column\nseparate columns by commas, or by tabs in a \
         `.tsv` file, with targets in the last",
    );
    let named = DataOptions { target: Some("c".into()), ..DataOptions::default() };
    check(
        &error("a,b\n1,2\n", &named),
        "Argument: `a.csv`: no column `c`, but `a`, `b`\n\
         set `target` to the name of a column, or leave it out for the last",
    );
    let files = Files::new();
    let path = files.write("a.csv", b"1,2\n\xff,3\n");
    check(
        &files.open_error(&path, &options),
        "Malformed: `a.csv`: byte 4 is not part of UTF-8 text\nsave the file as UTF-8",
    );
    let path = files.write("a.csv", "inf,2\n");
    check(
        &files.batch_error(&path, &options),
        "Malformed: `a.csv`: sample 0 has the value inf in 32 bits\n\
         remove the sample, or give it finite values",
    );
}
