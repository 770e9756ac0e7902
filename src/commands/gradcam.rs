//! `wgradcam gradcam`.

use super::panels::{Drawn, Request, draw};
use super::{common, evaluation, say};
use crate::cli::{GradcamArgs, Sort, TargetName, Verdict};
use crate::data::Dataset;
use crate::engine::Outputs;
use crate::kernel::Precision;
use crate::model::Target;
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Rounding may leave this much of the terms' size missing in a sum of thousands of products: of f32, or of f16, where each of a few layers
/// rounds its factors by 2^-11 at most, forward and backward.
fn tolerance(precision: Precision) -> f64 {
    if precision == Precision::F32 { 1e-5 } else { 4e-3 }
}

/// Draws panels of the chosen pictures.
pub fn run(args: &GradcamArgs) -> Result<ExitCode> {
    let batch_size = common::batch_size(args.batch_size)?;
    let weights = common::weights(&args.weights)?;
    let (classes, reader) = (&weights.card.classes, &weights.card.reader);
    let known = |flag: &str, name: &String| {
        let found = classes.iter().position(|c| c == name);
        found.with_context(|| format!("{flag}: there is no class {name}; the network knows {}", classes.join(", ")))
    };
    let target = match &args.target {
        TargetName::Known(target) => *target,
        TargetName::Class(name) => Target::Class(known("--target", name)?),
    };
    let filter = Filter {
        true_class: args.true_class.as_ref().map(|c| known("--true", c)).transpose()?,
        predicted: args.predicted.as_ref().map(|c| known("--predicted", c)).transpose()?,
        only: args.only,
    };
    let folder = args.out.clone().unwrap_or_else(|| default_folder(&args.weights.weights));
    let _empty = common::EmptyFolder::make(&folder)?;
    let labelled = is_labelled(&args.pictures, classes);
    ensure!(
        labelled || (filter.true_class.is_none() && filter.only == Verdict::All),
        "--true and --only need true classes: give one folder with a folder for each of {}",
        classes.join(", ")
    );
    let data = if labelled {
        common::labelled(&args.pictures[0], classes, reader, &args.load, "read")?
    } else {
        common::unlabelled(&args.pictures, reader, &args.load)?
    };
    let choice = common::device(&args.device, args.device.precision.unwrap_or_default())?;
    let (outputs, _) = evaluation::outputs(&weights, &choice, &data, batch_size)?;
    // On the command line 0 means all.
    let limit = (args.limit > 0).then_some(args.limit);
    let chosen = filter.choose(&data, &outputs, args.sort, limit);
    if chosen.is_empty() {
        bail!("none of the {} pictures passes --true, --predicted and --only", data.len());
    }
    let request = Request {
        weights: &weights,
        data: &data,
        outputs: &outputs,
        labelled,
        chosen: &chosen,
        target,
        technique: args.technique,
        folder: &folder,
        npy: args.npy,
        check: args.check,
        boxes: &HashMap::new(),
    };
    let drawn = draw(&request, &choice)?;
    for d in &drawn {
        say!("{}  {}", folder.join(&d.entry.file).display(), d.entry.caption);
        for l in d.explanation.layers.iter().filter(|l| l.no_evidence()) {
            say!("    no positive evidence at {}", l.layer);
        }
    }
    say!("{} panels and gallery.html in {}", drawn.len(), folder.display());
    if args.check {
        return check(&drawn, &data, tolerance(args.device.precision.unwrap_or_default()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints how each layer's evidence adds up; fails if one does not.
fn check(drawn: &[Drawn], data: &Dataset, allowed: f64) -> Result<ExitCode> {
    let mut errors = Vec::new();
    for d in drawn {
        say!("{}", data.paths[d.explanation.picture].display());
        for c in d.explanation.check.iter().flatten() {
            errors.push(c.error());
            say!(
                "    {}: evidence {:+.6} + biases {:+.6} = {:+.6}, score {:+.6} (missing {:.1e} of the terms' size)",
                c.layer,
                c.evidence,
                c.biases,
                c.evidence + c.biases,
                c.score,
                c.error()
            );
        }
    }
    let worst = adds_up(&errors, allowed)?;
    say!("The evidence adds up to the score at every layer: at most {worst:.1e} is missing.");
    Ok(ExitCode::SUCCESS)
}

/// The largest error, if all are within the tolerance; NaN never is.
fn adds_up(errors: &[f64], allowed: f64) -> Result<f64> {
    for error in errors {
        ensure!(
            *error <= allowed,
            "the evidence does not add up to the score: {error:.1e} of the terms' size is missing, {allowed:.0e} allowed"
        );
    }
    Ok(errors.iter().copied().fold(0.0, f64::max))
}

struct Filter {
    true_class: Option<usize>,
    predicted: Option<usize>,
    only: Verdict,
}

impl Filter {
    fn choose(&self, data: &Dataset, outputs: &Outputs, sort: Sort, limit: Option<usize>) -> Vec<usize> {
        let passes = |&i: &usize| {
            let (actual, predicted) = (data.labels[i] as usize, outputs.class(i));
            self.true_class.is_none_or(|c| c == actual)
                && self.predicted.is_none_or(|c| c == predicted)
                && match self.only {
                    Verdict::All => true,
                    Verdict::Right => actual == predicted,
                    Verdict::Wrong => actual != predicted,
                }
        };
        let mut chosen: Vec<usize> = (0..data.len()).filter(passes).collect();
        let confidence = |i: usize| confidence(outputs, i);
        // Stable sorts: equal confidences stay in path order.
        match sort {
            Sort::Confident => chosen.sort_by(|&a, &b| confidence(b).total_cmp(&confidence(a))),
            Sort::Unsure => chosen.sort_by(|&a, &b| confidence(a).total_cmp(&confidence(b))),
            Sort::Path => {}
        }
        chosen.truncate(limit.unwrap_or(usize::MAX));
        chosen
    }
}

/// How sure the network is, by logits, which still differ where probabilities have rounded to 1.
fn confidence(outputs: &Outputs, i: usize) -> f32 {
    let logits = outputs.logits(i);
    let class = outputs.class(i);
    match logits {
        [z] => z.abs(),
        _ => {
            let others = logits.iter().enumerate().filter(|(j, _)| *j != class).map(|(_, z)| *z);
            logits[class] - others.fold(f32::NEG_INFINITY, f32::max)
        }
    }
}

/// The most confident pictures of a set, for the end of a training: a third of them wrong ones, if there are any.
pub fn pick(data: &Dataset, outputs: &Outputs, limit: usize) -> Vec<usize> {
    let choose = |only, limit| Filter { true_class: None, predicted: None, only }.choose(data, outputs, Sort::Confident, limit);
    let wrong = choose(Verdict::Wrong, Some(limit / 3));
    let mut chosen = choose(Verdict::Right, None);
    // Both classes in turn, not the ten easiest of one.
    let classes = data.classes.len();
    let mut by_class: Vec<Vec<usize>> = vec![Vec::new(); classes];
    chosen.drain(..).for_each(|i| by_class[data.labels[i] as usize].push(i));
    let mut rank = 0;
    while chosen.len() + wrong.len() < limit && by_class.iter().any(|c| c.len() > rank) {
        for class in &by_class {
            if let Some(&i) = class.get(rank)
                && chosen.len() + wrong.len() < limit
            {
                chosen.push(i);
            }
        }
        rank += 1;
    }
    chosen.extend(wrong);
    chosen
}

fn default_folder(weights: &Path) -> PathBuf {
    let folder = if weights.is_dir() { weights } else { weights.parent().unwrap_or(Path::new("")) };
    // The training's own panels stay as its report links them.
    (1..)
        .map(|n| folder.join(if n == 1 { "gradcam".into() } else { format!("gradcam-{n}") }))
        .find(|p| !p.exists())
        .unwrap_or_default()
}

/// One folder with at least one sub-folder that is named like a class of the network.
fn is_labelled(paths: &[PathBuf], classes: &[String]) -> bool {
    let [dir] = paths else { return false };
    let dir = common::class_folder(dir, classes);
    classes.iter().any(|c| dir.join(c).is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_that_is_no_number_does_not_add_up() {
        assert_eq!(adds_up(&[1e-7, 3e-6], 1e-5).unwrap(), 3e-6);
        assert!(adds_up(&[1e-7, f64::NAN, 1e-7], 1e-5).is_err());
        assert!(adds_up(&[2e-5], 1e-5).is_err());
    }

    #[test]
    fn few_panels_stay_few() {
        let data = Dataset {
            classes: vec!["a".into(), "b".into()],
            paths: (0..20).map(|i| i.to_string().into()).collect(),
            labels: (0..20).map(|i| i % 2).collect(),
            pixels: Vec::new(),
            height: 0,
            width: 0,
            traits: Default::default(),
        };
        // Half of them predicted wrong.
        let outputs = Outputs { width: 1, logits: vec![1.0; 20], probs: vec![0.7; 20] };
        for limit in 0..8 {
            assert_eq!(pick(&data, &outputs, limit).len(), limit);
        }
    }

    #[test]
    fn confidence_is_the_lead_of_the_predicted_class() {
        let softmax = Outputs { width: 3, logits: vec![0.5, 2.0, 1.5], probs: vec![0.1, 0.5, 0.4] };
        assert_eq!(confidence(&softmax, 0), 0.5);
        let sigmoid = Outputs { width: 1, logits: vec![-3.0], probs: vec![0.05] };
        assert_eq!(confidence(&sigmoid, 0), 3.0);
    }
}
