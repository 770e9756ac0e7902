//! Every kernel of the registry against its CPU twin, on this machine's adapter: exact on small integers, within the rounding
//! bound on random floats.

mod common;

use wgradcam::verify;

#[test]
fn every_kernel_equals_its_twin() {
    let Some(adapter) = common::adapter() else { return };
    let filter = std::env::var("WGRADCAM_KERNEL").ok();
    eprintln!(
        "{:34} {:>5} {:>9} {:>9} {:>10} {:>10} {:>10} {:>4} {:>7}",
        "", "cases", "exact", "bounded", "err/bound", "error", "cpu/bound", "ties", "s"
    );
    let report = verify::run(&adapter, filter.as_deref(), |r| {
        eprintln!(
            "{:34} {:>5} {:>9} {:>9} {:>10.4} {:>10.2e} {:>10.4} {:>4} {:>7.2} {}",
            r.key,
            r.cases,
            r.exact,
            r.bounded,
            r.ratio,
            r.error,
            r.cpu_ratio,
            r.near_ties,
            r.seconds,
            r.failure.as_deref().unwrap_or("")
        );
    })
    .expect("the filter names a kernel");
    let failures: Vec<_> = report.rows.iter().filter_map(|r| r.failure.as_deref()).collect();
    assert!(
        report.passed && failures.is_empty(),
        "{} of {} kernels failed:\n{}",
        failures.len(),
        report.rows.len(),
        failures.join("\n")
    );
    // A harness that compares nothing would pass too.
    for row in &report.rows {
        assert!(row.cases > 0 && row.exact + row.bounded > 0, "{} was not tested", row.key);
    }
}
