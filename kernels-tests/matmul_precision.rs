//! Products that are not as precise as can be: their error against f64 for operands that try them, and matrix units against the twin
//! that rounds as they do.

use std::collections::BTreeMap;
use std::path::Path;

use dqo_wgpu::benches::case::{Case, Output, relative_error};
use dqo_wgpu::benches::{
    attention, attention_backward_key_value, attention_backward_query, grouped_linear, grouped_linear_backward_input,
    matmul,
};
use dqo_wgpu::device::{DType, Device, MatmulPrecision, Precision};
use dqo_wgpu::gpu::{DeviceChoice, Gpu, Settings};
use dqo_wgpu::kernels::{Layout, Matmul, Operand, OperandMut, Product};
use dqo_wgpu::model::WeightType;
use dqo_wgpu::self_test::open_device;
use half::f16;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};

use crate::command::{error_of, train as command};
use crate::harness::{adapter, skip_gpu};
use crate::model::golden;
use crate::training::{tensors, train};
use crate::whole_loop::{asset, done, model_in};

/// What a product may be off by, as a part of the norms of its row and its column.
const BOUNDS: [(MatmulPrecision, f64); 2] =
    [(MatmulPrecision::High, 1.0 / (1 << 20) as f64), (MatmulPrecision::Medium, 1.0 / (1 << 10) as f64)];

/// All that matrix units multiply, where they have it.
const ON_UNITS: [MatmulPrecision; 3] = [MatmulPrecision::Highest, MatmulPrecision::High, MatmulPrecision::Medium];

/// The CPU device in both of its precisions, with products so precise.
fn twins(precision: MatmulPrecision) -> [Device; 2] {
    [Precision::F32, Precision::F64].map(|of| Device::cpu(of).with_matmul_precision(precision).unwrap())
}

/// The adapter with its matrix units, where it has them and they multiply what products so precise are made of. Mesa's CPU adapter
/// multiplies matrices of f32 too, and does not say so.
fn units(precision: MatmulPrecision) -> Option<Device> {
    if skip_gpu() {
        return None;
    }
    let adapter = adapter();
    let mut settings = Settings::with_matrices(&adapter);
    let units = settings.traits.matrices.as_mut()?;
    units.takes_f32 |= settings.traits.software;
    if precision == MatmulPrecision::Highest && !units.takes_f32 {
        return None;
    }
    Some(Device::gpu(Gpu::open_with(&adapter, settings).unwrap()).with_matmul_precision(precision).unwrap())
}

/// Values that a line of an operand has.
#[derive(Clone, Copy)]
enum Line {
    Random,
    /// Twelve orders of magnitude apart.
    Apart,
    /// Beyond what an f16 holds.
    Large,
    Small,
    /// Below the normal values of f32.
    Subnormal,
    /// As far from an f16 as can be.
    Between,
    /// As the last, with signs in turns: with another such line sums cancel out.
    Signs,
    Zero,
}

const LINES: [Line; 8] =
    [Line::Random, Line::Apart, Line::Large, Line::Small, Line::Subnormal, Line::Between, Line::Signs, Line::Zero];

impl Line {
    fn value(self, k: usize, rng: &mut ChaCha8Rng) -> f64 {
        let random: f64 = rng.random_range(-1.0..1.0);
        let between = 1.0 + f64::from(f32::EPSILON) * f64::from(1 << 12);
        let value = match self {
            Line::Random => random,
            Line::Apart => random * 10f64.powf(rng.random_range(-6.0..6.0)),
            Line::Large => random * 10f64.powf(rng.random_range(4.8..17.0)),
            Line::Small => random * 1e-17,
            Line::Subnormal => random * 1e-39,
            Line::Between => between,
            Line::Signs => {
                if k.is_multiple_of(2) {
                    between
                } else {
                    -between
                }
            }
            Line::Zero => 0.0,
        };
        f64::from(value as f32)
    }
}

/// Lines of `inner` values, of all kinds in turns.
fn operand(lines: usize, inner: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
    (0..lines * inner).map(|place| LINES[place / inner % LINES.len()].value(place % inner, rng)).collect()
}

fn transposed(values: &[f64], inner: usize) -> Vec<f64> {
    let lines = values.len() / inner;
    (0..values.len()).map(|place| values[place % lines * inner + place / lines]).collect()
}

fn norm(line: &[f64]) -> f64 {
    line.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// The largest error of a product on a device in each layout, as a part of the norms. What is below the normal values of f32 may be
/// off by as much, and GPUs may read such operands as zeros.
fn error(device: &Device, [rows, cols, inner]: [usize; 3]) -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(inner as u64);
    let (a, b) = (operand(rows, inner, &mut rng), operand(cols, inner, &mut rng));
    let mut largest = 0f64;
    for layout in [Layout::Nt, Layout::Nn, Layout::Tn] {
        let stored = |values: &[f64], is_transposed: bool| {
            if is_transposed { transposed(values, inner) } else { values.to_vec() }
        };
        let tensor = |name, values: Vec<f64>| {
            let mut tensor = device.tensor(name, &[values.len()], DType::Real).unwrap();
            tensor.write(0, values.into_iter()).unwrap();
            tensor
        };
        let a_tensor = tensor("a", stored(&a, layout == Layout::Tn));
        let b_tensor = tensor("b", stored(&b, layout != Layout::Nt));
        let mut c = device.tensor("c", &[rows * cols], DType::Real).unwrap();
        let (a_width, b_width) =
            (if layout == Layout::Tn { rows } else { inner }, if layout == Layout::Nt { inner } else { cols });
        let (a_place, b_place) = (Operand::whole(&a_tensor, a_width), Operand::whole(&b_tensor, b_width));
        let c_place = OperandMut::whole(&mut c, cols);
        let product = Product { layout, rows, cols, inner, a: a_place, b: b_place, c: c_place, accumulate: false };
        Matmul::run(device, product);
        for (place, found) in c.read(rows * cols).unwrap().into_iter().enumerate() {
            let (a, b) = (&a[place / cols * inner..][..inner], &b[place % cols * inner..][..inner]);
            let exact: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
            let is_subnormal = |x: &f64| (*x as f32).is_subnormal();
            let may_be_zero = |(a, b): &(&f64, &f64)| device.as_gpu().is_some() && (is_subnormal(a) || is_subnormal(b));
            let lost: f64 = a.iter().zip(b).filter(may_be_zero).map(|(a, b)| (a * b).abs()).sum();
            let error = ((found - exact).abs() - lost - f64::from(f32::MIN_POSITIVE)).max(0.0);
            assert!(found.is_finite(), "{layout:?} {place}: {found} in place of {exact}");
            if error > 0.0 {
                largest = largest.max(error / (norm(a) * norm(b)));
            }
        }
    }
    largest
}

/// More than one tile, and no whole number of tiles.
const SHAPES: [[usize; 3]; 3] = [[200, 132, 520], [136, 264, 2052], [132, 36, 4]];

#[test]
fn the_twins_errors_keep_their_bounds() {
    for (precision, bound) in BOUNDS {
        for device in twins(precision) {
            for shape in SHAPES {
                let error = error(&device, shape);
                assert!(error <= bound, "{precision:?} {shape:?}: {:.2} of the bound", error / bound);
                // It is this precision that was used.
                assert!(error > bound / 100.0 || shape[2] == 4, "{precision:?} {shape:?}: {error:.1e}");
            }
        }
    }
}

#[test]
fn matrix_units_keep_the_bounds() {
    for (precision, bound) in BOUNDS {
        let Some(device) = units(precision) else { return };
        for shape in SHAPES {
            let error = error(&device, shape);
            assert!(error <= bound, "{precision:?} {shape:?}: {:.2} of the bound", error / bound);
        }
    }
}

/// Sums are of one term after another in both.
#[test]
fn matrices_of_f32_are_as_precise_as_tiles() {
    let Some(device) = units(MatmulPrecision::Highest) else { return };
    let tiles = Device::gpu(Gpu::open(&adapter()).unwrap());
    for shape in SHAPES {
        let (error, of_tiles) = (error(&device, shape), error(&tiles, shape));
        assert!(error <= 2.0 * of_tiles, "{shape:?}: {error:.1e}, in tiles {of_tiles:.1e}");
    }
}

/// Cases that an adapter that is a CPU computes, which compiles each text for long: every type of matrix, and every kernel.
const ON_CPUS: [(MatmulPrecision, &str, DType); 10] = [
    (MatmulPrecision::Highest, "grouped_linear", DType::Bf16),
    (MatmulPrecision::Highest, "grouped_linear_backward_input", DType::Q4),
    (MatmulPrecision::High, "matmul", DType::Q8),
    (MatmulPrecision::High, "grouped_linear", DType::Real),
    (MatmulPrecision::High, "grouped_linear", DType::Q40),
    (MatmulPrecision::High, "grouped_linear_backward_input", DType::Q6K),
    (MatmulPrecision::Medium, "matmul", DType::Q4),
    (MatmulPrecision::Medium, "grouped_linear", DType::Q4K),
    (MatmulPrecision::Medium, "grouped_linear_backward_input", DType::Real),
    (MatmulPrecision::Medium, "grouped_linear_backward_input", DType::Bf16),
];

/// Sums of f32 in another order: as for the products in f32.
#[test]
fn matrix_units_compute_as_their_twin() {
    for precision in ON_UNITS {
        let Some(device) = units(precision) else { continue };
        let [_, reference] = twins(precision);
        let tests = [matmul::tests, grouped_linear::tests, grouped_linear_backward_input::tests];
        let cases: Vec<Case> = tests.into_iter().flat_map(|tests| tests()).collect();
        if device.is_real_gpu() {
            cases.iter().for_each(|case| compare(case, &device, &reference, precision));
            continue;
        }
        for (_, kernel, dtype) in ON_CPUS.into_iter().filter(|(of, ..)| *of == precision) {
            let stored = format!("{dtype:?}");
            let is_large = |shape: &str| ["130 x", "152 x"].iter().any(|rows| shape.contains(rows));
            let is_it = |case: &&Case| {
                case.kernel == kernel && is_large(&case.shape) && case.shape.split(", ").any(|part| part == stored)
            };
            let case = cases.iter().find(is_it).unwrap_or_else(|| panic!("{kernel} of {dtype:?}"));
            compare(case, &device, &reference, precision);
        }
    }
}

fn compare(case: &Case, device: &Device, reference: &Device, precision: MatmulPrecision) {
    let expected = case.outputs(reference).unwrap();
    for (output, expected) in case.outputs(device).unwrap().iter().zip(&expected) {
        let error = relative_error(&output.values, &expected.values);
        let Case { kernel, shape, tolerance, .. } = case;
        assert!(error <= *tolerance, "{kernel} {shape}, {precision:?}: {} is off by {error:.2e}", output.name);
    }
}

/// What a user is told of the device, and no more is tried than it has.
#[test]
fn a_device_says_how_it_computes() {
    let describe = |choice, precision| open_device(choice, Precision::F32, precision).unwrap().description();
    assert!(describe(&DeviceChoice::Cpu, MatmulPrecision::High).ends_with(", large products high"));
    if skip_gpu() {
        return;
    }
    let [highest, medium] =
        [MatmulPrecision::Highest, MatmulPrecision::Medium].map(|precision| describe(&DeviceChoice::Gpu, precision));
    let units = units(MatmulPrecision::Medium).map(|device| device.as_gpu().map(|gpu| gpu.traits().matrices));
    let expected = match units.flatten().flatten() {
        Some(units) => format!("{highest}, large products medium on {units}"),
        None => format!("{highest}, products in f32: it has no matrix units that pass the tests"),
    };
    assert_eq!(medium, expected);
}

/// What attention's results may be off by, in [`BOUNDS`], at their worst element: scores, and through them probabilities, are of rounded
/// operands, and so are the probabilities and what they weigh.
const OF_ATTENTION: f64 = 8.0;

/// The cases of attention's kernels that are large enough to be rounded.
fn attention_cases() -> Vec<Case> {
    let tests = [attention::tests, attention_backward_query::tests, attention_backward_key_value::tests];
    let is_large = |case: &Case| {
        ["[130], 3/1 heads of 64", "[133], 2/1 heads of 128", "[7, 170], 2/1 heads of 32"]
            .iter()
            .any(|of| case.shape.contains(of))
    };
    let cases: Vec<Case> = tests.into_iter().flat_map(|tests| tests()).filter(is_large).collect();
    assert_eq!(cases.len(), 9);
    cases
}

/// Beside what f32 itself is off by, in the twin of that precision.
#[test]
fn attentions_twins_keep_the_bounds() {
    let exact = Device::cpu(Precision::F64);
    for case in attention_cases() {
        let expected = case.outputs(&exact).unwrap();
        let errors = |device: &Device| {
            let outputs = case.outputs(device).unwrap();
            let of = |(output, expected): (&Output, &Output)| relative_error(&output.values, &expected.values);
            outputs.iter().zip(&expected).map(of).collect::<Vec<_>>()
        };
        let own = [Precision::F32, Precision::F64].map(|of| errors(&Device::cpu(of)));
        for (precision, bound) in BOUNDS {
            for (device, own) in twins(precision).iter().zip(&own) {
                let errors = errors(device);
                let Case { kernel, shape, .. } = &case;
                let keeps = |(error, own): (&f64, &f64)| *error <= 2.0 * own + OF_ATTENTION * bound;
                assert!(errors.iter().zip(own).all(keeps), "{kernel} {shape}, {precision:?}: {errors:?} and {own:?}");
                assert!(errors.iter().any(|error| *error > bound / 100.0), "{kernel} {shape}: nothing was rounded");
            }
        }
    }
}

/// As the products; but where a score is off by its own rounding, a probability is rounded to another f16, which is in `medium` 2^-11
/// of it from the first, and it may be some times what is usual.
#[test]
fn attention_on_matrix_units_computes_as_its_twin() {
    for (precision, bound) in BOUNDS {
        let Some(device) = units(precision) else { return };
        let [_, reference] = twins(precision);
        for case in attention_cases() {
            let expected = case.outputs(&reference).unwrap();
            for (output, expected) in case.outputs(&device).unwrap().iter().zip(&expected) {
                let error = relative_error(&output.values, &expected.values);
                let Case { kernel, shape, .. } = &case;
                assert!(
                    error <= (OF_ATTENTION / 2.0 * bound).max(1e-5),
                    "{kernel} {shape}, {precision:?}: {} is off by {error:.2e}",
                    output.name
                );
            }
        }
    }
}

/// What is no number in an operand is none in the sums that it goes into, and in no others.
#[test]
fn no_number_stays_none() {
    for precision in ON_UNITS {
        for device in twins(precision).into_iter().chain(units(precision)) {
            let (size, bad_row) = (160, 5);
            let mut a = device.tensor("a", &[size * size], DType::Real).unwrap();
            let b = {
                let mut b = device.tensor("b", &[size * size], DType::Real).unwrap();
                b.write(0, (0..size * size).map(|i| (i % 7) as f64)).unwrap();
                b
            };
            for bad in [f64::NAN, f64::INFINITY] {
                a.write(0, (0..size * size).map(|i| if i == bad_row * size + 3 { bad } else { 1.0 })).unwrap();
                let mut c = device.tensor("c", &[size * size], DType::Real).unwrap();
                let [a, b] = [&a, &b].map(|tensor| Operand::whole(tensor, size));
                let product = Product {
                    layout: Layout::Nt,
                    rows: size,
                    cols: size,
                    inner: size,
                    a,
                    b,
                    c: OperandMut::whole(&mut c, size),
                    accumulate: false,
                };
                Matmul::run(&device, product);
                for (place, found) in c.read(size * size).unwrap().into_iter().enumerate() {
                    assert_eq!(found.is_finite(), place / size != bad_row, "{bad} {place}: {found}");
                }
            }
        }
    }
}

/// By name, what a step of SGD over rows so long has changed every weight of a model by, as a gradient.
fn gradients(
    device: &Device,
    dtype: WeightType,
    model: &Path,
    lengths: [usize; 3],
    dir: &Path,
) -> BTreeMap<String, Vec<f64>> {
    // So large a rate leaves nothing of the weights' own rounding.
    const RATE: f64 = 1e14;
    let vocab = 19;
    let ids = |count: usize, pitch: usize| (0..count).map(|i| i * pitch % vocab).collect::<Vec<_>>();
    let row = |length: usize| json!({"prompt_ids": ids(9, 7), "completion_ids": ids(length - 9, 11), "reward": 1.0});
    let (rows, output) = (dir.join("rows.jsonl"), dir.join("run"));
    std::fs::write(&rows, lengths.map(|length| row(length).to_string()).join("\n")).unwrap();
    let config = json!({
        "method": "sft", "model": model, "data": rows, "output_dir": output, "save_steps": 0, "max_steps": 1,
        "optimizer": "sgd", "learning_rate": RATE, "max_grad_norm": 0.0, "dtype": dtype, "save_dtype": dtype,
    });
    train(config, device);
    let file = "model.safetensors";
    let (before, after) = (tensors(&model.join(file)), tensors(&output.join("final/policy").join(file)));
    std::fs::remove_dir_all(&output).unwrap();
    let gradient = |(name, before): (String, Vec<f64>)| {
        let change = before.iter().zip(&after[&name]).map(|(before, after)| (before - after) / RATE);
        (name.clone(), change.collect())
    };
    before.into_iter().map(gradient).collect()
}

/// How far each weight's gradient is from another's, relatively.
fn off(found: &BTreeMap<String, Vec<f64>>, expected: &BTreeMap<String, Vec<f64>>) -> BTreeMap<String, f64> {
    let of = |(name, expected): (&String, &Vec<f64>)| {
        let difference: Vec<f64> = expected.iter().zip(&found[name]).map(|(a, b)| a - b).collect();
        (name.clone(), norm(&difference) / norm(expected))
    };
    expected.iter().map(of).collect()
}

#[test]
fn gradients_are_as_far_from_f64_as_the_precision_says() {
    check_gradients(&asset("model"), [100, 110, 120]);
}

/// Of the demo's model with heads of 32 values in place of 16, over rows that are long enough for attention's products to be rounded.
#[test]
fn gradients_through_attention_are_as_far_from_f64() {
    let dir = tempfile::tempdir().unwrap();
    let model = model_in(dir.path());
    let path = model.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (name, value) in
        [("head_dim", 32), ("num_attention_heads", 2), ("num_key_value_heads", 1), ("max_position_embeddings", 256)]
    {
        config[name] = value.into();
    }
    std::fs::write(&path, config.to_string()).unwrap();
    check_gradients(&model, [140, 150, 170]);
}

/// Of the demo's model with what goes into an MLP's last layer 2^18 times as large, and that layer's weights as much smaller: activations
/// are beyond 1e4 and their gradients about 1e-8, which an f16 does not hold, and no loss is scaled.
#[test]
fn gradients_need_no_scaled_loss() {
    const FACTOR: f64 = (1 << 18) as f64;
    let dir = tempfile::tempdir().unwrap();
    let model = model_in(dir.path());
    let path = model.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let values = tensors(&path);
    let scaled = |(name, view): (String, TensorView)| {
        let factor = match &name {
            name if name.contains("up_proj") => FACTOR,
            name if name.contains("down_proj") => 1.0 / FACTOR,
            _ => 1.0,
        };
        let data: Vec<u8> = values[&name].iter().flat_map(|value| ((value * factor) as f32).to_le_bytes()).collect();
        (name, view.shape().to_vec(), data)
    };
    let scaled: Vec<_> = file.tensors().into_iter().map(scaled).collect();
    let views =
        scaled.iter().map(|(name, shape, data)| (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
    safetensors::serialize_to_file(views, None, &path).unwrap();

    let exact = check_gradients(&model, [100, 110, 120]);
    let median = |values: &BTreeMap<String, Vec<f64>>, part: &str| {
        let of_part = values.iter().filter(|(name, _)| name.contains(part)).flat_map(|(_, values)| values);
        let mut magnitudes: Vec<f64> = of_part.map(|value| value.abs()).collect();
        magnitudes.sort_by(f64::total_cmp);
        magnitudes[magnitudes.len() / 2]
    };
    // Inputs are normalised: an activation is larger than a weight. A weight's gradient is a sum over tokens, and larger than theirs.
    assert!(median(&tensors(&path), "up_proj") > 1e4);
    assert!(median(&exact, "up_proj") < f16::MIN_POSITIVE_SUBNORMAL.to_f64());
}

/// Of a step of a model, on the twin that rounds as matrix units do and on these where there are any; the exact ones.
fn check_gradients(model: &Path, lengths: [usize; 3]) -> BTreeMap<String, Vec<f64>> {
    use MatmulPrecision::{High, Highest, Medium};
    let dir = tempfile::tempdir().unwrap();
    let exact = gradients(&Device::cpu(Precision::F64), WeightType::F64, model, lengths, dir.path());
    let of = |device: &Device| off(&gradients(device, WeightType::F32, model, lengths, dir.path()), &exact);
    let twin = |precision| of(&Device::cpu(Precision::F32).with_matmul_precision(precision).unwrap());
    let [highest, high, medium] = [Highest, High, Medium].map(twin);
    let on_gpu = |precision| units(precision).filter(Device::is_real_gpu).map(|device| of(&device));
    let on_units = [High, Medium].map(on_gpu);
    println!("{:50} {:>8} {:>8} {:>8}", "", "highest", "high", "medium");
    for name in exact.keys() {
        println!("{name:50} {:8.1e} {:8.1e} {:8.1e}", highest[name], high[name], medium[name]);
        for high in [Some(&high), on_units[0].as_ref()].into_iter().flatten() {
            assert!(high[name] <= 2.0 * highest[name], "{name}: {:.1e} and {:.1e}", high[name], highest[name]);
        }
        for medium in [Some(&medium), on_units[1].as_ref()].into_iter().flatten() {
            assert!(medium[name] <= 1e-2, "{name}: {:.1e}", medium[name]);
        }
    }
    assert!(medium.values().any(|off| *off > 1e-5), "nothing was rounded");
    exact
}

/// The option is written down, shown, and kept by `--resume`.
#[test]
fn a_run_keeps_its_precision() {
    let dir = tempfile::tempdir().unwrap();
    let run = |output: &str, precision: &str, more: &[&str]| {
        let mut command = command("dqo/llama", &golden("dqo/llama/rows.jsonl"), &dir.path().join(output));
        command.args(["--matmul-precision", precision, "--learning-rate", "1e-3"]).args(more);
        command
    };
    for output in ["one", "again"] {
        done(&mut run(output, "medium", &["--max-steps", "3"]));
    }
    let weights = |output: &str| std::fs::read(dir.path().join(output).join("final/policy/model.safetensors")).unwrap();
    assert!(weights("one") == weights("again"));
    let settings = std::fs::read_to_string(dir.path().join("one/config.toml")).unwrap();
    assert!(settings.contains("matmul_precision = \"medium\""), "{settings}");
    let error = error_of(&mut run("one", "high", &["--max-steps", "6", "--resume"]));
    assert!(error.starts_with("--resume: --matmul-precision is "), "{error}");
    done(&mut run("one", "medium", &["--max-steps", "6", "--resume"]));
}
