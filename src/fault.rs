//! Faults on demand, for the tests of what happens then. In a release build there are none.
//!
//! `WGRADCAM_FAULT=die=7` ends the process, as SIGKILL would, at the seventh of the points at which a file is being written
//! (before it, in its middle, before and after its rename); `full=3` is a full disk at the third file; `lost=5` loses the
//! device before the fifth submission of steps; `memory=100000` refuses programs of more bytes.

#[cfg(debug_assertions)]
fn asked(kind: &str) -> Option<u64> {
    let text = std::env::var("WGRADCAM_FAULT").ok()?;
    let (name, number) = text.split_once('=')?;
    (name == kind).then(|| number.parse().ok()).flatten()
}

/// Whether this call is the one of its kind at which the fault is due.
#[cfg(debug_assertions)]
pub(crate) fn due(kind: &str) -> bool {
    use std::sync::atomic::{AtomicU64, Ordering};
    // One kind is asked for in a process, so one counter does.
    static CALLS: AtomicU64 = AtomicU64::new(0);
    asked(kind).is_some_and(|number| CALLS.fetch_add(1, Ordering::Relaxed) + 1 == number)
}

/// Ends the process if that is due: no destructor runs and no buffer is flushed.
#[cfg(debug_assertions)]
pub(crate) fn die() {
    if due("die") {
        std::process::abort();
    }
}

/// Whether there is to be no memory for a program of so many bytes.
#[cfg(debug_assertions)]
pub(crate) fn no_memory(bytes: u64) -> bool {
    asked("memory").is_some_and(|most| bytes > most)
}

#[cfg(not(debug_assertions))]
mod none {
    pub(crate) fn due(_: &str) -> bool {
        false
    }
    pub(crate) fn die() {}
    pub(crate) fn no_memory(_: u64) -> bool {
        false
    }
}
#[cfg(not(debug_assertions))]
pub(crate) use none::*;
