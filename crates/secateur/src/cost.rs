//! Parameters, bytes and multiply-accumulates of a model, before and after cuts.
