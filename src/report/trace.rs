//! Timed steps as Chrome's trace events, which ui.perfetto.dev and chrome://tracing draw.
//!
//! Format: <https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU>.

use serde_json::{Map, Value, json};

/// One event on the track.
pub struct Event<'a> {
    /// What is written on it.
    pub name: &'a str,
    /// Seconds since its step began.
    pub start: f64,
    /// Seconds.
    pub seconds: f64,
    /// What a click on it shows.
    pub facts: Map<String, Value>,
}

/// The steps, one behind the other on one track named `device`; inside a step every event stands where it was measured.
pub fn trace(device: &str, steps: &[Vec<Event>]) -> Value {
    let micros = |seconds: f64| 1e6 * seconds;
    let named = |what: &str, name: &str| json!({"ph": "M", "pid": 1, "tid": 1, "name": what, "args": {"name": name}});
    let mut events = vec![named("process_name", "wgradcam profile"), named("thread_name", device)];
    let mut at = 0.0;
    for (i, step) in steps.iter().enumerate() {
        let end = step.iter().map(|e| e.start + e.seconds).fold(0.0, f64::max);
        let name = format!("step {}", i + 1);
        events.push(json!({"ph": "X", "pid": 1, "tid": 1, "cat": "step", "name": name, "ts": micros(at), "dur": micros(end)}));
        events.extend(step.iter().map(|e| {
            let (ts, dur) = (micros(at + e.start), micros(e.seconds));
            json!({"ph": "X", "pid": 1, "tid": 1, "cat": "kernel", "name": e.name, "ts": ts, "dur": dur, "args": e.facts})
        }));
        at += end;
    }
    json!({"displayTimeUnit": "ms", "traceEvents": events})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_lie_inside_their_steps_and_steps_behind_each_other() {
        let event = |name, start, seconds| Event { name, start, seconds, facts: Map::new() };
        let steps = [0.0, 1.0].map(|_| vec![event("a \"b\"", 0.0, 0.25), event("c", 0.5, 0.25)]);
        let text = trace("llvmpipe\n1", &steps).to_string();
        let value: Value = serde_json::from_str(&text).unwrap();
        let events = value["traceEvents"].as_array().unwrap();
        let of = |cat: &str| -> Vec<(f64, f64)> {
            let found = events.iter().filter(|e| e["cat"] == cat);
            found.map(|e| (e["ts"].as_f64().unwrap(), e["dur"].as_f64().unwrap())).collect()
        };
        assert_eq!(of("step"), [(0.0, 750_000.0), (750_000.0, 750_000.0)]);
        assert_eq!(of("kernel"), [(0.0, 250e3), (500e3, 250e3), (750e3, 250e3), (1250e3, 250e3)]);
        assert!(events.iter().all(|e| e["ph"].is_string() && e["pid"].is_u64() && e["tid"].is_u64() && e["name"].is_string()));
    }
}
