//! How a device is opened: one that multiplies matrices wrongly is refused before it trains anything.

use anyhow::{Result, bail, ensure};

use crate::device::{DType, Device, Precision};
use crate::gpu::{AdapterList, DeviceChoice, Gpu};
use crate::kernels::{MatmulNn, MatmulNt, MatmulTn, Operand, OperandMut};

/// Opens the chosen device and tests it. `precision` `F64` needs the CPU device.
///
/// # Errors
/// Where no adapter matches, the adapter is too small, or it computes wrongly.
pub fn open_device(choice: &DeviceChoice, precision: Precision) -> Result<Device> {
    if precision == Precision::F64 {
        return match choice {
            DeviceChoice::Auto | DeviceChoice::Cpu => Ok(Device::cpu(precision)),
            _ => bail!("--dtype f64 runs on the CPU device only; use --device cpu"),
        };
    }
    if *choice == DeviceChoice::Cpu {
        return Ok(Device::cpu(precision));
    }
    let adapters = AdapterList::find();
    match adapters.choose(choice)? {
        Some(adapter) => {
            let device = Device::gpu(Gpu::open(adapter)?);
            self_test(&device)?;
            Ok(device)
        }
        None => Ok(Device::cpu(precision)),
    }
}

/// Rows, columns and inner dimension: no multiple of any tile, more than one tile each way.
const SHAPE: [usize; 3] = [76, 132, 36];

/// Small whole numbers, whose products and sums are exact in f32 in any order.
fn whole_number(index: usize) -> f64 {
    ((index * 7 + index / 13) % 9) as f64 - 4.0
}

/// Runs the matrix products on an odd shape and compares them with exact results.
///
/// # Errors
/// Names the device and the product that is wrong.
pub fn self_test(device: &Device) -> Result<()> {
    let [rows, cols, inner] = SHAPE;
    let mut a = device.tensor("self-test/a", &[rows * inner], DType::Real)?;
    let mut b = device.tensor("self-test/b", &[inner * cols], DType::Real)?;
    let mut c = device.tensor("self-test/c", &[rows * cols], DType::Real)?;
    a.write(0, (0..rows * inner).map(whole_number))?;
    b.write(0, (0..inner * cols).map(|index| whole_number(index + 3)))?;

    // Element (i, k) of a and (k, j) of b, in each layout.
    type At = fn(usize, usize) -> usize;
    let layouts: [(&str, At, At); 3] = [
        ("matmul_nt", |i, k| i * SHAPE[2] + k, |k, j| j * SHAPE[2] + k),
        ("matmul_nn", |i, k| i * SHAPE[2] + k, |k, j| k * SHAPE[1] + j),
        ("matmul_tn", |i, k| k * SHAPE[0] + i, |k, j| k * SHAPE[1] + j),
    ];
    for (name, a_at, b_at) in layouts {
        let out = OperandMut::whole(&mut c, cols);
        match name {
            "matmul_nt" => {
                MatmulNt::run(device, out, Operand::whole(&a, inner), Operand::whole(&b, inner), SHAPE, false)
            }
            "matmul_nn" => {
                MatmulNn::run(device, out, Operand::whole(&a, inner), Operand::whole(&b, cols), SHAPE, false)
            }
            _ => MatmulTn::run(device, out, Operand::whole(&a, rows), Operand::whole(&b, cols), SHAPE, false),
        }
        for (place, found) in c.read(rows * cols)?.into_iter().enumerate() {
            let (i, j) = (place / cols, place % cols);
            let exact: f64 = (0..inner).map(|k| whole_number(a_at(i, k)) * whole_number(b_at(k, j) + 3)).sum();
            ensure!(
                found == exact,
                "{} computes wrongly: {name} gives {found} in place of {exact} at ({i}, {j}); \
                 update its driver, or use another --device",
                device.description()
            );
        }
    }
    Ok(())
}
