use super::*;

/// Words between spaces; stored as it is used for single inputs of two tokens.
const TOKENIZER: &str = r#"{
    "version": "1.0",
    "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
    "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null,
                "pad_id": 0, "pad_type_id": 0, "pad_token": "[UNK]"},
    "added_tokens": [],
    "normalizer": null,
    "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "\\s+(?!\\S)|\\S+"},
                      "behavior": "Isolated", "invert": false},
    "post_processor": null,
    "decoder": null,
    "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1, "b": 2, "c": 3, " ": 4},
              "unk_token": "[UNK]"}
}"#;

fn options(length: usize) -> DataOptions {
    let text = TextOptions { length, ..TextOptions::default() };
    DataOptions { text, ..DataOptions::default() }
}

#[test]
fn blocks_of_tokens_have_the_next_tokens_as_targets() {
    let files = Files::new();
    files.write("tokenizer.json", TOKENIZER);
    let path = files.write("a.txt", "a b c b d");
    let dataset = open(&path, &options(3)).unwrap();
    assert_eq!((dataset.len(), dataset.classes()), (2, Some(5)));
    let batch = dataset.batch(&[1, 0], None).unwrap();
    assert_eq!(batch.inputs, [Array::Int(vec![4, 3, 4, 1, 4, 2], vec![2, 3])]);
    assert_eq!(batch.target, Some(Array::Int(vec![3, 4, 2, 4, 2, 4], vec![2, 3])));
}

#[test]
fn texts_that_make_no_samples_are_errors() {
    let files = Files::new();
    let path = files.write("a.txt", "a b");
    check(
        &files.open_error(&path, &options(2)),
        "Argument: `a.txt`: text without a tokenizer\n\
         set `tokenizer` to the model's `tokenizer.json`, or put it beside the text",
    );
    let tokenizer = files.write("tokenizer.json", TOKENIZER);
    check(
        &files.open_error(&path, &options(3)),
        "Argument: `a.txt`: 3 tokens make no sample of 3\ngive more text, or a smaller `length`",
    );
    check(
        &files.open_error(&path, &options(0)),
        "Argument: samples of 0 tokens\nset `length` to 1 or more",
    );
    files.write("tokenizer.json", TOKENIZER.replace("\"[UNK]\": 0", "\"d\": 0"));
    let unknown = files.write("b.txt", "a e");
    check(
        &files.open_error(&unknown, &options(1)),
        "Malformed: `b.txt`: no tokens: WordLevel error: Missing [UNK] token from the vocabulary\n\
         give the tokenizer of the model that the text is for",
    );
    files.write("tokenizer.json", "{");
    let text = files.open_error(&path, &options(1));
    assert!(text.starts_with("Malformed: `tokenizer.json`: not a valid tokenizer: "), "{text}");
    assert!(text.ends_with("\ngive the `tokenizer.json` of the model"), "{text}");
    let given = TextOptions { tokenizer: Some(files.path("none.json")), length: 1 };
    fs::remove_file(tokenizer).unwrap();
    check(
        &files.open_error(&path, &DataOptions { text: given, ..DataOptions::default() }),
        "Io: `none.json`: No such file or directory (os error 2)\ncheck the path",
    );
}
