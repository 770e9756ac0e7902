//! How much work goes into one submission: a driver's watchdog ends what runs for seconds (two on Windows), and an integrated GPU
//! draws no window meanwhile. Fast dispatches share a submission; one that would take longer than [`LONGEST`] is played in slices of
//! its workgroups, which come to the same bytes.

use crate::kernel::Cost;

/// Seconds that a submission may take: far below every watchdog, far above a submission's own cost.
const LONGEST: f64 = 0.25;
/// Least seconds per dispatch or workgroup, so that a clock too coarse for it does not make it free.
const LEAST: f64 = 1e-9;
/// What a dispatch that was not played yet is taken to reach: less than any adapter does, so that its first slice is short enough.
const SLOWEST: Cost = Cost { flops: 1e9, bytes: 1e8 };

/// The dispatches of a plan with the seconds that each took last, by the CPU's clock.
pub(super) struct Pace {
    seconds: Vec<f64>,
    /// Workgroups of every slice, whatever they take; none but in tests.
    forced: Option<u64>,
}

impl Pace {
    /// Of a plan that was not played yet: each of its dispatches goes alone first, and in slices if it could be long.
    pub(super) fn new(dispatches: impl Iterator<Item = Cost>) -> Self {
        let guess = |cost: Cost| (cost.flops / SLOWEST.flops).max(cost.bytes / SLOWEST.bytes);
        Self { seconds: dispatches.map(|cost| guess(cost).max(LONGEST)).collect(), forced: None }
    }

    /// Plays everything in slices of so many workgroups from now on, or again as time asks for.
    pub(super) fn force(&mut self, groups: Option<u64>) {
        self.forced = groups;
    }

    /// Where the submission ends that begins with call `from` of `calls`, the plan's dispatches repeated for each step. It holds
    /// one call at least, whatever it takes.
    pub(super) fn end(&self, from: usize, calls: usize) -> usize {
        if self.forced.is_some() {
            return from + 1;
        }
        let mut sum = self.seconds[from % self.seconds.len()];
        let more = (from + 1..calls).take_while(|i| {
            sum += self.seconds[i % self.seconds.len()];
            sum <= LONGEST
        });
        from + 1 + more.count()
    }

    /// Takes the time of the submission of calls `from..to`, shared out as the earlier times were.
    pub(super) fn took(&mut self, from: usize, to: usize, seconds: f64) {
        let n = self.seconds.len();
        let before: f64 = (from..to).map(|i| self.seconds[i % n]).sum();
        for i in (from..to).take(n) {
            let s = &mut self.seconds[i % n];
            *s = (*s * seconds / before).max(LEAST);
        }
    }

    /// The slices of a call, if it is too long for one submission.
    pub(super) fn slices(&self, call: usize, grid: [u32; 3]) -> Option<Slices> {
        let seconds = self.seconds[call % self.seconds.len()];
        let per_group = seconds / grid.iter().map(|&n| f64::from(n)).product::<f64>();
        (self.forced.is_some() || seconds > LONGEST).then_some(Slices { grid, done: 0, per_group, forced: self.forced })
    }

    /// Whether some dispatch is played in slices.
    pub(super) fn has_slices(&self) -> bool {
        self.forced.is_some() || self.seconds.iter().any(|&s| s > LONGEST)
    }
}

/// Some of a grid's workgroups, as `shaders/shared/slice.wgsl` declares them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Slice {
    first: [u32; 3],
    _pad: u32,
    groups: [u32; 3],
    _end: u32,
}

impl Slice {
    /// All of a grid is a slice that begins at the first workgroup.
    pub(super) fn beginning_at(first: [u32; 3], grid: [u32; 3]) -> Self {
        Self { first, _pad: 0, groups: grid, _end: 0 }
    }

    /// Whether it begins at the grid's first workgroup.
    pub(super) fn is_first(&self) -> bool {
        self.first == [0; 3]
    }
}

/// A dispatch cut into boxes of workgroups: whole layers of its grid, rows of a layer or workgroups of a row.
pub(super) struct Slices {
    grid: [u32; 3],
    /// Workgroups that were played, in the grid's order.
    done: u64,
    /// Seconds that one takes, by what is known so far.
    per_group: f64,
    forced: Option<u64>,
}

impl Slices {
    /// What is to be played next, with its size in workgroups; none when all was.
    pub(super) fn next(&self) -> Option<(Slice, [u32; 3])> {
        let [x, y, z] = self.grid.map(u64::from);
        let left = x * y * z - self.done;
        if left == 0 {
            return None;
        }
        let most = self.forced.unwrap_or((LONGEST / self.per_group) as u64).clamp(1, left);
        let (row, layer) = (self.done / x, self.done / (x * y));
        let first = [self.done % x, row % y, layer];
        let size = if first[0] > 0 || most < x {
            [most.min(x - first[0]), 1, 1]
        } else if first[1] > 0 || most < x * y {
            [x, (most / x).min(y - first[1]), 1]
        } else {
            [x, y, most / (x * y)]
        };
        Some((Slice::beginning_at(first.map(|n| n as u32), self.grid), size.map(|n| n as u32)))
    }

    /// Takes the time of a slice of this size.
    pub(super) fn took(&mut self, size: [u32; 3], seconds: f64) {
        let groups = size.iter().map(|&n| u64::from(n)).product::<u64>();
        self.done += groups;
        self.per_group = (seconds / groups as f64).max(LEAST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(dispatches: usize) -> Pace {
        Pace::new(std::iter::repeat_n(Cost::default(), dispatches))
    }

    /// Plays `steps` steps of dispatches that take `seconds`; returns the longest submission and the number of them.
    fn play(pace: &mut Pace, seconds: &[f64], steps: usize) -> (f64, usize) {
        let calls = steps * seconds.len();
        let (mut at, mut longest, mut submissions) = (0, 0.0f64, 0);
        while at < calls {
            let end = pace.end(at, calls);
            let took: f64 = (at..end).map(|i| seconds[i % seconds.len()]).sum();
            pace.took(at, end, took);
            (at, longest, submissions) = (end, longest.max(took), submissions + 1);
        }
        (longest, submissions)
    }

    #[test]
    fn fast_steps_share_a_submission_and_slow_ones_are_divided() {
        let mut fast = pace(3);
        assert_eq!(play(&mut fast, &[1e-4, 2e-4, 3e-4], 1), (3e-4, 3));
        assert_eq!(play(&mut fast, &[1e-4, 2e-4, 3e-4], 64).1, 1);
        // A step of 0.61 s: three submissions, none of them longer than it need be.
        let slow = [0.2, 0.4, 0.01];
        let mut pace = pace(3);
        play(&mut pace, &slow, 2);
        let (longest, submissions) = play(&mut pace, &slow, 10);
        assert!((longest - 0.4).abs() < 1e-9 && submissions <= 30, "{longest} {submissions}");
    }

    #[test]
    fn a_first_run_that_compiled_is_forgotten() {
        let mut pace = pace(4);
        play(&mut pace, &[3.0; 4], 1);
        play(&mut pace, &[1e-3; 4], 1);
        assert_eq!(play(&mut pace, &[1e-3; 4], 20).1, 1);
        // And a device that slows down is noticed: by the player after two submissions, of which the second was written before.
        play(&mut pace, &[0.1; 4], 20);
        assert!(play(&mut pace, &[0.1; 4], 20).0 <= LONGEST + 1e-9);
    }

    /// Plays a dispatch in slices on a device that takes `per_group` seconds for a workgroup; returns how often each was played, and
    /// the longest slice.
    fn cut(mut slices: Slices, per_group: f64) -> (Vec<u32>, f64) {
        let [x, y, z] = slices.grid.map(|n| n as usize);
        let (mut played, mut longest) = (vec![0; x * y * z], 0.0f64);
        while let Some((slice, size)) = slices.next() {
            assert_eq!(slice.groups, slices.grid);
            let [fx, fy, fz] = slice.first.map(|n| n as usize);
            let [sx, sy, sz] = size.map(|n| n as usize);
            assert!(fx + sx <= x && fy + sy <= y && fz + sz <= z, "{slice:?} {size:?} of {:?}", slices.grid);
            for (k, j, i) in (fz..fz + sz).flat_map(|k| (fy..fy + sy).flat_map(move |j| (fx..fx + sx).map(move |i| (k, j, i)))) {
                played[(k * y + j) * x + i] += 1;
            }
            let seconds = per_group * (sx * sy * sz) as f64;
            longest = longest.max(seconds);
            slices.took(size, seconds);
        }
        (played, longest)
    }

    #[test]
    fn a_long_dispatch_is_cut_into_slices_that_cover_it_once() {
        for grid in [[1000, 1, 1], [7, 11, 13], [1, 1, 90], [3, 64, 1], [1, 1, 1], [65_535, 3, 1]] {
            let all = grid.iter().map(|&n| u64::from(n)).product::<u64>();
            for seconds in [0.3, 1.0, 60.0] {
                let mut pace = Pace::new([Cost { flops: seconds * SLOWEST.flops, bytes: 0.0 }].into_iter());
                let per_group = seconds / all as f64;
                let (played, longest) = cut(pace.slices(0, grid).expect("it is long"), per_group);
                assert!(played.iter().all(|&n| n == 1), "{grid:?}: {seconds} s");
                assert!(longest <= LONGEST.max(per_group) * (1.0 + 1e-9), "{grid:?}: {longest} of {seconds} s");
                // Ten times as fast as was thought: the first slice is short, and the next ones are not.
                assert!(cut(pace.slices(0, grid).expect("it is long"), per_group / 10.0).0.iter().all(|&n| n == 1));
                pace.took(0, 1, LONGEST / 2.0);
                assert!(pace.slices(0, grid).is_none() && !pace.has_slices());
            }
        }
        // A device that is thought slower than it is finds that out after one slice.
        let pace = Pace::new([Cost { flops: 1e12, bytes: 0.0 }].into_iter());
        let mut slices = pace.slices(0, [10_000, 1, 1]).expect("a thousand seconds");
        let (_, size) = slices.next().expect("a slice");
        assert_eq!(size, [2, 1, 1]);
        slices.took(size, 1e-6);
        assert_eq!(slices.next().map(|(_, size)| size), Some([9_998, 1, 1]));
        // Forced, slices are as large as is asked for: of a row, of rows and of layers.
        let mut pace = Pace::new([Cost::default()].into_iter());
        for groups in [1, 3, 5, 7, 20, 33, 60, 100] {
            pace.force(Some(groups));
            assert_eq!(pace.end(0, 9), 1);
            assert!(cut(pace.slices(0, [5, 4, 3]).expect("forced"), 1.0).0.iter().all(|&n| n == 1), "{groups}");
        }
        pace.force(Some(7));
        assert_eq!(pace.slices(0, [5, 4, 3]).and_then(|s| s.next()).map(|(_, size)| size), Some([5, 1, 1]));
        pace.force(None);
        assert!(!pace.has_slices());
    }
}
