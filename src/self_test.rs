//! How a device is opened: one that multiplies matrices wrongly is refused before it trains anything, and how fast it is
//! is measured.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::device::{DType, Device, MatmulPrecision, Precision, Tensor, word};
use crate::gpu::{AdapterList, DeviceChoice, Gpu, Rates, Settings};
use crate::kernels::{
    Attention, Heads, Layout, Matmul, Operand, OperandMut, Product, Projections, Scale, Sequences, SplitRoom,
};

/// Opens the chosen device, tests it and measures its [rates](Rates). `precision` `F64` needs the CPU device. With `DQO_SHADER_CHECKS=1` in the
/// environment every shader checks its bounds, its loops and its divisors (see [`Settings`]). Large products are as precise as
/// `products` says; in f32 where a GPU has no matrix units, or such that compute wrongly.
///
/// # Errors
/// Where no adapter matches, the adapter is too small, or it computes wrongly.
pub fn open_device(choice: &DeviceChoice, precision: Precision, products: MatmulPrecision) -> Result<Device> {
    let adapters = match (precision, choice) {
        (Precision::F64, DeviceChoice::Auto | DeviceChoice::Cpu) | (_, DeviceChoice::Cpu) => None,
        (Precision::F64, _) => bail!("--dtype f64 runs on the CPU device only; use --device cpu"),
        (Precision::F32, _) => Some(AdapterList::find()),
    };
    let adapter = adapters.as_ref().map(|adapters| adapters.choose(choice)).transpose()?.flatten();
    let Some(adapter) = adapter else { return Device::cpu(precision).with_matmul_precision(products) };
    let device = open_tested(adapter, products)?;
    let rates = measure_rates(&device)?;
    Ok(device.with_rates(rates))
}

/// With the first of the adapter's matrix units that compute rightly, where products are for them; else without.
fn open_tested(adapter: &wgpu::Adapter, products: MatmulPrecision) -> Result<Device> {
    let open = |settings| {
        let device = Device::gpu(open_adapter(adapter, settings)?).with_matmul_precision(products)?;
        self_test(&device)?;
        Ok(device)
    };
    let on_units = with_units_for(adapter, products).find_map(|settings| open(settings).ok());
    on_units.map_or_else(|| open(Settings::of(adapter)), Ok)
}

/// The adapter's settings with each form of its matrix units, if they multiply what products so precise are made of.
fn with_units_for(adapter: &wgpu::Adapter, products: MatmulPrecision) -> impl Iterator<Item = Settings> {
    let takes_f32 = |settings: &Settings| settings.traits.matrices.is_some_and(|units| units.takes_f32);
    Settings::all_with_matrices(adapter)
        .filter(move |settings| products != MatmulPrecision::Highest || takes_f32(settings))
}

/// Opens the chosen adapter to build pipelines alone: it is not tested, and may compute wrongly or not at all.
///
/// # Errors
/// Where no adapter matches, or the adapter is too small.
pub fn open_compiler(choice: &DeviceChoice, products: MatmulPrecision) -> Result<Device> {
    let adapters = AdapterList::find();
    let adapter = adapters.choose(choice)?.with_context(|| {
        format!(
            "--device {choice} is the CPU device here, which compiles nothing; give --device gpu or an adapter's number"
        )
    })?;
    let settings = with_units_for(adapter, products).next().unwrap_or_else(|| Settings::of(adapter));
    Device::compiler(open_adapter(adapter, settings)?).with_matmul_precision(products)
}

fn open_adapter(adapter: &wgpu::Adapter, settings: Settings) -> Result<Gpu> {
    let checks = std::env::var_os("DQO_SHADER_CHECKS").is_some_and(|value| value == "1");
    Gpu::open_with(adapter, Settings { checks, ..settings })
}

/// No multiples of any tile, more than one tile each way; few rows, and as many as matrix units multiply.
const ROWS: [usize; 2] = [76, 140];
const COLS: usize = 132;
const INNER: usize = 36;

/// How often matrix units multiply before they are trusted: of faults of one product in a hundred 99 % are seen. Sums of as many
/// products of whole numbers are exact in f32 still.
const TIMES: u32 = 500;

/// Small whole numbers, whose products and sums are exact in f32 in any order.
fn whole_number(index: usize) -> f64 {
    ((index * 7 + index / 13) % 9) as f64 - 4.0
}

/// Runs the matrix products on odd shapes and compares them with exact results; and attention, where it is less precise, with its
/// twin's.
///
/// # Errors
/// Names the device and what is wrong.
pub fn self_test(device: &Device) -> Result<()> {
    ROWS.into_iter().try_for_each(|rows| test_products(device, rows, 1))?;
    if device.as_gpu().is_some_and(|gpu| gpu.traits().matrices.is_some()) {
        test_products(device, ROWS[1], TIMES)?;
    }
    if device.matmul_precision() == MatmulPrecision::Highest {
        return Ok(());
    }
    test_rounding(device)?;
    let twin = Device::cpu(Precision::F32).with_matmul_precision(device.matmul_precision())?;
    let largest = |values: &[f64]| values.iter().fold(0f64, |largest, value| largest.max(value.abs()));
    let (found, expected) = (attend(device)?, attend(&twin)?);
    // What is left of an f16 is 5e-4 of it.
    let limit = 1e-3 * largest(&expected);
    ensure!(
        found.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() <= limit),
        "{} computes attention wrongly; update its driver, or use --matmul-precision highest",
        device.description()
    );
    Ok(())
}

/// A product of values between two f16s: units whose operands are cut off, and not rounded, lose more than is said of them.
///
/// # Errors
/// Names the device.
fn test_rounding(device: &Device) -> Result<()> {
    const BETWEEN: f64 = 1.0 + 3.0 / 4096.0;
    const LARGEST_ERROR: f64 = 1.0 / 1024.0;
    let (size, mut c) = (ROWS[1], device.tensor("self-test/c", &[ROWS[1] * ROWS[1]], DType::Real)?);
    let mut a = device.tensor("self-test/a", &[size * size], DType::Real)?;
    a.write(0, std::iter::repeat_n(BETWEEN, size * size))?;
    Matmul::run(device, square(size, &a, &mut c));
    let expected = size as f64 * BETWEEN * BETWEEN;
    ensure!(
        c.read(size * size)?.into_iter().all(|found| (found / expected - 1.0).abs() <= LARGEST_ERROR),
        "{} rounds operands wrongly; update its driver, or use --matmul-precision highest",
        device.description()
    );
    Ok(())
}

/// `c = a a^T`, all of `size` x `size`.
fn square<'a>(size: usize, a: &'a Tensor, c: &'a mut Tensor) -> Product<'a> {
    let operand = Operand::whole(a, size);
    Product {
        layout: Layout::Nt,
        rows: size,
        cols: size,
        inner: size,
        a: operand,
        b: operand,
        c: OperandMut::whole(c, size),
        accumulate: false,
    }
}

/// Attention over a sequence that is long enough for matrix units.
fn attend(device: &Device) -> Result<Vec<f64>> {
    const HEADS: Heads = Heads { heads: 2, kv_heads: 1, head_dim: 64 };
    let tokens = ROWS[1];
    let tensor = |name: &str, heads: usize| {
        let count = tokens * heads * HEADS.head_dim;
        let mut tensor = device.tensor(format!("self-test/{name}"), &[count], DType::Real)?;
        tensor.write(0, (0..count).map(|index| whole_number(index + name.len()) / 4.0))?;
        Ok::<_, anyhow::Error>(tensor)
    };
    let (q, k, v, mut o) = (tensor("q", 2)?, tensor("key", 1)?, tensor("value", 1)?, tensor("o", 2)?);
    let mut lse = device.tensor("self-test/lse", &[2 * tokens], DType::Real)?;
    let mut bounds = device.tensor("self-test/bounds", &[2 * tokens], DType::U32)?;
    bounds.write_u32(
        0,
        &(0..2 * tokens).map(|index| if index % 2 == 0 { 0 } else { word(tokens) }).collect::<Vec<_>>(),
    )?;
    let sequences = Sequences { bounds: &bounds, tokens, longest: tokens, window: None };
    let mut projections =
        Projections { q: &q, k: &k, v: &v, scale: HEADS.scale(), precision: MatmulPrecision::Highest };
    let make = |name: &str, words| device.tensor(format!("self-test/{name}"), &[words], DType::U32);
    let mut room = SplitRoom::new(device, HEADS, tokens, false, make)?;
    if let Some(room) = &mut room {
        projections = projections.split(device, HEADS, sequences, &mut room.projections);
    }
    Attention::run(device, HEADS, sequences, projections, &mut o, &mut lse);
    o.read(o.len())
}

/// Each layout's product, so many times added up.
fn test_products(device: &Device, rows: usize, times: u32) -> Result<()> {
    let mut a = device.tensor("self-test/a", &[rows * INNER], DType::Real)?;
    let mut b = device.tensor("self-test/b", &[INNER * COLS], DType::Real)?;
    let mut c = device.tensor("self-test/c", &[rows * COLS], DType::Real)?;
    a.write(0, (0..rows * INNER).map(whole_number))?;
    b.write(0, (0..INNER * COLS).map(|index| whole_number(index + 3)))?;
    for layout in [Layout::Nt, Layout::Nn, Layout::Tn] {
        let (a_width, b_width) = match layout {
            Layout::Nt => (INNER, INNER),
            Layout::Nn => (INNER, COLS),
            Layout::Tn => (rows, COLS),
        };
        for time in 0..times {
            let product = Product {
                layout,
                rows,
                cols: COLS,
                inner: INNER,
                a: Operand::whole(&a, a_width),
                b: Operand::whole(&b, b_width),
                c: OperandMut::whole(&mut c, COLS),
                accumulate: time > 0,
            };
            Matmul::run(device, product);
        }
        for (place, found) in c.read(rows * COLS)?.into_iter().enumerate() {
            let (i, j) = (place / COLS, place % COLS);
            let exact = f64::from(times) * exact(layout, rows, i, j);
            ensure!(
                found == exact,
                "{} computes wrongly: matmul {layout:?} gives {found} in place of {exact} at ({i}, {j}); \
                 update its driver, or use another --device",
                device.description()
            );
        }
    }
    Ok(())
}

/// How fast a device multiplies matrices and goes through memory. What a clock shows of a GPU with other work is good
/// enough: no result depends on it.
///
/// # Errors
/// Where the device fails.
pub fn measure_rates(device: &Device) -> Result<Rates> {
    let small = product_rate(device, 256)?;
    // A size that fills a large GPU takes a slow one too long.
    let flops = if small < Rates::LEAST.flops { small } else { small.max(product_rate(device, 1024)?) };
    const COUNT: usize = 1 << 20;
    let mut x = device.tensor("self-test/x", &[COUNT], DType::Real)?;
    let seconds = seconds_of(device, || device.run(Scale { x: &mut x, count: COUNT as u32, factor: 1.0 }))?;
    Ok(Rates { flops, bytes: (2 * COUNT * device.precision().bytes()) as f64 / seconds }.clamped())
}

/// Operations a second of a product of matrices of `size` x `size` zeros.
fn product_rate(device: &Device, size: usize) -> Result<f64> {
    let a = device.tensor("self-test/a", &[size, size], DType::Real)?;
    let mut c = device.tensor("self-test/c", &[size, size], DType::Real)?;
    let seconds = seconds_of(device, || Matmul::run(device, square(size, &a, &mut c)))?;
    Ok(2.0 * (size as f64).powi(3) / seconds)
}

/// Seconds of one call, by the clock: the best of a few spans of as many calls as hide what a submission costs.
fn seconds_of(device: &Device, mut call: impl FnMut()) -> Result<f64> {
    const SPAN: f64 = 2e-3;
    let mut span = |calls: usize| {
        let start = Instant::now();
        (0..calls).for_each(|_| call());
        device.synchronize()?;
        Ok::<_, anyhow::Error>(start.elapsed().as_secs_f64())
    };
    span(1)?; // compiles and warms up
    let calls = (SPAN / span(1)?).ceil().clamp(1.0, 32.0) as usize;
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        best = best.min(span(calls)?);
    }
    Ok(best / calls as f64)
}

/// The element in row `i` and column `j` of the product of `rows` rows.
fn exact(layout: Layout, rows: usize, i: usize, j: usize) -> f64 {
    let term = |k: usize| {
        let (a_place, b_place) = match layout {
            Layout::Nt => (i * INNER + k, j * INNER + k),
            Layout::Nn => (i * INNER + k, k * COLS + j),
            Layout::Tn => (k * rows + i, k * COLS + j),
        };
        whole_number(a_place) * whole_number(b_place + 3)
    };
    (0..INNER).map(term).sum()
}
