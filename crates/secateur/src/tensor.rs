//! Raw tensor data.
