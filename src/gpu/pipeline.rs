//! Compute pipelines, made once for each kernel variant and set of constants.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::{Result, anyhow};
use wgpu::ShaderRuntimeChecks;

use super::launch::{Launch, Signature, Variant};

/// What tells two pipelines apart: the variant's text (its address: texts are static) and its constants.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    variant: *const Variant,
    constants: Vec<(&'static str, u64)>,
}

// SAFETY: the pointer is an identity, taken from a `&'static Variant`; it is never read through.
unsafe impl Send for Key {}

/// All pipelines of a device, and the bind groups made for them.
pub struct Pipelines {
    known: HashMap<Key, Pipeline>,
    built: Vec<BuiltPipeline>,
    checks: bool,
}

/// What a pipeline was built from, and how long that took.
#[derive(Clone, Debug)]
pub struct BuiltPipeline {
    /// The kernel, and in brackets its variant.
    pub label: String,
    pub variant: &'static Variant,
    /// Values of the `override` constants.
    pub constants: Vec<(&'static str, f64)>,
    /// What the shader checks while it runs.
    pub checks: ShaderRuntimeChecks,
    /// Of wgpu and of the driver, whose own cache may have had it.
    pub seconds: f64,
}

/// A compiled kernel and the bind groups it was used with.
pub struct Pipeline {
    pub compute: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
    bind_groups: HashMap<Vec<wgpu::Buffer>, wgpu::BindGroup>,
}

impl Pipelines {
    /// None yet. With `checks` every shader checks its bounds, its loops and its divisors.
    pub fn new(checks: bool) -> Self {
        Self { known: HashMap::new(), built: Vec::new(), checks }
    }

    /// The pipeline of a launch, compiled where it is new.
    ///
    /// # Errors
    /// Names the kernel and its variant, with the compiler's message.
    pub fn get(&mut self, device: &wgpu::Device, signature: &Signature, launch: &Launch) -> Result<&mut Pipeline> {
        let constants: Vec<_> = launch.constants.iter().map(|&(name, value)| (name, value.to_bits())).collect();
        let key = Key { variant: launch.variant, constants };
        Ok(match self.known.entry(key) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => {
                let checks = match self.checks {
                    true => ShaderRuntimeChecks::checked(),
                    false => ShaderRuntimeChecks {
                        bounds_checks: signature.is_indexed_by_data(),
                        ..ShaderRuntimeChecks::unchecked()
                    },
                };
                let label = launch.variant.label(signature);
                let start = Instant::now();
                let pipeline = compile(device, &label, launch, checks)?;
                let (variant, constants) = (launch.variant, launch.constants.clone());
                let seconds = start.elapsed().as_secs_f64();
                self.built.push(BuiltPipeline { label, variant, constants, checks, seconds });
                new.insert(pipeline)
            }
        })
    }

    /// What was built, oldest first.
    pub fn built(&self) -> &[BuiltPipeline] {
        &self.built
    }

    /// Drops the bind groups that hold `buffer`, so that it can be freed.
    pub fn forget(&mut self, buffer: &wgpu::Buffer) {
        for pipeline in self.known.values_mut() {
            pipeline.bind_groups.retain(|buffers, _| !buffers.contains(buffer));
        }
    }
}

impl Pipeline {
    /// The bind group of these buffers, in binding order.
    ///
    /// # Errors
    /// Where wgpu refuses them; the caller names kernel and tensors.
    pub fn bind_group(&mut self, device: &wgpu::Device, buffers: Vec<wgpu::Buffer>) -> Result<&wgpu::BindGroup> {
        Ok(match self.bind_groups.entry(buffers) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => {
                let entries: Vec<_> = (0..)
                    .zip(new.key())
                    .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
                    .collect();
                let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
                let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &self.layout, entries: &entries };
                let group = device.create_bind_group(&descriptor);
                match pollster::block_on(scope.pop()) {
                    Some(error) => return Err(anyhow!("{error}")),
                    None => new.insert(group),
                }
            }
        })
    }
}

fn compile(device: &wgpu::Device, label: &str, launch: &Launch, checks: ShaderRuntimeChecks) -> Result<Pipeline> {
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(label),
        source: wgpu::ShaderSource::Wgsl(launch.variant.text().into()),
    };
    let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
    // SAFETY: an index that a shader computes from sizes is below the tensor's length: the call checks that before it is
    // recorded. An index that is read from a tensor is bounded by `min` or checked by the shader (kernels-tests follow such
    // values through every shader and find one that is neither). No loop is without an end and no divisor is zero; the
    // tests run every shader with all checks on.
    let module = unsafe { device.create_shader_module_trusted(descriptor, checks) };
    let compute = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(label),
        layout: None,
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions {
            constants: &launch.constants,
            zero_initialize_workgroup_memory: false,
        },
        cache: None,
    });
    if let Some(error) = pollster::block_on(scope.pop()) {
        // wgpu says it in a paragraph.
        let error: Vec<_> = error.to_string().split_whitespace().map(str::to_owned).collect();
        return Err(anyhow!("kernel {label} does not compile on this adapter: {}", error.join(" ")));
    }
    let layout = compute.get_bind_group_layout(0);
    Ok(Pipeline { compute, layout, bind_groups: HashMap::new() })
}
