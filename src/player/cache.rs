//! The user's cache folder: a file per adapter of what `tune` measured, and one of what its driver compiled.

use super::AdapterFacts;
use etcetera::BaseStrategy;
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

    /// `WGRADCAM_CACHE`, else wgradcam's folder where the system keeps caches (`XDG_CACHE_HOME`, `~/.cache`, `%LOCALAPPDATA%`); none for
    /// a user without a home.
    pub fn of_user() -> Self {
        match std::env::var_os("WGRADCAM_CACHE") {
            Some(folder) if !folder.is_empty() => Self::at(folder),
            _ => Self(etcetera::choose_base_strategy().ok().map(|base| base.cache_dir().join("wgradcam"))),
        }
    }

    /// The file of one adapter, such as `tune-llvmpipe-llvm-15-0-6-256-bits-vulkan.json`.
    pub(super) fn file(&self, what: &str, facts: &AdapterFacts, ending: &str) -> Option<PathBuf> {
        let name = format!("{} {}", facts.name, facts.backend).to_lowercase();
        let words: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
        Some(self.0.as_ref()?.join(format!("{what}-{}.{ending}", words.join("-"))))
    }
}
