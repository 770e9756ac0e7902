//! What the benches share: made pictures, and timings with their spread.

// Each bench is a program of its own and uses a part of this.
#![allow(dead_code)]

use std::fmt;
use std::time::Instant;
use wgradcam::data::Dataset;
use wgradcam::rng::hash3;

/// Random pictures of two classes in turn, the same on every machine.
pub fn pictures(n: usize, size: usize) -> Dataset {
    Dataset {
        classes: vec!["a".into(), "b".into()],
        paths: vec!["made".into(); n],
        labels: (0..n as u32).map(|i| i % 2).collect(),
        pixels: (0..(n * size * size) as u32).map(|i| hash3(1, 2, i)).collect(),
        height: size,
        width: size,
        traits: Default::default(),
    }
}

/// Milliseconds of repeated runs, sorted.
pub struct Times(Vec<f64>);

impl Times {
    /// Runs `work` once uncounted and then `runs` times.
    pub fn of(runs: usize, work: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Self> {
        Self::checked(runs, work, |()| Ok(()))
    }

    /// The same for work whose result is looked at after the clock has stopped.
    pub fn checked<T>(
        runs: usize,
        mut work: impl FnMut() -> anyhow::Result<T>,
        mut check: impl FnMut(T) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(runs > 0, "nothing to time: at least one run is needed");
        check(work()?)?;
        let mut times = Vec::with_capacity(runs);
        for _ in 0..runs {
            let start = Instant::now();
            let result = work()?;
            times.push(1e3 * start.elapsed().as_secs_f64());
            check(result)?;
        }
        times.sort_by(f64::total_cmp);
        Ok(Self(times))
    }

    /// The same shared out over `n` pieces of work.
    pub fn per(&self, n: usize) -> Self {
        Self(self.0.iter().map(|t| t / n as f64).collect())
    }

    /// Half of the runs took no longer.
    pub fn median(&self) -> f64 {
        self.0[self.0.len() / 2]
    }

    /// Shortest and longest.
    pub fn extremes(&self) -> [f64; 2] {
        [self.0[0], self.0[self.0.len() - 1]]
    }

    /// Median and extremes in milliseconds, and how many runs they are of.
    pub fn to_json(&self) -> serde_json::Value {
        let [min, max] = self.extremes();
        serde_json::json!({"median_ms": self.median(), "min_ms": min, "max_ms": max, "runs": self.0.len()})
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let [min, max] = self.extremes();
        write!(f, "{:10.3} ms  ({min:.3}..{max:.3}, {} runs)", self.median(), self.0.len())
    }
}
