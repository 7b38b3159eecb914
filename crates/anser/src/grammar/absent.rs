//! What takes the place of grammars where the feature `grammar` is off: types without values.

use super::Allowed;
use crate::error::Error;
use crate::model::Model;
use anser_tokenizer::Tokenizer;

/// A grammar, of which there is none: the library was built without its feature `grammar`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grammar {}

#[derive(Debug)]
pub(crate) struct Compiler;

#[derive(Debug)]
pub(crate) enum Constraint {}

impl Grammar {
    /// Compiles the grammar for the vocabulary of `model`.
    ///
    /// # Errors
    /// None, since there is no grammar.
    pub fn prepare(&self, _: &Model) -> Result<(), Error> {
        match *self {}
    }

    pub(crate) fn constraint(&self, _: &Model, _: &[u32]) -> Result<Constraint, Error> {
        match *self {}
    }
}

impl Compiler {
    pub(crate) fn new(_: &Tokenizer) -> Result<Compiler, String> {
        Ok(Compiler)
    }
}

impl Constraint {
    pub(crate) fn accept(&mut self, _: u32) -> Result<(), Error> {
        match *self {}
    }

    pub(crate) fn is_complete(&self) -> bool {
        match *self {}
    }

    pub(crate) fn allowed(&mut self) -> Result<Allowed<'_>, Error> {
        match *self {}
    }
}
