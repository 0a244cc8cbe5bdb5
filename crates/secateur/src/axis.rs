//! Axis algebra.
