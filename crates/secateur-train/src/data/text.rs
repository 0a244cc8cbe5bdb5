//! Text for language models: blocks of tokens, each with the next tokens as its target.

use std::path::{Path, PathBuf};

use secateur::{Error, Result};
use tokenizers::Tokenizer;

use super::file::{argument, malformed, read, read_text};
use super::{Array, Batch, DataOptions, Dataset, TextOptions, check_indices};

/// A text as tokens. Sample `i` reads `length` tokens from `i * length` on.
#[derive(Debug)]
pub(crate) struct TextDataset {
    tokens: Vec<u32>,
    length: usize,
    vocabulary: usize,
}

/// Opens a text and cuts it by its tokenizer.
pub(crate) fn open(path: &Path, options: &DataOptions) -> Result<TextDataset> {
    let TextOptions { tokenizer, length } = &options.text;
    if *length == 0 {
        return Err(Error::argument("samples of 0 tokens").hint("set `length` to 1 or more"));
    }
    let tokenizer = read_tokenizer(&tokenizer_path(path, tokenizer.as_deref())?)?;
    let text = read_text(path)?;
    let encoding = tokenizer.encode_fast(text, false);
    let encoding = encoding.map_err(|error| {
        malformed(path, format!("no tokens: {error}"))
            .hint("give the tokenizer of the model that the text is for")
    })?;
    let tokens = encoding.get_ids().to_vec();
    if tokens.len() <= *length {
        let count = tokens.len();
        return Err(argument(path, format!("{count} tokens make no sample of {length}"))
            .hint("give more text, or a smaller `length`"));
    }
    let highest = tokens.iter().max().map_or(0, |&token| token as usize + 1);
    let vocabulary = tokenizer.get_vocab_size(true).max(highest);
    Ok(TextDataset { tokens, length: *length, vocabulary })
}

impl Dataset for TextDataset {
    fn len(&self) -> usize {
        // The last token of all is only a target.
        (self.tokens.len() - 1) / self.length
    }

    fn batch(&self, indices: &[usize], _augment: Option<u64>) -> Result<Batch> {
        check_indices(indices, self.len())?;
        Ok(Batch { inputs: vec![self.blocks(indices, 0)], target: Some(self.blocks(indices, 1)) })
    }

    fn classes(&self) -> Option<usize> {
        Some(self.vocabulary)
    }
}

impl TextDataset {
    fn blocks(&self, indices: &[usize], shift: usize) -> Array {
        let blocks = indices.iter().filter_map(|index| {
            let start = index * self.length + shift;
            self.tokens.get(start..start + self.length)
        });
        let tokens = blocks.flatten().map(|&token| token.into()).collect();
        Array::Int(tokens, vec![indices.len(), self.length])
    }
}

fn tokenizer_path(text: &Path, given: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let beside = text.with_file_name("tokenizer.json");
    if beside.is_file() {
        return Ok(beside);
    }
    Err(argument(text, "text without a tokenizer")
        .hint("set `tokenizer` to the model's `tokenizer.json`, or put it beside the text"))
}

fn read_tokenizer(path: &Path) -> Result<Tokenizer> {
    let bytes = read(path)?;
    let broken = |error: tokenizers::Error| {
        malformed(path, format!("not a valid tokenizer: {error}"))
            .hint("give the `tokenizer.json` of the model")
    };
    let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(broken)?;
    // Tokenizers are stored as they cut single inputs: the text is one, and longer.
    tokenizer.with_truncation(None).map_err(broken)?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}
