//! The user's cache folder: a file per adapter of what `tune` measured, and one of what its driver compiled.

use super::AdapterFacts;
use crate::files::cache_folder;
use std::path::PathBuf;

/// Where results are kept between runs, or nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cache(Option<PathBuf>);

impl Cache {
    /// No cache: nothing is read and nothing is kept.
    pub fn none() -> Self {
        Self(None)
    }

    /// This folder, which need not exist yet.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self(Some(folder.into()))
    }

    /// The user's ([`cache_folder`]).
    pub fn of_user() -> Self {
        Self(cache_folder())
    }

    /// The file of one adapter, such as `tune-llvmpipe-llvm-15-0-6-256-bits-vulkan.json`.
    pub(super) fn file(&self, what: &str, facts: &AdapterFacts, ending: &str) -> Option<PathBuf> {
        let name = format!("{} {}", facts.name, facts.backend).to_lowercase();
        let words: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
        Some(self.0.as_ref()?.join(format!("{what}-{}.{ending}", words.join("-"))))
    }
}
