//! `mask`: a model with what a plan removes set to zero.
