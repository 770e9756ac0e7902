//! How much work goes into one submission: a driver's watchdog ends what runs for seconds (two on Windows), and an integrated GPU
//! draws no window meanwhile.

/// Seconds that a submission of several dispatches may take: far below every watchdog, far above a submission's own cost.
const LONGEST: f64 = 0.25;
/// Least seconds per dispatch, so that a clock too coarse for it does not make it free.
const LEAST: f64 = 1e-6;

/// The dispatches of a plan with the seconds that each took last, by the CPU's clock.
pub(super) struct Pace {
    seconds: Vec<f64>,
}

impl Pace {
    /// Of a plan that was not played yet: each of its dispatches goes alone first.
    pub(super) fn new(dispatches: usize) -> Self {
        Self { seconds: vec![LONGEST; dispatches] }
    }

    /// Where the submission ends that begins with call `from` of `calls`, the plan's dispatches repeated for each step. It holds
    /// one call at least, whatever it takes: a dispatch cannot be divided.
    pub(super) fn end(&self, from: usize, calls: usize) -> usize {
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
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut pace = Pace::new(3);
        assert_eq!(play(&mut pace, &[1e-4, 2e-4, 3e-4], 1), (3e-4, 3));
        assert_eq!(play(&mut pace, &[1e-4, 2e-4, 3e-4], 64).1, 1);
        // A step of 0.61 s: three submissions, none of them longer than it need be.
        let slow = [0.2, 0.4, 0.01];
        let mut pace = Pace::new(3);
        play(&mut pace, &slow, 2);
        let (longest, submissions) = play(&mut pace, &slow, 10);
        assert!((longest - 0.4).abs() < 1e-9 && submissions <= 30, "{longest} {submissions}");
    }

    #[test]
    fn a_first_run_that_compiled_is_forgotten() {
        let mut pace = Pace::new(4);
        play(&mut pace, &[3.0; 4], 1);
        play(&mut pace, &[1e-3; 4], 1);
        assert_eq!(play(&mut pace, &[1e-3; 4], 20).1, 1);
        // And a device that slows down is noticed after one submission.
        play(&mut pace, &[0.1; 4], 20);
        assert!(play(&mut pace, &[0.1; 4], 20).0 <= LONGEST + 1e-9);
    }
}
