//! Every pipeline that a run launches on an adapter, built and not run: those of all cases, tested or timed.

use anyhow::Result;

use super::Cases;
use crate::device::Device;
use crate::gpu::BuiltPipeline;

/// Makes the calls of these kernels' cases on a device that only builds ([`Device::compiler`]), and hands on every pipeline
/// as it is there.
///
/// # Errors
/// Names the kernel that does not compile.
pub fn build_all<'a>(
    device: &Device,
    kernels: impl IntoIterator<Item = &'a Cases>,
    mut each: impl FnMut(BuiltPipeline),
) -> Result<()> {
    let mut known = 0;
    for kernel in kernels {
        for case in (kernel.tests)().iter().chain(&(kernel.bench)()) {
            case.call(device, &mut case.tensors(device)?);
            device.synchronize()?;
            for built in device.as_gpu().map(|gpu| gpu.built_since(known)).unwrap_or_default() {
                known += 1;
                each(built);
            }
        }
    }
    Ok(())
}
