//! No kernel loops longer than the driver lets it: lavapipe silently leaves a kernel's loops after 65,535 passes, all loops of
//! an invocation together, and what comes out is wrong without an error.

mod common;

use std::collections::BTreeSet;
use std::sync::Mutex;
use wgradcam::kernel::{self, Access, Binding, Dims, Elem, Kernel, MAX_ITERATIONS};
use wgradcam::model::{Explain, Mode, Model, ModelSettings, Padding, PictureSet, Target, Technique, lower};
use wgradcam::ops::conv2d::Conv2dDims;
use wgradcam::ops::dense::DenseDims;
use wgradcam::ops::gather::ChunkDims;
use wgradcam::ops::peak::PeakDims;
use wgradcam::ops::pictures::PicturesDims;
use wgradcam::plan::Program;
use wgradcam::player::{Adapter, GpuPlayer, Player};
use wgradcam::train::MAX_BATCH;
use wgradcam::verify;

/// Cases of more elements are left out where every pass is counted by an atomic.
const SMALL: usize = 200_000;

/// The buffer that the instrumented shader counts in.
const BUSIEST: Binding = Binding { name: "busiest", access: Access::Update, elem: Elem::U32, len: |_| 1 };

/// The WGSL with a count before every loop and at the start of every loop's body.
fn counted(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    let next = |text: &str| ["for (", "while (", "loop {"].iter().filter_map(|word| text.find(word)).min();
    while let Some(at) = next(rest) {
        let begins_a_word = rest[..at].chars().next_back().is_none_or(|c| c.is_whitespace());
        // The head of a loop may hold parentheses and a template's values, but no brace of WGSL's.
        let plain = rest[at..].replace("{{", "((").replace("}}", "))");
        let body = at + plain.find('{').expect("a loop has a body") + 1;
        let head = &rest[at..body];
        assert_eq!(head.matches('(').count(), head.matches(')').count(), "{head}");
        out.push_str(&rest[..at]);
        let comment = out.rsplit('\n').next().is_some_and(|line| line.contains("//"));
        let count = if begins_a_word && !comment { "count_pass(); " } else { "" };
        out.push_str(&format!("{count}{head} {count}"));
        rest = &rest[body..];
    }
    out + rest
}

/// The file without its other entry points, which have bindings of their own where this one's counter stands.
fn alone(source: &str, entry: &str) -> String {
    let mut out = String::new();
    let mut skips = false;
    let lines: Vec<&str> = source.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        if line.starts_with("@compute") {
            let header = if line.contains("fn ") { line } else { lines[i + 1] };
            skips = !header.contains(&format!("fn {entry}("));
        }
        if !skips {
            out.push_str(line);
            out.push('\n');
        }
        skips &= *line != "}";
    }
    out
}

/// The text with a line before the end of this entry point, which has no other end behind the first loop.
fn ending_with(text: &str, entry: &str, line: &str) -> String {
    let body = text.find(&format!("fn {entry}(")).expect("the entry point is there");
    let end = body + text[body..].find("\n}").expect("it ends in the first column");
    let looping = text[body..end].find("count_pass").map_or("", |at| &text[body + at..end]);
    assert!(!looping.contains("return"), "{entry} returns between loops");
    format!("{}\n    {line}{}", &text[..end], &text[end..])
}

/// Storage buffers that WebGPU promises.
const MOST_BUFFERS: usize = 8;

/// The kernel that counts its loop passes besides doing its work. Where it has all the buffers that there may be, the counter takes the
/// place of the last, which each invocation then has for itself: no loop depends on what stands in it.
fn instrumented(kernel: &Kernel) -> &'static Kernel {
    let kept = kernel.bindings.len().min(MOST_BUFFERS - 1);
    let binding = kernel::FIRST_BINDING as usize + kept;
    let mut source = alone(kernel.source, kernel.entry);
    for lost in &kernel.bindings[kept..] {
        let declared = format!("@group(0) @binding({binding}) var<storage, read_write> {}: array<vec4<f32>>;", lost.name);
        assert_eq!(source.matches(&declared).count(), 1, "{declared}");
        source = source.replace(&declared, &format!("var<private> {}: array<vec4<f32>, 4>;", lost.name));
    }
    let counter = format!(
        "
        @group(0) @binding({binding}) var<storage, read_write> busiest: array<atomic<u32>>;
        var<private> passes_made: u32;
        fn count_pass() {{
            passes_made += 1u;
        }}"
    );
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let mut shared: Vec<&'static str> = kernel.shared.iter().map(|text| leak(counted(text))).collect();
    shared.push(leak(counter));
    let bindings: Vec<Binding> =
        kernel.bindings[..kept].iter().map(|b| Binding { ..*b }).chain(std::iter::once(BUSIEST)).collect();
    Box::leak(Box::new(Kernel {
        source: leak(ending_with(&counted(&source), kernel.entry, "atomicMax(&busiest[0], passes_made);")),
        shared: Box::leak(shared.into_boxed_slice()),
        bindings: Box::leak(bindings.into_boxed_slice()),
        ..*kernel
    }))
}

#[test]
fn the_counter_finds_every_loop() {
    let text = counted("for (a; b(); c) { x; while (y) { z; } }\n// for (ever) { and }\nloop { break; } before(ii);");
    assert_eq!(
        text,
        "count_pass(); for (a; b(); c) { count_pass();  x; count_pass(); while (y) { count_pass();  z; } }\n\
         // for (ever) {  and }\ncount_pass(); loop { count_pass();  break; } before(ii);"
    );
}

#[test]
fn stated_loop_passes_are_those_that_are_made() {
    let Some(adapter) = common::adapter() else { return };
    // Shapes whose loops differ in length, besides the registry's own cases.
    let more = |kernel: &Kernel| -> Vec<Vec<u32>> {
        let uneven = Conv2dDims::new(40, [9, 8, 4], 8, [1, 3], false, true).pooled();
        if kernel.dims == Conv2dDims::FIELDS {
            let same = Conv2dDims::new(3, [9, 14, 12], 20, [5, 2], true, false);
            let narrow = Conv2dDims::new(2, [5, 12, 16], 16, [3, 3], false, true).pooled();
            [same, uneven, narrow].map(|d| d.words()).to_vec()
        } else if kernel.dims == PicturesDims::FIELDS {
            vec![PicturesDims { conv: uneven, chunk: ChunkDims::whole(50) }.words()]
        } else if kernel.dims == DenseDims::FIELDS {
            vec![DenseDims::new(70, 1024, 36, true).words()]
        } else {
            Vec::new()
        }
    };
    let mut texts = BTreeSet::new();
    let mut counting = Vec::new();
    for kernel in kernel::all().filter(|k| adapter.can_run(k)) {
        let mut cases: Vec<Vec<u32>> = (kernel.cases)();
        cases.retain(|dims| verify::elements(kernel, dims) <= SMALL);
        if kernel.dims == PicturesDims::FIELDS {
            // Of another chunk's pictures nothing is computed: of these cases those that have all in one.
            let in_one = |d: &PicturesDims| d.chunk.chunk_first == 0 && d.chunk.chunk_len == d.chunk.pictures;
            cases.retain(|dims| in_one(PicturesDims::of(dims)));
        }
        if kernel.key.starts_with("conv2d") || kernel.key.starts_with("dense") {
            cases.extend(more(kernel).into_iter().filter(|dims| kernel.fits(dims)));
        }
        assert!(!cases.is_empty(), "{} has no small case", kernel.key);
        let has_loops = counted(&alone(&kernel.wgsl(&cases[0]), kernel.entry)).contains("count_pass");
        let stated: Vec<usize> = cases.iter().map(|dims| (kernel.loops)(dims)).collect();
        // Of one text for the same shapes, what it loads from changes no loop.
        let made: Vec<_> = cases.iter().map(|dims| kernel.constants(dims)).collect();
        if !texts.insert((kernel.file, kernel.entry, made, stated.clone())) {
            continue;
        }
        if !has_loops {
            assert!(stated.iter().all(|&n| n == 0), "{} has no loop and states {stated:?}", kernel.key);
            continue;
        }
        counting.push((kernel, cases, stated));
    }
    // A driver on the CPU takes most of the time for their machine code.
    let next = Mutex::new(counting.iter());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let Some((kernel, cases, stated)) = next.lock().expect("no thread panicked").next() else { return };
                    count(&adapter, kernel, cases, stated);
                }
            });
        }
    });
}

/// Plays a kernel in these cases and compares the passes of its loops with those that it states.
fn count(adapter: &Adapter, kernel: &Kernel, cases: &[Vec<u32>], stated: &[usize]) {
    let counting = instrumented(kernel);
    let mut program = Program::new();
    for (i, dims) in cases.iter().enumerate() {
        program.begin(format!("case {i}"), 1);
        let names: Vec<String> = counting.bindings.iter().map(|b| format!("{i}/{}", b.name)).collect();
        program.dispatch_kernel("loops", counting, dims.clone(), &names.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let mut player = GpuPlayer::new(adapter, program).unwrap_or_else(|e| panic!("{}: {e:#}", kernel.key));
    for (i, (dims, &stated)) in cases.iter().zip(stated).enumerate() {
        player.play(wgradcam::plan::PlanId(i), &[verify::step()]).expect("it plays");
        let bytes = player.read_bytes(&format!("{i}/busiest")).expect("it reads back");
        let made = u32::from_le_bytes(bytes[..4].try_into().expect("four bytes")) as usize;
        assert!(made > 0, "{} with {dims:?} made no pass", kernel.key);
        // No kernel's loops depend on its data, but that another chunk's pictures are passed over.
        assert_eq!(stated, made, "{} with {dims:?}", kernel.key);
    }
}

#[test]
fn loops_at_the_limit_are_played_to_their_end() {
    let Some(adapter) = common::adapter() else { return };
    let rows = (MAX_ITERATIONS as u32 - 1) / 3;
    let narrow =
        Conv2dDims { splits: 1, rows_per_split: rows, ..Conv2dDims::new(1, [rows as usize, 1, 4], 4, [1, 1], false, false) };
    let rounds = MAX_ITERATIONS as u32 - 1;
    let longest: [(&str, Vec<u32>); 3] = [
        ("peak.flops", PeakDims { len: 64, rounds }.words()),
        ("conv2d.backward_weight", narrow.words()),
        ("dense.backward_weight", DenseDims::new(MAX_BATCH, 4, 4, false).words()),
    ];
    for (key, dims) in longest {
        let kernel = kernel::by_key(key);
        let passes = (kernel.loops)(&dims);
        assert!((MAX_BATCH..=MAX_ITERATIONS).contains(&passes), "{key}: {passes}");
        let row = verify::check(&adapter, kernel, &[dims]);
        assert!(row.passed, "{key} after {passes} passes: {:?}", row.failure);
    }
}

#[test]
fn longer_loops_are_refused() {
    let Some(adapter) = common::adapter() else { return };
    let mut program = Program::new();
    program.begin("too long", 1);
    program.dispatch("layer", "peak.flops", PeakDims { len: 4, rounds: MAX_ITERATIONS as u32 }.words(), &["x", "line", "y"]);
    let error = GpuPlayer::new(&adapter, program).err().expect("a loop past the limit").to_string();
    assert!(error.contains("layer: peak.flops") && error.contains("65001"), "{error}");
}

/// Bytes past which no device binds a tensor: such a network is refused before a kernel runs.
const LARGEST_BINDING: usize = 4 << 30;

#[test]
fn no_network_that_can_be_asked_for_loops_past_the_limit() {
    let mut settings = Vec::new();
    for size in [[16, 16], [100, 75], [512, 512], [4096, 4], [4, 4096], [4096, 4096]] {
        for filters in
            [vec![1], vec![256], vec![256; 5], vec![16, 32, 64], vec![2048, 4], vec![512; 2], vec![1024; 2], vec![65_536]]
        {
            for kernel_size in [1, 2, 3, 5, 9, 15, 63] {
                for padding in [Padding::Valid, Padding::Same] {
                    for dense in [vec![], vec![4096, 4096], vec![65_536]] {
                        let filters = filters.clone();
                        settings.push(ModelSettings { size, filters, kernel_size, padding, dense, ..ModelSettings::default() });
                    }
                }
            }
        }
    }
    let explain = Mode::Explain(Explain { target: Target::Predicted, technique: Technique::Gradcam, check: false });
    let (mut networks, mut dispatches, mut most) = (0, 0, 0);
    for (settings, classes) in settings.iter().flat_map(|s| [2, 1000, 16_384].map(|classes| (s, classes))) {
        let Ok(model) = Model::new(settings, classes) else { continue };
        networks += 1;
        for batch in [1, 1024, MAX_BATCH] {
            let [h, w] = settings.size;
            let set = PictureSet { name: "train", pictures: 50_000, chunk: PictureSet::chunk_of(1 << 27, [h, w]), table: 2048 };
            for mode in [Mode::Train, Mode::Evaluate, explain] {
                let mut program = Program::new();
                let plan = lower(&mut program, &model, &set, batch, mode);
                if program.tensors.iter().any(|t| 4 * t.len > LARGEST_BINDING) {
                    continue;
                }
                for call in &program.plans[plan.0].dispatches {
                    let passes = (call.kernel.loops)(&call.dims);
                    assert!(passes <= MAX_ITERATIONS, "{} of {settings:?} at batch {batch}: {passes} passes", call.label);
                    (dispatches, most) = (dispatches + 1, most.max(passes));
                }
            }
        }
    }
    eprintln!("{networks} networks, {dispatches} dispatches, at most {most} passes");
    assert!(
        networks > 100 && dispatches > 10_000 && most > MAX_ITERATIONS / 2,
        "{networks} networks, {most} passes: the shapes are not extreme"
    );
}
