//! Times burn on the notebook's training step: `burn-step --problem problem.safetensors --device wgpu|flex`.
//!
//! The problem file is what `cargo bench --bench step -- --write FILE` makes: weights, pictures, labels and the losses that two
//! steps without dropout must give. They are checked before anything is timed. The pictures are resident as floats.

use anyhow::{Context, Result, ensure};
use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::{BinaryCrossEntropyLoss, BinaryCrossEntropyLossConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::activation::relu;
use burn::tensor::{Device, DeviceKind, Int, Tensor, TensorData};
use clap::Parser;
use safetensors::SafeTensors;
use std::path::PathBuf;
use std::time::Instant;

/// Keras's, not burn's 1e-5.
const EPSILON: f32 = 1e-7;
const LEARNING_RATE: f64 = 1e-3;
/// Allowed of the loss at the first weights and of the loss after an update, relative. Adam's first update is nearly the sign of the
/// gradient, so that the small errors of burn's wgpu gradients move the second loss by half a percent.
const TOLERANCE: [f32; 2] = [1e-4, 1e-2];

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq)]
enum BackEnd {
    /// burn-wgpu on the default adapter, with fusion and autotune
    Wgpu,
    /// burn-flex, the pure Rust CPU back end
    Flex,
}

#[derive(Parser)]
struct Args {
    /// Made by `cargo bench --bench step -- --write FILE`
    #[arg(long)]
    problem: PathBuf,
    #[arg(long, value_enum, default_value = "flex")]
    device: BackEnd,
    /// Timed steps
    #[arg(long, default_value_t = 10)]
    steps: usize,
}

/// The problem file's tensors.
struct Problem<'a>(SafeTensors<'a>);

impl Problem<'_> {
    fn floats(&self, name: &str) -> Result<(Vec<f32>, Vec<usize>)> {
        let view = self.0.tensor(name).with_context(|| format!("the problem has no tensor {name}"))?;
        let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        Ok((values.collect(), view.shape().to_vec()))
    }

    fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Result<Tensor<D>> {
        let (values, shape) = self.floats(name)?;
        Ok(Tensor::from_data(TensorData::new(values, shape), device))
    }

    /// Pictures as burn wants them, (batch, 3, height, width), times fl32(1/255).
    fn pictures(&self, device: &Device) -> Result<Tensor<4>> {
        let view = self.0.tensor("pictures").context("the problem has no pictures")?;
        let values: Vec<f32> = view.data().iter().map(|&v| f32::from(v) * (1.0 / 255.0)).collect();
        let nhwc = Tensor::<4>::from_data(TensorData::new(values, view.shape().to_vec()), device);
        Ok(nhwc.permute([0, 3, 1, 2]))
    }

    fn labels(&self, device: &Device) -> Result<Tensor<1, Int>> {
        let (values, shape) = self.floats("labels")?;
        let values: Vec<i32> = values.iter().map(|&v| v as i32).collect();
        Ok(Tensor::from_data(TensorData::new(values, shape), device))
    }
}

#[derive(Module, Debug)]
struct Network {
    conv: Vec<Conv2d>,
    pool: MaxPool2d,
    dense: Linear,
    dropout: Dropout,
    output: Linear,
}

impl Network {
    fn load(problem: &Problem, dropout: f64, device: &Device) -> Result<Self> {
        let conv = (1..=3)
            .map(|i| {
                // HWIO to OIHW.
                let kernel = problem.tensor::<4>(&format!("conv2d_{i}/kernel"), device)?.permute([3, 2, 0, 1]);
                let [outputs, inputs, height, width] = kernel.dims();
                let mut conv = Conv2dConfig::new([inputs, outputs], [height, width]).init(device);
                conv.weight = leaf(kernel);
                conv.bias = Some(leaf(problem.tensor(&format!("conv2d_{i}/bias"), device)?));
                Ok(conv)
            })
            .collect::<Result<Vec<_>>>()?;
        let last = conv.last().map_or(0, |c| c.weight.dims()[0]);
        let linear = |name: &str, channels: usize| -> Result<Linear> {
            let kernel = problem.tensor::<2>(&format!("{name}/kernel"), device)?;
            let [inputs, outputs] = kernel.dims();
            // Keras flattens (row, column, channel), burn (channel, row, column).
            let kernel = match channels {
                0 => kernel,
                c => kernel.reshape([inputs / c, c, outputs]).permute([1, 0, 2]).reshape([inputs, outputs]),
            };
            let mut linear = LinearConfig::new(inputs, outputs).init(device);
            linear.weight = leaf(kernel);
            linear.bias = Some(leaf(problem.tensor(&format!("{name}/bias"), device)?));
            Ok(linear)
        };
        Ok(Self {
            pool: MaxPool2dConfig::new([2, 2]).init(),
            dense: linear("dense_1", last)?,
            dropout: DropoutConfig::new(dropout).init(),
            output: linear("output", 0)?,
            conv,
        })
    }

    fn logits(&self, pictures: Tensor<4>) -> Tensor<1> {
        let x = self.conv.iter().fold(pictures, |x, conv| self.pool.forward(relu(conv.forward(x))));
        let x = relu(self.dense.forward(x.flatten::<2>(1, 3)));
        self.output.forward(self.dropout.forward(x)).flatten::<1>(0, 1)
    }
}

/// A parameter of its own, without the reshaping it came from.
fn leaf<const D: usize>(tensor: Tensor<D>) -> Param<Tensor<D>> {
    let device = tensor.device();
    Param::from_tensor(Tensor::from_data(tensor.into_data(), &device))
}

struct Training {
    network: Network,
    optimizer: ModuleOptimizer,
    loss: BinaryCrossEntropyLoss,
    pictures: Tensor<4>,
    labels: Tensor<1, Int>,
}

impl Training {
    fn new(problem: &Problem, dropout: f64, epsilon: f32, device: &Device) -> Result<Self> {
        Ok(Self {
            network: Network::load(problem, dropout, device)?,
            optimizer: AdamConfig::new().with_epsilon(epsilon).init(),
            loss: BinaryCrossEntropyLossConfig::new().with_logits(true).init(device),
            pictures: problem.pictures(device)?,
            labels: problem.labels(device)?,
        })
    }

    /// One step; the loss stays on the device.
    fn step(&mut self) -> Tensor<1> {
        let logits = self.network.logits(self.pictures.clone());
        let loss = self.loss.forward(logits, self.labels.clone());
        let gradients = GradientsParams::from_grads(loss.backward(), &self.network);
        self.network = self.optimizer.step(LEARNING_RATE, self.network.clone(), gradients);
        loss
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let bytes = std::fs::read(&args.problem).with_context(|| format!("{}", args.problem.display()))?;
    let problem = Problem(SafeTensors::deserialize(&bytes).with_context(|| format!("{}", args.problem.display()))?);
    let device = match args.device {
        BackEnd::Wgpu => Device::wgpu(DeviceKind::DefaultDevice),
        BackEnd::Flex => Device::flex(),
    };
    let device = device.autodiff();
    let wait = || device.sync().map_err(|e| anyhow::anyhow!("{e:?}"));

    let start = Instant::now();
    // burn adds epsilon after the bias correction, Keras before it: this epsilon makes the first steps equal.
    let mut check = Training::new(&problem, 0.0, EPSILON / (1.0f32 - 0.999).sqrt(), &device)?;
    let losses = [check.step().into_scalar::<f32>(), check.step().into_scalar::<f32>()];
    wait()?;
    let first = start.elapsed().as_secs_f64();
    let (expected, _) = problem.floats("losses")?;
    for (i, ((found, wanted), tolerance)) in losses.iter().zip(&expected).zip(TOLERANCE).enumerate() {
        let off = (found - wanted).abs() / wanted.abs();
        ensure!(off <= tolerance, "the loss of step {i} is {found}, {wanted} expected: not the same step");
    }
    drop(check);

    let mut training = Training::new(&problem, 0.5, EPSILON, &device)?;
    let batch = training.labels.dims()[0];
    for _ in 0..2 {
        training.step();
        wait()?;
    }
    let mut times = Vec::new();
    for _ in 0..args.steps {
        let start = Instant::now();
        std::hint::black_box(training.step().into_scalar::<f32>());
        wait()?;
        times.push(1e3 * start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let json = serde_json::json!({
        "device": format!("burn 0.22.1, {:?}", args.device).to_lowercase(),
        "batch": batch,
        "steps": args.steps,
        "losses": losses,
        "expected_losses": expected,
        "first_step_s": first,
        "train_step": {"median_ms": times[times.len() / 2], "min_ms": times[0], "max_ms": times[times.len() - 1]},
    });
    println!("{json}");
    Ok(())
}
